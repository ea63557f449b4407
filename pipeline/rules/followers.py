"""Rules about borders, and about being there at all: what is remembered of one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import Rule
from pipeline.rules.geometry import Border
from pipeline.rules.sides import Sides
from pipeline.rules.steps import SAME_S, Finding, Steps

START_S = 1.0
"""An object first seen this early in a video was there before it."""


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

    def end(self, row: int, over: bool) -> list[Finding]:
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

    def end(self, row: int, over: bool) -> list[Finding]:
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
        enough = np.flatnonzero((t >= stay.since + self._min_s - SAME_S) & on_side)
        return self._meet(stay, steps, begin + int(enough[0])) if len(enough) else []

    def _leave(self, steps: Steps, k: int, t: float) -> list[Finding]:
        stay, self._stay = self._stay, None
        if stay is None:
            return []
        found = []
        if stay.met is None and t >= stay.since + self._min_s - SAME_S:
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
class _Sight:
    """An object as it was first or last seen."""

    t: float
    x: float
    y: float
    score: float
    inside: bool
    wanted: bool  # whether it was of the rule's classes

    @classmethod
    def of(cls, steps: Steps, k: int) -> _Sight:
        columns = (steps.t, steps.x, steps.y, steps.score)
        t, x, y, score = (float(column[k]) for column in columns)
        return cls(t, x, y, score, bool(steps.signed[k] >= 0), bool(steps.wanted[k]))


class PresenceFollower:
    """appear and disappear: where an object is first and last seen, if it is seen for long enough.

    Its rows are given whatever it is called there. Frames before it was first seen go back to `begin_t`
    seconds.
    """

    def __init__(self, rule: Rule, begin_t: float) -> None:
        self._appears, self._begin_t = rule.kind == "appear", begin_t
        self._min_s = rule.min_duration_s
        self._first: _Sight | None = None
        self._last: _Sight | None = None
        self._waiting = False  # first seen inside; not yet for long enough, or not yet of the rule's classes

    def push(self, steps: Steps) -> list[Finding]:
        if self._first is None:
            self._first = _Sight.of(steps, 0)
            self._waiting = self._appears and self._first.inside and self._first.t - self._begin_t > START_S
        self._last = _Sight.of(steps, -1)
        if not self._waiting:
            return []
        enough = np.flatnonzero((steps.t >= self._first.t + self._min_s - SAME_S) & steps.wanted)
        if not len(enough):
            return []
        self._waiting = False
        return [self._finding(int(steps.row[enough[0]]), self._first, self._first.t + self._min_s)]

    def end(self, row: int, over: bool) -> list[Finding]:
        first, last = self._first, self._last
        if self._appears or over or first is None or last is None or not (last.inside and last.wanted):
            return []
        if last.t - first.t < self._min_s - SAME_S:
            return []
        return [self._finding(row, last, last.t)]

    def _finding(self, row: int, at: _Sight, t_end: float) -> Finding:
        return Finding(row, at.t, t_end, t_end, at.score, None, {"x_px": at.x, "y_px": at.y})
