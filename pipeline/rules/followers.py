"""What a rule remembers of one object. Feeding rows in one piece or in many gives the same findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.config import Rule
from pipeline.rules.geometry import Array, Border

_SAME_S = 1e-6  # times on a grid are sums of binary fractions: nearer than this is equal
_SPEED_WINDOW_S = 1.0  # speeds are measured over this time, since boxes jitter from sample to sample


@dataclass(frozen=True)
class Steps:
    """Consecutive rows of one object, all arrays (N,), N >= 1.

    `t` seconds; `x`, `y` anchor and `height` in pixels; `signed` distance to the rule's border in pixels
    and `band` how far beyond it counts (both empty for a rule without border); `row` the number of the row
    in the video.
    """

    t: Array
    x: Array
    y: Array
    height: Array
    score: Array
    signed: Array
    band: Array
    row: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Finding:
    """An event of one object; `row` is the number of the row at which it was certain."""

    row: int
    t_start: float
    t_end: float
    t_peak: float
    score: float
    direction: str | None = None
    measured: dict[str, Any] = field(default_factory=dict)


class Follower(Protocol):
    def push(self, steps: Steps) -> list[Finding]:
        """Take the object's next rows."""
        ...

    def end(self, row: int) -> list[Finding]:
        """The object is gone; row `row` made it certain."""
        ...


@dataclass(frozen=True)
class Flip:
    """The object passed to `side` between two samples `a` and `b`, each (t, x, y); certain at step `k`."""

    k: int
    side: int
    a: Array
    b: Array

    def locate(self, border: Border) -> tuple[Array, bool]:
        """(t, x, y) on the border, and whether that is on its drawn part."""
        share, drawn = border.passage(self.a[1:], self.b[1:])
        return self.a + share * (self.b - self.a), drawn


class Sides:
    """On which side of a border an object is: 1, -1, or 0 as long as it was only seen on the border."""

    def __init__(self) -> None:
        self.side = 0
        self._last: Array | None = None  # t, x, y, signed of the last row
        self._passed: dict[int, tuple[Array, Array]] = {}  # by side: samples around the last sign change

    def push(self, steps: Steps) -> tuple[npt.NDArray[np.int64], list[Flip]]:
        """Side at each row, (N,), and the confirmed passages."""
        d = steps.signed
        sign = np.sign(d).astype(np.int64)
        known = np.where(np.abs(d) >= steps.band, sign, 0)
        if self.side == 0 and sign.any():
            first = int(np.flatnonzero(sign)[0])
            known[first] = sign[first]
        newest = np.maximum.accumulate(np.where(known != 0, np.arange(len(d)), -1))
        sides = np.where(newest >= 0, known[newest], self.side)
        before = np.concatenate([[self.side], sides[:-1]])
        flips = self._flips(steps, sides, np.flatnonzero((sides != before) & (before != 0)))
        self.side = int(sides[-1])
        return sides, flips

    def _flips(self, steps: Steps, sides: npt.NDArray[np.int64], at: npt.NDArray[np.int64]) -> list[Flip]:
        path = np.stack([steps.t, steps.x, steps.y, steps.signed], axis=1)  # (N, 4)
        path = path if self._last is None else np.vstack([self._last, path])  # (N + 1, 4)
        offset = len(path) - len(steps.t)
        d0, d1 = path[:-1, 3], path[1:, 3]
        into = {1: np.flatnonzero((d0 <= 0) & (d1 > 0)), -1: np.flatnonzero((d0 >= 0) & (d1 < 0))}
        flips = []
        for k in at:
            side = int(sides[k])
            earlier = into[side][into[side] < k + offset]
            a, b = (path[earlier[-1]], path[earlier[-1] + 1]) if len(earlier) else self._passed[side]
            flips.append(Flip(int(k), side, a[:3], b[:3]))
        for side, indices in into.items():
            if len(indices):
                self._passed[side] = (path[indices[-1]], path[indices[-1] + 1])
        self._last = path[-1]
        return flips


