"""The camera's way over the last seconds: boxes of one frame seen in the picture of another."""

from __future__ import annotations

import cmath
from collections import deque

import numpy as np
from numpy.typing import NDArray

from models.motion import MotionState
from pipeline.track.observe import CameraMotion

Array = NDArray[np.float64]
Complexes = NDArray[np.complex128]


class CameraPath:
    """Similarity transforms p -> a p + b, points as complex numbers, from a reference frame to each frame.

    The reference moves along: only the frames since the last `forget_before` are known, so neither memory nor
    the transforms grow with a video's length.
    """

    def __init__(self, centre: tuple[float, float]) -> None:
        self.centre = complex(*centre)
        self.still = True
        self._shifts_only = True
        self._ways: deque[tuple[int, complex, complex]] = deque()
        self._known: tuple[NDArray[np.int64], Complexes, Complexes] | None = None  # the same, as arrays

    def append(self, sample: int, motion: CameraMotion | None) -> None:
        """Add the next frame, and how the picture moved to it."""
        a, b = (self._ways[-1][1], self._ways[-1][2]) if self._ways else (1 + 0j, 0j)
        if motion is not None:
            turn = motion.scale * cmath.exp(1j * motion.rotation)
            shift = complex(motion.dx, motion.dy) + self.centre - turn * self.centre
            a, b = turn * a, turn * b + shift
            self.still = False
            self._shifts_only &= turn == 1
        self._ways.append((sample, a, b))
        self._known = None

    def forget_before(self, sample: int) -> None:
        """Drop older frames and make the oldest that is left the reference."""
        while self._ways and self._ways[0][0] < sample:
            self._ways.popleft()
        self._known = None
        if self._ways and not self.still:
            _, a0, b0 = self._ways[0]
            self._ways = deque((s, a / a0, b - a / a0 * b0) for s, a, b in self._ways)
            self.still = all(a == 1 and b == 0 for _, a, b in self._ways)

    def to_reference(self, samples: list[int], z: Array) -> Array:
        """Boxes z (N, 4), each in its own frame, as the reference frame would show them."""
        if self.still:
            return z
        a, b = self._lookup(samples)
        return _shifted(z, -b) if self._shifts_only else _moved(z, 1 / a, -b / a)

    def from_reference(self, samples: list[int], z: Array) -> Array:
        """The inverse of `to_reference`."""
        if self.still:
            return z
        a, b = self._lookup(samples)
        return _shifted(z, b) if self._shifts_only else _moved(z, a, b)

    def carry(self, state: MotionState, sample: int) -> MotionState:
        """States of one frame in the picture of the reference frame."""
        if self.still:
            return state
        a, b = self._lookup([sample])
        turn = 1 / complex(a[0])
        shift = -complex(b[0]) * turn
        return state.warp(shift.real, shift.imag, abs(turn), cmath.phase(turn), (0.0, 0.0))

    def _lookup(self, samples: list[int]) -> tuple[Complexes, Complexes]:
        if self._known is None:
            self._known = (
                np.array([s for s, _, _ in self._ways]),
                np.array([a for _, a, _ in self._ways]),
                np.array([b for _, _, b in self._ways]),
            )
        known, a, b = self._known
        index = np.minimum(known.searchsorted(samples), len(known) - 1)
        return a[index], b[index]


def _shifted(z: Array, by: Complexes) -> Array:
    out = z.copy()
    out[:, 0] += by.real
    out[:, 1] += by.imag
    return out


def _moved(z: Array, a: Complexes, b: Complexes) -> Array:
    centre = (z[:, 0] + 1j * z[:, 1]) * a + b
    return np.column_stack([centre.real, centre.imag, z[:, 2:] + np.log(np.abs(a))[:, None]])
