"""What another config did to a video's events."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

NEAR_S = 1.0
"""An event of a label that ends so long before one of the other config begins may be the same, moved."""

Span = tuple[float, float, float]  # t_start, t_end, t_peak


@dataclass(frozen=True)
class EventChanges:
    """How many events came, went, are at another time, and are as before."""

    gained: int = 0
    lost: int = 0
    moved: int = 0
    kept: int = 0

    def __add__(self, other: EventChanges) -> EventChanges:
        mine, theirs = vars(self), vars(other)
        return EventChanges(**{name: mine[name] + theirs[name] for name in mine})

    def __str__(self) -> str:
        return f"{self.gained} gained, {self.lost} lost, {self.moved} moved, {self.kept} as before"


def event_changes(old: Iterable[pa.Table], new: Iterable[pa.Table]) -> EventChanges:
    """Compare the events of one video under two configs, tables with columns of EVENTS.

    Events of one source and label with the same times are the same one, whatever their tracks are called.
    Of the others those that overlap or are near, the earliest first, are one that moved.
    """
    before, after = _spans(old), _spans(new)
    changes = EventChanges()
    for label in before.keys() | after.keys():
        changes += _changes(sorted(before[label]), sorted(after[label]))
    return changes


def rule_counts(tables: Iterable[pa.Table]) -> dict[str, dict[str, int]]:
    """How many events each rule found: name to direction, empty where it has none, to number."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for table in tables:
        columns = (table[name].to_pylist() for name in ("source", "label", "direction"))
        for source, label, direction in zip(*columns, strict=True):
            if source == "rule":
                found[label][direction or ""] += 1
    return {label: dict(counts) for label, counts in found.items()}


def _spans(tables: Iterable[pa.Table]) -> dict[tuple[str, str], list[Span]]:
    found: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for table in tables:
        columns = table.select(["source", "label", "t_start", "t_end", "t_peak"])
        for source, label, *times in zip(*(column.to_pylist() for column in columns), strict=True):
            start, end, peak = (round(t, 6) for t in times)
            found[source, label].append((start, end, peak))
    return found


def _changes(old: list[Span], new: list[Span]) -> EventChanges:
    """Compare spans that are sorted; of many as quickly, in proportion, as of few."""
    rest, gone = Counter(new), []
    for span in old:
        if rest[span]:
            rest[span] -= 1
        else:
            gone.append(span)
    kept, moved = len(old) - len(gone), 0
    waiting = deque(sorted(rest.elements()))
    for start, end, _ in gone:
        while waiting and start > waiting[0][1] + NEAR_S:
            waiting.popleft()  # too early for this and all later ones
        if waiting and waiting[0][0] <= end + NEAR_S:
            waiting.popleft()
            moved += 1
    return EventChanges(len(new) - kept - moved, len(gone) - moved, moved, kept)