class LineFollower:
    """line_crossing."""

    def __init__(self, rule: Rule, border: Border) -> None:
        self._wanted = {"both": (1, -1), "left_to_right": (1,), "right_to_left": (-1,)}[rule.direction]
        self._border = border
        self._sides = Sides()

    def push(self, steps: Steps) -> list[Finding]:
        found = []
        for flip in self._sides.push(steps)[1]:
            point, drawn = flip.locate(self._border)
            if drawn and flip.side in self._wanted:
                t, x, y = point.tolist()
                direction = "left_to_right" if flip.side > 0 else "right_to_left"
                row, score = int(steps.row[flip.k]), float(steps.score[flip.k])
                found.append(Finding(row, t, t, t, score, direction, {"x_px": x, "y_px": y}))
        return found

    def end(self, row: int) -> list[Finding]:
        return []


@dataclass
class _Stay:
    since: float
    passed: bool  # began by passing the border, not by being seen first
    x: float
    y: float
    met: float | None = None  # score at the row at which the stay was long enough


class StayFollower:
    """zone_entry and dwell, which look at stays inside, and zone_exit, which looks at stays outside."""

    def __init__(self, rule: Rule, border: Border) -> None:
        self._side = -1 if rule.kind == "zone_exit" else 1
        self._whole = rule.kind == "dwell"  # report a stay when it is over, not when it is long enough
        self._min_s = rule.min_duration_s
        self._border = border
        self._sides = Sides()
        self._stay: _Stay | None = None
        self._last_t = 0.0
        self._fresh = True

    def push(self, steps: Steps) -> list[Finding]:
        sides, flips = self._sides.push(steps)
        found: list[Finding] = []
        begin = 0
        if self._fresh and sides.any():
            begin = int(np.flatnonzero(sides)[0])
            self._fresh = False
            if sides[begin] == self._side:
                t, x, y = (float(column[begin]) for column in (steps.t, steps.x, steps.y))
                self._stay = _Stay(t, False, x, y)
        for flip in flips:
            found += self._continue(steps, begin, flip.k)
            t, x, y = flip.locate(self._border)[0].tolist()
            if flip.side == self._side:
                self._stay = _Stay(t, True, x, y)
            else:
                found += self._leave(steps, flip.k, t)
            begin = flip.k
        found += self._continue(steps, begin, len(steps.t))
        self._last_t = float(steps.t[-1])
        return found

    def end(self, row: int) -> list[Finding]:
        stay, self._stay = self._stay, None
        if stay is None or stay.met is None or not self._whole:
            return []
        return [self._finding(stay, row, self._last_t, left=False)]

    def _continue(self, steps: Steps, begin: int, stop: int) -> list[Finding]:
        """Rows begin..stop-1, all within the present stay, if there is one."""
        stay = self._stay
        if stay is None or stay.met is not None:
            return []
        t, on_side = steps.t[begin:stop], steps.signed[begin:stop] * self._side > 0
        enough = np.flatnonzero((t >= stay.since + self._min_s - _SAME_S) & on_side)
        return self._meet(stay, steps, begin + int(enough[0])) if len(enough) else []

    def _leave(self, steps: Steps, k: int, t: float) -> list[Finding]:
        stay, self._stay = self._stay, None
        if stay is None:
            return []
        found = []
        if stay.met is None and t >= stay.since + self._min_s - _SAME_S:
            found = self._meet(stay, steps, k)
        if self._whole and stay.met is not None:
            found.append(self._finding(stay, int(steps.row[k]), t, left=True))
        return found

    def _meet(self, stay: _Stay, steps: Steps, k: int) -> list[Finding]:
        stay.met = float(steps.score[k])
        if self._whole or not stay.passed:
            return []
        return [self._finding(stay, int(steps.row[k]), stay.since + self._min_s)]

    def _finding(self, stay: _Stay, row: int, t_end: float, left: bool | None = None) -> Finding:
        measured: dict[str, Any] = {"x_px": stay.x, "y_px": stay.y}
        if self._whole:
            measured |= {"duration_s": t_end - stay.since, "entered": stay.passed, "left": left}
        score = stay.met if stay.met is not None else 0.0
        return Finding(row, stay.since, t_end, stay.since + self._min_s, score, None, measured)


