"""What another config would find, without writing a row."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.analyze.changes import EventChanges, event_changes, rule_counts
from pipeline.analyze.interpret import Interpreter, Rows, Stopwatch, find_events, interpret, stored_perception
from pipeline.analyze.plan import Step, VideoPlan
from pipeline.analyze.tools import Tools
from pipeline.lake import Lake
from pipeline.lake.lookup import read_rows
from pipeline.lake.records import Analysis


class _Kept(Rows):
    """Keeps the events, and lets everything else go."""

    def __init__(self, lake: Lake, plan: VideoPlan) -> None:
        super().__init__(lake, plan, {})
        self.events: list[pa.Table] = []

    def add(self, table: str, rows: pa.Table) -> None:
        if table == "events":
            self.events.append(rows)


def try_out(
    lake: Lake, plan: VideoPlan, current: Analysis, tools: Tools
) -> tuple[EventChanges, dict[str, dict[str, int]]]:
    """The events of a plan against those that are current, and how many each rule found.

    Nothing is written.
    """
    kept = _Kept(lake, plan)
    if plan.step is Step.EVENTS:
        find_events(lake, plan, current, tools, kept, Stopwatch())
    else:
        interpret(stored_perception(lake, current, tools), Interpreter(plan, tools, Stopwatch()), kept)
    return event_changes(stored_events(lake, current), kept.events), rule_counts(kept.events)


def stored_events(lake: Lake, analysis: Analysis) -> Iterator[pa.Table]:
    """The events of an analysis, from the lake."""
    run = analysis.events_run_id or ""
    return read_rows(lake, "events", analysis.video_id, run, analysis.date)
