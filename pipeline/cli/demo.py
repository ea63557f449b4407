"""`marey demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Json, app, command, say


@command(app, "demo", "marey demo", "marey demo --out /tmp/demo --json")
def demo_command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the video, the lake and the pictures.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Looks of the rendered scene.")] = 0,
    as_json: Json = False,
) -> int:
    """Render a street scene, analyse it, and print what was found beside what is true."""
    from dataclasses import asdict

    from pipeline.cli.output import to_json
    from pipeline.cli.progress import reporter
    from pipeline.demo.show import run_demo

    with reporter() as progress:
        shown = run_demo(out, seed=seed, reporter=progress, say=say)
    if as_json:
        print(to_json(asdict(shown)))
    else:
        print(shown.text)
    return 0 if shown.status == "ok" else 1