@dataclass
class _Rest:
    start: float
    end: float
    score: float
    x: float
    y: float


class StopFollower:
    """stopped.

    For every window of `_SPEED_WINDOW_S` (or min_duration_s, if shorter) the farthest distance from the
    window's first anchor is measured; windows in which it stays below max_speed times the window's length
    are joined where they overlap. So one jittering box does not end a stop, and its start and end are not
    late by the window.
    """

    def __init__(self, rule: Rule, border: Border | None) -> None:
        self._rule = rule
        self._window_s = min(_SPEED_WINDOW_S, rule.min_duration_s)
        self._sides = Sides() if border is not None else None
        self._recent = np.empty((0, 4))  # t, x, y, inside of the rows that later windows may begin with
        self._rest: _Rest | None = None

    def push(self, steps: Steps) -> list[Finding]:
        inside = np.ones(len(steps.t)) if self._sides is None else self._sides.push(steps)[0] > 0
        path = np.vstack([self._recent, np.stack([steps.t, steps.x, steps.y, inside], axis=1)])  # (M, 4)
        stop = np.arange(len(path) - len(steps.t), len(path))
        start = np.searchsorted(path[:, 0], steps.t - self._window_s + _SAME_S, "right") - 1
        slow = self._slow(path, start, stop, steps.height)
        t_first = np.where(start >= 0, path[start, 0], -np.inf)
        found = self._join(steps, path, start, t_first, slow)
        self._recent = path[max(int(start[-1]), 0) :]
        return found

    def end(self, row: int) -> list[Finding]:
        rest, self._rest = self._rest, None
        return self._report(rest, row) if rest else []

    def _slow(
        self, path: Array, start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64], height: Array
    ) -> npt.NDArray[np.bool_]:
        reach = np.zeros(len(start))
        for step in range(1, int((stop - start).max()) + 1):
            k = np.minimum(start + step, stop)
            reach = np.maximum(reach, np.hypot(*(path[k, 1:3] - path[start, 1:3]).T))
        limit = self._rule.max_speed * height * (path[stop, 0] - path[start, 0])
        within = (path[start, 3] > 0) & (path[stop, 3] > 0)
        return np.asarray((start >= 0) & (reach < limit) & within)

    def _join(
        self,
        steps: Steps,
        path: Array,
        start: npt.NDArray[np.int64],
        t_first: Array,
        slow: npt.NDArray[np.bool_],
    ) -> list[Finding]:
        found: list[Finding] = []
        for k in np.flatnonzero(slow):
            if self._rest is not None and t_first[k] > self._rest.end:
                found += self._close(steps, t_first)
            if self._rest is None:
                x, y = path[start[k], 1:3]
                self._rest = _Rest(float(t_first[k]), 0.0, float(steps.score[k]), float(x), float(y))
            self._rest.end = float(steps.t[k])
        if self._rest is not None and t_first[-1] > self._rest.end:
            found += self._close(steps, t_first)
        return found

    def _close(self, steps: Steps, t_first: Array) -> list[Finding]:
        rest, self._rest = self._rest, None
        if rest is None:
            return []
        return self._report(rest, int(steps.row[np.searchsorted(t_first, rest.end, "right")]))

    def _report(self, rest: _Rest, row: int) -> list[Finding]:
        if rest.end - rest.start < self._rule.min_duration_s - _SAME_S:
            return []
        measured = {"x_px": rest.x, "y_px": rest.y, "duration_s": rest.end - rest.start}
        peak = rest.start + self._rule.min_duration_s
        return [Finding(row, rest.start, rest.end, peak, rest.score, None, measured)]
