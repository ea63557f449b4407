"""Rules about two objects: fast approach."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.config import Rule
from pipeline.rules.geometry import Array, Border
from pipeline.rules.steps import SAME_S, Finding, Ints, Rows

WINDOW_S = 0.5
"""How fast two objects close in is measured over this time or, with few samples, from one to the next."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class _Moment:
    """What was seen at one time, arrays (N,) in the order of `track`; places and heights in pixels."""

    t: float
    row: int  # the last of its rows
    track: Ints
    x: Array
    y: Array
    height: Array
    score: Array

    def pick(self, index: Ints) -> Array:
        """(4, n): x, y, height, score of some of the objects."""
        return np.stack([self.x, self.y, self.height, self.score])[:, index]


@dataclass
class _Approach:
    t_start: float
    t_end: float
    t_peak: float | None  # when the two were near enough
    score: float
    max_speed: float
    min_distance: float


class PairRunner:
    """approach: two objects close in at min_speed or faster, and come as near as `distance`.

    Both in heights of their boxes, the mean of the two. Windows in which they close in so fast are joined
    where they overlap.
    """

    def __init__(self, rule: Rule, border: Border | None, sample_s: float) -> None:
        self._rule, self._border = rule, border
        self._longest_s = max(2 * WINDOW_S, 1.5 * sample_s) + SAME_S
        self._recent: deque[_Moment] = deque()
        self._open: dict[Pair, _Approach] = {}
        self._waiting: list[_Moment] = []  # the newest, which may have more rows

    @property
    def num_remembered(self) -> int:
        return len(self._recent) + len(self._open) + len(self._waiting)

    def update(self, rows: Rows) -> Iterator[Finding]:
        for moment in self._moments(rows):
            if self._waiting and moment.t > self._waiting[0].t:
                yield from self._complete(moment.row)
            self._waiting.append(moment)

    def finish(self, row: int, end_t: float) -> Iterator[Finding]:
        if self._waiting:
            yield from self._complete(row)
        yield from self._end(list(self._open), row)

    def _moments(self, rows: Rows) -> Iterator[_Moment]:
        wanted = rows.wanted(self._rule)
        y = rows.anchor_y(self._rule)
        if self._border is not None:
            wanted &= self._border.signed_px(rows.x, y) >= 0
        cuts = [0, *(np.flatnonzero(np.diff(rows.t)) + 1), len(rows.t)]
        for begin, stop in pairwise(cuts):
            k = begin + np.flatnonzero(wanted[begin:stop])
            columns = (values[k] for values in (rows.track, rows.x, y, rows.height, rows.score))
            yield _Moment(float(rows.t[begin]), int(rows.row[begin]), *columns)

    def _complete(self, row: int) -> Iterator[Finding]:
        """The waiting moment has all its rows; row `row` told so."""
        now = _joined(self._waiting)
        self._waiting = []
        while len(self._recent) > 1 and self._recent[1].t <= now.t - WINDOW_S + SAME_S:
            self._recent.popleft()
        before = self._recent[0] if self._recent else now
        begin = max(before.t, now.t - self._longest_s)
        yield from self._end([pair for pair, one in self._open.items() if one.t_end < begin], row)
        if WINDOW_S - SAME_S <= now.t - before.t <= self._longest_s:
            self._compare(before, now)
        self._recent.append(now)

    def _compare(self, before: _Moment, now: _Moment) -> None:
        tracks, was, is_ = np.intersect1d(before.track, now.track, return_indices=True)
        first, second = np.triu_indices(len(tracks), 1)
        a, b = before.pick(was), now.pick(is_)
        height = (b[2, first] + b[2, second]) / 2
        distance = np.hypot(*(b[:2, first] - b[:2, second])) / height
        closed = np.hypot(*(a[:2, first] - a[:2, second])) / height - distance
        speed = closed / (now.t - before.t)
        for k in np.flatnonzero(speed >= self._rule.min_speed - SAME_S):
            pair = int(tracks[first[k]]), int(tracks[second[k]])
            score = float(min(b[3, first[k]], b[3, second[k]]))
            self._note(pair, before.t, now.t, float(distance[k]), float(speed[k]), score)

    def _note(self, pair: Pair, t0: float, t1: float, distance: float, speed: float, score: float) -> None:
        known = self._open.get(pair)
        if known is None:
            known = self._open[pair] = _Approach(t0, t1, None, score, speed, distance)
        known.t_end = t1
        known.max_speed, known.min_distance = max(known.max_speed, speed), min(known.min_distance, distance)
        if known.t_peak is None and distance <= self._rule.distance:
            known.t_peak, known.score = t1, score

    def _end(self, pairs: list[Pair], row: int) -> Iterator[Finding]:
        for pair in pairs:
            one = self._open.pop(pair)
            if one.t_peak is None or one.t_end - one.t_start < self._rule.min_duration_s - SAME_S:
                continue
            measured = {"speed_heights_s": one.max_speed, "distance_heights": one.min_distance}
            yield Finding(row, one.t_start, one.t_end, one.t_peak, one.score, None, measured, pair)


def _joined(parts: list[_Moment]) -> _Moment:
    if len(parts) == 1:
        return parts[0]
    names = ("track", "x", "y", "height", "score")
    columns = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return _Moment(parts[0].t, parts[-1].row, *columns)
