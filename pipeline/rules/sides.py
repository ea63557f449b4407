"""On which side of a border an object is, and when it passed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.rules.geometry import Array, Border
from pipeline.rules.steps import Ints, Steps


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

    def push(self, steps: Steps) -> tuple[Ints, list[Flip]]:
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

    def _flips(self, steps: Steps, sides: Ints, at: Ints) -> list[Flip]:
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
