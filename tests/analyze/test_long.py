"""What a long video costs beside its frames: no more for each segment than a short one.

Each is measured side by side, the best of some: other work on the machine slows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa

from pipeline.analyze.interpret import Rows
from pipeline.analyze.perception import VideoWork
from pipeline.lake import Lake
from pipeline.lake.schema import EVENTS, STAGED
from pipeline.lake.staging import Staging

NAME = SimpleNamespace(video_id="v", camera=None, date=date(2026, 1, 1), recorded_at=None)
EVENT = {"event_id": "e", "source": "rule", "label": "gate", "score": 0.5, "track_ids": [1], "details": "{}"}


def grows(seconds: Callable[[int], float], few: int, many: int, rounds: int) -> float:
    """How many times longer many take than few."""
    pairs = [(seconds(few), seconds(many)) for _ in range(rounds)]
    return min(b for _, b in pairs) / min(a for a, _ in pairs)


def test_rows_of_many_segments(lake: Path) -> None:
    opened = Lake.open(lake)
    found = pa.Table.from_pylist([EVENT | {"t_start": 1.0, "t_end": 1.0, "t_peak": 1.0}], EVENTS)

    def seconds(segments: int) -> float:
        rows = Rows(opened, SimpleNamespace(name=NAME), {"events": "r"})
        begin = time.process_time()
        for _ in range(segments):
            rows.add("events", found)
        took = time.process_time() - begin
        assert rows.rest()["events"].num_rows == rows.counts["events"] == segments
        return took

    assert grows(seconds, 25, 200, 3) < 16


def test_early_rows_do_not_wait_for_many(lake: Path) -> None:
    """One segment is behind, those after it are perceived: it is looked for with each frame."""
    staging = Staging(Lake.open(lake), "0f")

    def seconds(segments: int) -> float:
        work = VideoWork(None, staging, ticks=1)
        for first in range(segments):
            work.ask(first, first + 1)
            work._fresh[first] = STAGED.empty_table()
        list(work.next_in_order())
        for first in (segments, segments + 1):
            work.ask(first, first + 1)
        work._fresh[segments + 1] = STAGED.empty_table()
        begin = time.process_time()
        for _ in range(200):
            assert list(work.next_in_order()) == []
        return time.process_time() - begin

    assert grows(seconds, 10, 2000, 3) < 8
