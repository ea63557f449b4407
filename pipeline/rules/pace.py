"""Rules about speed: what is remembered of one object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.config import Rule
from pipeline.rules.geometry import Array, Border, way_of
from pipeline.rules.sides import Sides
from pipeline.rules.steps import SAME_S, Finding, Ints, Steps

SPEED_WINDOW_S = 1.0
"""Speeds are measured over this time, since boxes jitter from sample to sample."""

_MIN_COSINE = 0.5  # the wrong way is less than 60 degrees off the opposite of the right one


@dataclass
class _Rest:
    start: float
    end: float
    score: float
    x: float
    y: float


class PaceFollower(ABC):
    """Stretches of time in which an object moves in some manner, measured over windows.

    Windows are `SPEED_WINDOW_S` long (or min_duration_s, if shorter); those in which the manner holds are
    joined where they overlap. So one jittering box does not end a stretch, and its start and end are not
    late by the window.
    """

    def __init__(self, rule: Rule, border: Border | None) -> None:
        self._rule = rule
        self._window_s = min(SPEED_WINDOW_S, rule.min_duration_s or SPEED_WINDOW_S)
        self._sides = Sides() if border is not None else None
        self._recent = np.empty((0, 4))  # t, x, y, inside of the rows that later windows may begin with
        self._rest: _Rest | None = None

    def push(self, steps: Steps) -> list[Finding]:
        inside = np.ones(len(steps.t)) if self._sides is None else self._sides.push(steps)[0] > 0
        path = np.vstack([self._recent, np.stack([steps.t, steps.x, steps.y, inside], axis=1)])  # (M, 4)
        stop = np.arange(len(path) - len(steps.t), len(path))
        start = np.searchsorted(path[:, 0], steps.t - self._window_s + SAME_S, "right") - 1
        within = (start >= 0) & (path[start, 3] > 0) & (path[stop, 3] > 0)
        holds = within & self._holds(path, start, stop, steps.height)
        t_first = np.where(start >= 0, path[start, 0], -np.inf)
        found = self._join(steps, path, start, t_first, holds)
        self._recent = path[max(int(start[-1]), 0) :]
        return found

    def end(self, row: int, over: bool) -> list[Finding]:
        rest, self._rest = self._rest, None
        return self._report(rest, row) if rest else []

    @abstractmethod
    def _holds(self, path: Array, start: Ints, stop: Ints, height: Array) -> npt.NDArray[np.bool_]:
        """Whether the object moves so from row `start` to `stop` of `path`, (N,) each; height in pixels."""

    def _join(
        self,
        steps: Steps,
        path: Array,
        start: Ints,
        t_first: Array,
        holds: npt.NDArray[np.bool_],
    ) -> list[Finding]:
        found: list[Finding] = []
        for k in np.flatnonzero(holds):
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
        if rest.end - rest.start < self._rule.min_duration_s - SAME_S:
            return []
        measured = {"x_px": rest.x, "y_px": rest.y, "duration_s": rest.end - rest.start}
        peak = rest.start + self._rule.min_duration_s
        return [Finding(row, rest.start, rest.end, peak, rest.score, None, measured)]


class StopFollower(PaceFollower):
    """stopped: no anchor of the window is farther from its first than max_speed times its length."""

    def _holds(self, path: Array, start: Ints, stop: Ints, height: Array) -> npt.NDArray[np.bool_]:
        reach = np.zeros(len(start))
        for k in _between(start, stop):
            reach = np.maximum(reach, np.hypot(*(path[k, 1:3] - path[start, 1:3]).T))
        return np.asarray(reach < self._rule.max_speed * height * (path[stop, 0] - path[start, 0]))


class WrongWayFollower(PaceFollower):
    """wrong_way: against the arrow from the window's first anchor to its last, which lie farthest apart."""

    def __init__(self, rule: Rule, border: Border | None, frame_size: tuple[int, int]) -> None:
        super().__init__(rule, border)
        self._way = way_of(rule, frame_size)

    def _holds(self, path: Array, start: Ints, stop: Ints, height: Array) -> npt.NDArray[np.bool_]:
        step = path[stop, 1:3] - path[start, 1:3]  # (N, 2)
        back = -(step @ self._way)
        steady = np.ones(len(start), bool)
        for k in _between(start, stop):
            so_far = -((path[k, 1:3] - path[start, 1:3]) @ self._way)
            steady &= (so_far >= 0) & (so_far <= back)
        fast = back >= self._rule.min_speed * height * (path[stop, 0] - path[start, 0])
        return np.asarray(steady & fast & (back >= _MIN_COSINE * np.hypot(*step.T)))


def _between(start: Ints, stop: Ints) -> Iterator[Ints]:
    """Row numbers start + 1, start + 2, ... of all windows at once, none beyond `stop`; (N,) each."""
    for step in range(1, int((stop - start).max()) + 1):
        yield np.minimum(start + step, stop)
