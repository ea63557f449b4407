"""What the objects table says of a track, gathered row by row in bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_POINTS = 512
"""Points of a trajectory in memory; more are simplified, with a growing tolerance if need be."""

TOLERANCE = 0.05
"""Box heights by which a simplified trajectory may miss the box's place at any time."""

SPEED_WINDOW_S = 0.8
"""Seconds over which a speed is taken: longer than the jitter of boxes, shorter than a stop."""

TOP_SHARE = 0.95
"""The top speed is this quantile, so that one bad box makes no record."""

_EDGES = np.concatenate([[0.0], np.geomspace(0.01, 100.0, 160)])  # heights/s, 6% apart


class Summary:
    """Times, trajectory and speeds of one track, from its rows in order of time."""

    def __init__(self) -> None:
        self.num_frames = 0
        self.t_start = self.t_end = 0.0
        self.first_sample = self.last_sample = 0
        self._points = np.empty((0, 3))
        self._tolerance_px = 0.0
        self._tail = np.empty((0, 4))  # t, centre x, centre y, height of the last rows
        self._counts = np.zeros(len(_EDGES), np.int64)  # of speeds in each bin
        self._sums = np.zeros(len(_EDGES))  # of the speeds in each bin
        self._first = np.empty(0)

    def add(self, samples: NDArray[np.int64], times: Array, corners: Array) -> None:
        """Add rows: sample (N,), t (N,), boxes (N, 4) xyxy."""
        height = np.maximum(corners[:, 3] - corners[:, 1], 1e-3)
        centre = (corners[:, :2] + corners[:, 2:]) / 2
        rows = np.column_stack([times, centre, height])
        if not self.num_frames:
            self.t_start, self.first_sample, self._first = float(times[0]), int(samples[0]), rows[0]
        self.num_frames += len(rows)
        self.t_end, self.last_sample = float(times[-1]), int(samples[-1])
        self._add_speeds(rows)
        foot = np.column_stack([times, centre[:, 0], corners[:, 3]])
        self._points = np.concatenate([self._points, foot])
        self._tolerance_px = max(self._tolerance_px, TOLERANCE * _median(height))
        while len(self._points) > MAX_POINTS:
            self._points = simplified(self._points, self._tolerance_px)
            if len(self._points) > MAX_POINTS // 2:
                self._tolerance_px *= 2

    def _add_speeds(self, rows: Array) -> None:
        known = np.concatenate([self._tail, rows])
        index = known[:, 0].searchsorted(known[:, 0] - SPEED_WINDOW_S + 1e-6)
        index = np.maximum(index - 1, 0)
        elapsed = known[:, 0] - known[index, 0]
        new = np.arange(len(known)) >= len(self._tail)
        good = new & (elapsed >= 0.5 * SPEED_WINDOW_S)
        moved = np.hypot(*(known[:, 1:3] - known[index, 1:3]).T)
        speed = (moved / ((known[:, 3] + known[index, 3]) / 2) / np.maximum(elapsed, 1e-6))[good]
        bins = _EDGES.searchsorted(speed, side="right") - 1
        self._counts += np.bincount(bins, minlength=len(_EDGES))
        self._sums += np.bincount(bins, speed, minlength=len(_EDGES))
        self._tail = known[known[:, 0] >= known[-1, 0] - 2 * SPEED_WINDOW_S]

    def speeds(self) -> tuple[float, float]:
        """Mean and top speed in box heights per second; the top is never below the mean."""
        count = int(self._counts.sum())
        if count == 0:
            last = self._tail[-1]
            elapsed = last[0] - self._first[0]
            moved = float(np.hypot(*(last[1:3] - self._first[1:3])))
            speed = moved / float(last[3] * elapsed) if elapsed > 0 else 0.0
            return speed, speed
        mean = float(self._sums.sum()) / count
        index = int(np.searchsorted(np.cumsum(self._counts), TOP_SHARE * count))
        return mean, max(mean, float(self._sums[index] / self._counts[index]))

    def trajectory(self) -> list[dict[str, float]]:
        """Bottom centres of the box, simplified: between two points the object moved evenly."""
        points = simplified(self._points, self._tolerance_px)
        return [{"t": t, "x": x, "y": y} for t, x, y in points.tolist()]


def _median(x: Array) -> float:
    """`np.median`, several times faster for a few numbers."""
    x = np.sort(x)
    return float(x[(len(x) - 1) // 2] + x[len(x) // 2]) / 2


def simplified(points: Array, tolerance_px: float) -> Array:
    """Some of the points (N, 3) t, x, y, between which even motion misses none by more than the tolerance.

    Douglas-Peucker with the distance taken at equal times (Meratnia and de By 2004), so that a stop on a
    straight way stays in.
    """
    keep = np.zeros(len(points), np.bool_)
    keep[[0, -1]] = True
    stack = [(0, len(points) - 1)]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        inner = points[first + 1 : last]
        share = (inner[:, :1] - points[first, 0]) / max(points[last, 0] - points[first, 0], 1e-9)
        even = points[first, 1:] + share * (points[last, 1:] - points[first, 1:])
        misses = np.hypot(*(inner[:, 1:] - even).T)
        worst = int(misses.argmax())
        if misses[worst] > tolerance_px:
            middle = first + 1 + worst
            keep[middle] = True
            stack += [(first, middle), (middle, last)]
    return np.asarray(points[keep])
