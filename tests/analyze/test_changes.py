"""What became of the events, on cases counted by hand."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from pipeline.analyze.changes import EventChanges, event_changes
from pipeline.lake.schema import EVENTS

Row = tuple[str, float, float]


def events(*rows: Row) -> pa.Table:
    columns = [{"source": "rule", "label": a, "t_start": s, "t_end": e, "t_peak": s} for a, s, e in rows]
    return pa.Table.from_pylist(columns, schema=EVENTS)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([], [], EventChanges()),
        ([("a", 1, 2)], [("a", 1, 2)], EventChanges(kept=1)),
        ([("a", 1, 2)], [], EventChanges(lost=1)),
        ([], [("a", 1, 2)], EventChanges(gained=1)),
        ([("a", 1, 2)], [("b", 1, 2)], EventChanges(gained=1, lost=1)),
        ([("a", 1, 2)], [("a", 1.5, 9)], EventChanges(moved=1)),
        ([("a", 1, 2)], [("a", 3, 4)], EventChanges(moved=1)),  # begins 1 s after the other's end
        ([("a", 1, 2)], [("a", 3.1, 4)], EventChanges(gained=1, lost=1)),
        ([("a", 1, 2), ("a", 5, 6)], [("a", 5, 6), ("a", 5.5, 7)], EventChanges(gained=1, lost=1, kept=1)),
        ([("a", 1, 2), ("a", 1, 2)], [("a", 1, 2)], EventChanges(lost=1, kept=1)),
    ],
)
def test_changes(old: list[Row], new: list[Row], expected: EventChanges) -> None:
    assert event_changes([events(*old)], [events(*new)]) == expected


def test_many_events_that_moved_take_no_longer_for_each_than_few() -> None:
    """Side by side, the best of three: other work on the machine slows both."""

    def seconds(number: int) -> float:
        old, new = ([("a", at + shift, at + shift) for at in range(2 * number)[::2]] for shift in (0.0, 0.4))
        tables = events(*old), events(*new)
        begin = time.process_time()
        assert event_changes([tables[0]], [tables[1]]) == EventChanges(moved=number)
        return time.process_time() - begin

    pairs = [(seconds(250), seconds(4000)) for _ in range(3)]
    assert min(many for _, many in pairs) < 40 * min(few for few, _ in pairs)


def test_sum_and_text() -> None:
    total = EventChanges(1, 2, 3, 4) + EventChanges(gained=1)
    assert str(total) == "2 gained, 2 lost, 3 moved, 4 as before"
