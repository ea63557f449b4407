"""Runs all rules of a camera over the tracks of one video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import Rule
from pipeline.event_rows import details_json, event_id, events_table
from pipeline.ids import digest
from pipeline.rules.followers import Finding, Follower, LineFollower, StayFollower, Steps, StopFollower
from pipeline.rules.geometry import Array, Border, line_of, zone_of

FORGET_S = 10.0
"""An object not seen for longer is gone; should its id come back, it is another object."""

Ints = npt.NDArray[np.int64]
_Key = tuple[int, int, int]  # row at which the event was certain, rule, track: the order of the events


class RuleEngine:
    """Tracks in, events out, piece by piece.

    The events, and their order, do not depend on how the rows are cut into updates. Memory follows the
    objects seen within the last `FORGET_S` seconds, not the length of the video.
    """

    def __init__(self, rules: tuple[Rule, ...], frame_size: tuple[int, int], video_id: str) -> None:
        """Prepare the rules.

        Args:
            rules: those that match the camera.
            frame_size: width and height in displayed pixels.
            video_id: goes into the events' ids.
        """
        self._video_id = video_id
        self._runners = [_Runner(rule, frame_size) for rule in rules]
        self._num_rows = 0
        self._newest = -np.inf

    def update(self, tracks: pa.Table) -> pa.Table:
        """Take the next rows.

        Args:
            tracks: columns of TRACKS, in order of `t`.

        Returns:
            Events that became certain, as EVENTS.

        Raises:
            ValueError: the rows are not in order of time.
        """
        if tracks.num_rows == 0:
            return events_table([])
        rows = _Rows.of(tracks, self._num_rows)
        if rows.t[0] < self._newest or (np.diff(rows.t) < 0).any():
            raise ValueError("track rows must come in order of t")
        self._newest = float(rows.t[-1])
        self._num_rows += len(rows.t)
        found: list[tuple[_Key, Finding]] = []
        for number, runner in enumerate(self._runners):
            found += [((f.row, number, track), f) for track, f in runner.update(rows, tracks)]
        return self._table(found)

    def finish(self) -> pa.Table:
        """Events of the objects that were still there at the end of the video, as EVENTS."""
        found: list[tuple[_Key, Finding]] = []
        for number, runner in enumerate(self._runners):
            found += [((f.row, number, track), f) for track, f in runner.finish(self._num_rows)]
        return self._table(found)

    def _table(self, found: list[tuple[_Key, Finding]]) -> pa.Table:
        found.sort(key=lambda item: (item[0], item[1].t_start))
        return events_table(self._row(key, finding) for key, finding in found)

    def _row(self, key: _Key, finding: Finding) -> dict[str, object]:
        _, number, track = key
        runner = self._runners[number]
        rule = runner.rule
        times = (finding.t_start, finding.t_end, finding.t_peak)
        return {
            "event_id": event_id(self._video_id, "rule", rule.name, times, [track]),
            "source": "rule",
            "label": rule.name,
            "t_start": finding.t_start,
            "t_end": finding.t_end,
            "t_peak": finding.t_peak,
            "score": finding.score,
            "track_ids": [track],
            "zone": rule.name if runner.border is not None else None,
            "direction": finding.direction,
            "details": details_json(kind=rule.kind, rule=runner.digest, **finding.measured),
        }


@dataclass(frozen=True)
class _Rows:
    """Rows of an update in the order of time, all arrays (N,); `row` counts over the whole video."""

    row: Ints
    track: Ints
    t: Array
    x: Array
    y_centre: Array
    y_bottom: Array
    height: Array
    score: Array

    @classmethod
    def of(cls, tracks: pa.Table, first_row: int) -> _Rows:
        t, x1, y1, x2, y2, score = (
            tracks[name].to_numpy().astype(np.float64) for name in ("t", "x1", "y1", "x2", "y2", "score")
        )
        return cls(
            row=np.arange(first_row, first_row + tracks.num_rows),
            track=tracks["track_id"].to_numpy(),
            t=t,
            x=(x1 + x2) / 2,
            y_centre=(y1 + y2) / 2,
            y_bottom=y2,
            height=np.maximum(y2 - y1, 1.0),
            score=score,
        )


@dataclass
class _Object:
    follower: Follower
    last_t: float


class _Runner:
    """One rule with what it remembers of every object."""

    def __init__(self, rule: Rule, frame_size: tuple[int, int]) -> None:
        self.rule = rule
        self.digest = digest(rule.model_dump(mode="json"))[:12]
        self.border: Border | None = None
        if rule.kind == "line_crossing":
            self.border = line_of(rule, frame_size)
        elif rule.zone is not None:
            self.border = zone_of(rule, frame_size)
        self._objects: dict[int, _Object] = {}

    def update(self, rows: _Rows, tracks: pa.Table) -> Iterator[tuple[int, Finding]]:
        """Findings by track, in no particular order."""
        for track, steps in self._by_object(rows, tracks):
            known = self._objects.get(track)
            if known is not None and steps.t[0] > known.last_t + FORGET_S:
                yield from self._end(track, rows)
                known = None
            if known is None:
                known = self._objects[track] = _Object(self._follower(), 0.0)
            known.last_t = float(steps.t[-1])
            yield from ((track, finding) for finding in known.follower.push(steps))
        gone = [track for track, known in self._objects.items() if rows.t[-1] > known.last_t + FORGET_S]
        for track in gone:
            yield from self._end(track, rows)

    def finish(self, row: int) -> Iterator[tuple[int, Finding]]:
        for track, known in self._objects.items():
            yield from ((track, finding) for finding in known.follower.end(row))
        self._objects.clear()

    def _follower(self) -> Follower:
        if self.rule.kind == "stopped":
            return StopFollower(self.rule, self.border)
        if self.border is None:
            raise ValueError(f"rule {self.rule.name!r} of kind {self.rule.kind} has no line or zone")
        if self.rule.kind == "line_crossing":
            return LineFollower(self.rule, self.border)
        return StayFollower(self.rule, self.border)

    def _end(self, track: int, rows: _Rows) -> Iterator[tuple[int, Finding]]:
        known = self._objects.pop(track)
        row = int(rows.row[np.searchsorted(rows.t, known.last_t + FORGET_S, "right")])
        yield from ((track, finding) for finding in known.follower.end(row))

    def _by_object(self, rows: _Rows, tracks: pa.Table) -> Iterator[tuple[int, Steps]]:
        """Rows of the rule's classes, object by object, cut where an object was away for too long."""
        order = np.argsort(rows.track, kind="stable")
        if self.rule.classes:
            wanted = pc.is_in(tracks["class"], pa.array(self.rule.classes)).to_numpy()
            order = order[wanted[order]]
        if not len(order):
            return
        track, t = rows.track[order], rows.t[order]
        x, height = rows.x[order], rows.height[order]
        y = (rows.y_bottom if self.rule.anchor == "bottom" else rows.y_centre)[order]
        signed = band = np.zeros(len(order))
        if self.border is not None:
            signed = self.border.signed_px(x, y)
            band = self.border.band_px(self.rule.hysteresis * height)
        apart = (track[1:] != track[:-1]) | (t[1:] > t[:-1] + FORGET_S)
        cuts = [0, *(np.flatnonzero(apart) + 1), len(order)]
        score, row = rows.score[order], rows.row[order]
        for begin, stop in pairwise(cuts):
            part = slice(begin, stop)
            yield (
                int(track[begin]),
                Steps(
                    t[part], x[part], y[part], height[part], score[part], signed[part], band[part], row[part]
                ),
            )
