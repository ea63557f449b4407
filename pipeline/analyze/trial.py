"""What another config would find, without writing a row."""

from __future__ import annotations

import pyarrow as pa

from pipeline.analyze.changes import EventChanges, event_changes
from pipeline.analyze.interpret import Rows, Stopwatch, find_events, interpret, stored_perception
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


def try_out(lake: Lake, plan: VideoPlan, current: Analysis, tools: Tools) -> EventChanges:
    """The events of a plan against those that are current; nothing is written."""
    kept = _Kept(lake, plan)
    if plan.step is Step.EVENTS:
        find_events(lake, plan, current, tools, kept, Stopwatch())
    else:
        interpret(plan, stored_perception(lake, current, tools), tools, kept, Stopwatch())
    old = read_rows(lake, "events", current.video_id, current.events_run_id or "", current.date)
    return event_changes(old, kept.events)
