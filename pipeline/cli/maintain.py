"""`marey compact` and `marey forget`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.cli.app import ConfigFile, DryRun, Json, Lake, Settings, app, command, put, read_config, say
from pipeline.cli.output import Format, to_json, write
from pipeline.errors import StorageError


@command(
    app,
    "compact",
    "marey compact --lake s3://archive/lake --dry-run",
    "marey compact --lake ./lake --set lake.history_days=30",
)
def compact_command(
    lake: Lake = "./lake",
    config: ConfigFile = None,
    settings: Settings = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Drop rows that are no longer current, sort what stays into files of a good size, remove old files.

    Safe beside writers, readers and another compaction; run it once a day. What was current within
    lake.history_days stays for `query --as-of`; an attempt without an end after lake.grace_h is given up;
    vectors older than lake.keep_vectors_days go, if it is set, and their rows stay.
    """
    import pyarrow as pa

    from pipeline.lake.compact import compact

    resolved = read_config(config, settings).lake
    results = compact(lake, resolved, dry_run=dry_run)
    if as_json:
        put(to_json([asdict(result) for result in results]))
    elif results:
        write(pa.Table.from_pylist([asdict(result) for result in results]), Format.table, None)
    rewritten = [result for result in results if result.state == "rewritten"]
    dropped, rows = sum(r.rows_dropped for r in results), sum(r.rows for r in results)
    size = sum(r.size_bytes for r in rewritten) / 1e6
    verb = "would be" if dry_run else "are"
    say(
        f"{len(rewritten)} of {len(results)} partitions ({size:.1f} MB) {verb} written anew, "
        f"{dropped} of {rows} rows {verb} dropped"
    )
    if vectors := sum(r.vector_bytes_dropped for r in results):
        say(f"vectors of about {vectors / 1e6:.1f} MB {verb} dropped, their rows stay")
    if busy := [result for result in results if result.state == "busy"]:
        say(f"{len(busy)} partitions were written to all the time: run it again later")


@command(
    app,
    "forget",
    "marey forget s3://archive/gate/20250301.mp4 --lake s3://archive/lake --dry-run",
    "marey forget /archive/gate.mp4 --lake ./lake --all-names --deny",
)
def forget_command(
    video: Annotated[
        str, typer.Argument(help="A name of the video, as `videos` shows it.", show_default=False)
    ],
    lake: Lake = "./lake",
    config: ConfigFile = None,
    settings: Settings = None,
    all_names: Annotated[bool, typer.Option("--all-names", help="Also if it has other names.")] = False,
    deny: Annotated[bool, typer.Option("--deny", help="Refuse the same bytes from now on.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Remove a video from the lake: rows, staged segments, old versions of the tables, log entries.

    Prints a receipt. Versions that a bucket keeps of removed files go, too. Videos and clips outside the lake
    stay. Queries at work at that moment may fail.
    """
    from pipeline.lake.forget import forget

    resolved = read_config(config, settings).lake
    receipt = forget(lake, video, resolved, all_names=all_names, deny=deny, dry_run=dry_run)
    put(to_json(asdict(receipt)))
    rows = f"{sum(receipt.rows.values())} rows of about {receipt.size_bytes / 1e6:.1f} MB"
    say(
        f"{rows} {'would be' if dry_run else 'are'} removed"
        + ("; nothing is left" if receipt.checked else "")
    )
    if receipt.unchecked:
        raise StorageError("old versions may be left", remedy=receipt.unchecked)
