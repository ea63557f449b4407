"""Flows that keep a lake: `compact` and `reinterpret`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows import report
from flows.report import LogReporter
from flows.server import shown
from flows.settings import Settings, read_settings
from flows.tags import named_by, tag_run
from pipeline import allowed
from pipeline.analyze import reinterpret as reinterpret_lake
from pipeline.cli.text import printable
from pipeline.errors import MareyError
from pipeline.lake.compact import compact as compact_lake

PAUSES_S = (600.0, 600.0)
"""Before a compaction that failed is tried again, where its error says that this may help."""

_T = TypeVar("_T")


def tried_again(
    call: Callable[[], _T], say: Callable[[str], None], pauses_s: Sequence[float] = PAUSES_S
) -> _T:
    """What a call returns, made again after each pause; by itself a flow tries every error again."""
    for pause_s in pauses_s:
        try:
            return call()
        except MareyError as exc:
            if not exc.retry:
                raise
            say(f"tried again in {pause_s / 60:.0f} minutes: {printable(str(exc))}")
            time.sleep(pause_s)
    return call()


@flow(name="compact", flow_run_name=named_by("lake"))
def compact(lake: str, config: Settings = None) -> dict[str, int]:
    """Drop what is no longer current, merge small files. Safe to run twice and beside other work.

    Args:
        lake: the lake.
        config: of it `[lake]` counts.

    Returns:
        Partitions written anew, rows dropped, partitions that were too busy.
    """
    tag_run(lake)
    allowed.check(lake)
    settings = read_settings(config).lake
    found = tried_again(lambda: compact_lake(lake, settings), get_run_logger().warning)
    states = [result.state for result in found]
    dropped = sum(result.rows_dropped for result in found)
    result = {"rewritten": states.count("rewritten"), "rows_dropped": dropped, "busy": states.count("busy")}
    get_run_logger().info("%s", result)
    return result


@flow(name="reinterpret", flow_run_name=named_by("lake"))
def reinterpret(lake: str, config: Settings = None, camera: str = "*") -> dict[str, Any]:
    """Redo tracking or only events of stored perceptions with another config. No video is opened.

    Args:
        lake: the lake.
        config: path of a TOML file, or values by key.
        camera: shell pattern of cameras.

    Returns:
        Counts of states and rows, and failures with their reasons.
    """
    tag_run(lake)
    allowed.check(lake)
    done = reinterpret_lake(
        lake, read_settings(config), camera=camera, reporter=LogReporter(get_run_logger())
    )
    videos = report.plain(done.results)
    result = report.summary(lake, videos, done.elapsed_s)
    page = report.page(result, videos)
    if done.changes is not None:
        page += f"\nEvents: {report.escape(str(done.changes))}\n"
    with shown("a report of this run", get_run_logger().warning):
        create_markdown_artifact(page, "marey-report", report.states_text(videos))
    return result
