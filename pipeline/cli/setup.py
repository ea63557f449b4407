"""`marey config` and `marey doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import ConfigFile, Json, Settings, app, command, put, read_config, say
from pipeline.cli.text import complain, printable


@command(app, "config", "marey config --show", "marey config --config site.toml", "marey config --schema")
def config_command(
    config: ConfigFile = None,
    settings: Settings = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema: keys, defaults, units.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the resolved config as TOML (the default).")
    ] = True,
) -> None:
    """Check a config and print what it resolves to: defaults, file, environment, --set.

    MAREY_PERCEIVE__MIN_SCORE in the environment is perceive.min_score; lists and sections there are JSON.
    """
    from pipeline.cli.output import to_json
    from pipeline.config import Config
    from pipeline.config_text import to_toml

    if schema:
        put(to_json(Config.model_json_schema()))
    elif show:
        put(to_toml(read_config(config, settings)))


_NEXT_LINE = "\n" + 23 * " "


@command(app, "doctor", "marey doctor", "marey doctor gate.mp4", "marey doctor --free")
def doctor_command(
    files: Annotated[list[Path] | None, typer.Argument(help="Videos to explain.", show_default=False)] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    runs: Annotated[
        bool, typer.Option("--runs", help="List runs of the Prefect server whose process is gone.")
    ] = False,
    free: Annotated[
        bool, typer.Option("--free", help="Mark them as crashed, which frees their places.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Say what this machine has, what a video is and how it would be read, or which runs are orphaned."""
    from pipeline.cli.output import to_json
    from pipeline.doctor import explain, machine

    if runs or free:
        return _orphans(free, as_json)
    resolved = read_config(config, settings)
    findings = [explain(path, resolved) for path in files] if files else [machine(resolved)]
    if as_json:
        put(to_json(findings if files else findings[0]))
    else:
        for finding in findings:
            for key, value in finding.items():
                lines = value if isinstance(value, list) else [value]
                told = (printable(str(line)) for line in lines)
                put(f"{key + ':':22} {_NEXT_LINE.join(told) or '-'}")
    failed = [str(f["error"]) for f in findings if f.get("error")]
    for text in failed:
        complain(text)
    return int(bool(failed))


def _orphans(free: bool, as_json: bool) -> int:
    """List, and free, the runs whose process is gone; 1 if some are left."""
    from dataclasses import asdict

    from pipeline.cli.output import to_json
    from pipeline.cli.serve import flows

    orphans = flows("orphans")
    with flows("server").server() as client:
        found = orphans.orphans(client)
        if as_json:
            put(to_json([asdict(orphan) for orphan in found]))
        else:
            for orphan in found:
                put(printable(f"{orphan.name}  {orphan.id}  {orphan.why}"))
        if free:
            orphans.free(client, found)
    say(f"{len(found)} runs have no process any more" + (", they are freed" if free and found else ""))
    return int(bool(found) and not free)
