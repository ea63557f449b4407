"""`marey bench`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import ConfigFile, Json, Settings, app, command, put, read_config, say

if TYPE_CHECKING:
    from pipeline.speed import Speed


@command(
    app,
    "bench",
    "marey bench",
    "marey bench gate.mp4 yard.mp4 --rounds 5",
    "marey bench gate.mp4 --config site.toml --set perceive.min_score=0.3 --json",
)
def bench_command(
    videos: Annotated[
        list[Path] | None,
        typer.Argument(help="Video files; the demo's street if none is named.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each stage, in turn.")] = 3,
    as_json: Json = False,
) -> None:
    """Measure how fast this machine decodes, perceives, tracks, writes and does all of it; name the limit.

    Medians of several rounds, and nothing is kept. Give minutes of footage: the whole includes loading the
    networks. The bound is the larger of the CPU seconds of decoding and of the CNN.
    """
    from pipeline.cli.output import to_json
    from pipeline.speed import measure

    resolved = read_config(config, settings)
    with TemporaryDirectory(prefix="marey-bench-") as folder:
        speed = measure(videos or [_street(Path(folder))], resolved, rounds, _tell)
    put(to_json(speed.to_json()) if as_json else table(speed))


def _street(folder: Path) -> Path:
    from pipeline.demo.render import render_demo

    render_demo(folder / "street.mp4")
    return folder / "street.mp4"


def _tell(stage: str, number: int) -> None:
    say(f"round {number}: {stage}")


def table(speed: Speed) -> str:
    """What was measured, as Markdown, and the limit in words."""
    from pipeline.speed import rates

    whole = speed.stages["whole"]
    lines = ["| stage | sampled frames/s | times real time | CPU s | MB |", "|---|---:|---:|---:|---:|"]
    for name, one in speed.stages.items():
        rate = rates(one)
        cpu_s = one.cpu_s * whole.frames / one.frames  # the CNN is measured on fewer
        lines.append(
            f"| {name} | {rate['frames_per_s']:.1f} | {rate['times_real_time']:.1f} | {cpu_s:.2f} "
            f"| {one.peak_bytes / 1e6:.0f} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"{speed.runtime}, {speed.cores} cores, medians of {speed.rounds}; "
            f"{whole.frames:.0f} sampled frames, {whole.video_s:.0f} s of video; CPU seconds are for all of "
            "them.",
            f"The limit is {speed.limit}: {speed.bound_s:.1f} s at least. The whole takes {speed.near:.2f} "
            f"times that, and without the {whole.start_s:.1f} s until its networks are loaded "
            f"{speed.near_started:.2f} times.",
        ]
    )
