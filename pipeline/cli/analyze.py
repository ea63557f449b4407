"""`marey analyze` and `marey reinterpret`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import (
    Cameras,
    ConfigFile,
    DryRun,
    Json,
    Lake,
    Settings,
    app,
    command,
    put,
    read_config,
    say,
)
from pipeline.cli.progress import clock, reporter

if TYPE_CHECKING:
    from pipeline.analyze import Summary
    from pipeline.config import Config

Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Files, directories, globs, s3:// objects or prefixes, https:// files.", show_default=False
    ),
]


@command(
    app,
    "analyze",
    "marey analyze gate.mp4 --lake ./lake",
    "marey analyze 'archive/**/*.mp4' --lake ./lake --config site.toml",
    "marey analyze footage/ --lake ./lake --dry-run",
)
def analyze_command(
    inputs: Inputs,
    lake: Lake = "./lake",
    config: ConfigFile = None,
    settings: Settings = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Also videos with a current result of another config.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="The same, and what failed before for whatever reason.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also what failed for another reason than its bytes.")
    ] = False,
    dry_run: DryRun = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Work on at most so many videos.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Of directories, prefixes, globs: changed since (UTC).")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 also if a video is partial.")] = False,
    as_json: Json = False,
) -> int:
    """Analyse videos: tracks, objects and events go into the lake.

    Running it twice does nothing more; a run that was killed goes on where it was. What `marey clip` wrote
    is passed over in directories and globs.
    """
    from pipeline.analyze import Options, analyze

    resolved = read_config(config, settings)
    if since is not None:
        since = since.replace(tzinfo=UTC) if since.tzinfo is None else since
    options = Options(upgrade, force, retry_failed, dry_run, limit, since)
    with reporter() as progress:
        summary = analyze(inputs, lake, resolved, options, progress)
    _report(summary, lake, as_json)
    if dry_run and summary.count("planned"):
        _expect(summary, lake)
    return summary.exit_code(strict=strict)


def _expect(summary: Summary, lake: str) -> None:
    from pipeline.analyze.estimate import TABLES_MB_PER_HOUR, estimate

    found = estimate(summary, lake)
    rest = f" and {found.unknown} of unknown length" if found.unknown else ""
    say(
        f"to do: {found.hours:.2f} hours of footage{rest}, {found.size_bytes / 1e6:.1f} MB; "
        f"tables of about {found.hours * TABLES_MB_PER_HOUR:.1f} MB"
    )
    if found.work_s is not None:
        say(f"about {clock(found.work_s)} at the speed of the lake's last analyses")


def _report(summary: Summary, lake: str, as_json: bool) -> None:
    from pipeline.analyze.plan import READ_OTHERWISE
    from pipeline.cli.output import to_json

    counts = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in summary.states.items())
    total = len(summary.results)
    say(
        f"{total} video{'s' * (total != 1)} in {clock(summary.elapsed_s)}" + (f": {counts}" if counts else "")
    )
    if other := summary.count("other_config"):
        what = "1 video has a result" if other == 1 else f"{other} videos have results"
        say(f"{what} of another config: --upgrade, or `marey reinterpret`")
        if named := sum(result.note == READ_OTHERWISE for result in summary.results):
            say(f"of {named} this config reads another camera or time: --upgrade alone changes that")
    if summary.changes is not None:
        say(f"events: {summary.changes}")
    if as_json:
        results = [asdict(result) for result in summary.results]
        put(to_json({"lake": lake, "elapsed_s": summary.elapsed_s, "videos": results}))


@command(
    app,
    "reinterpret",
    "marey reinterpret --lake ./lake --config new-zones.toml",
    "marey reinterpret --lake ./lake --config new-zones.toml --camera 'gate*'",
    "marey reinterpret --lake ./lake --config new-zones.toml --dry-run --out trial",
)
def reinterpret_command(
    lake: Lake = "./lake",
    config: ConfigFile = None,
    settings: Settings = None,
    camera: Cameras = "*",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would come, go and be counted; the lake stays as it is."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="With --dry-run: a folder for pictures of the rules with their counts."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Redo tracking or only events of stored perceptions with another config. No video is opened."""
    from pipeline.analyze import reinterpret
    from pipeline.errors import UsageError

    if out is not None and not dry_run:
        raise UsageError("--out goes with --dry-run")
    resolved = read_config(config, settings)
    with reporter() as progress:
        summary = reinterpret(lake, resolved, camera=camera, dry_run=dry_run, reporter=progress)
    _report(summary, lake, as_json)
    if dry_run:
        _tell_counts(summary, resolved)
    if out is not None:
        from pipeline.report.trial import draw_rules

        counts = {result.video_id: result.counts for result in summary.results if result.video_id}
        for path in draw_rules(lake, resolved, counts, out):
            say(str(path)) if as_json else put(str(path))
    return summary.exit_code()


def _tell_counts(summary: Summary, config: Config) -> None:
    """How many events each rule would find, over all videos."""
    from pipeline.report.trial import counted, total

    found = total(result.counts for result in summary.results)
    for rule in config.rules:
        say(f"  {counted(rule.name, found)}")
