"""Camera motion from the boxes alone: what all predictions miss by together, the camera did.

For input without pictures. Only the shift that the tracks' own velocities do not explain yet is found: the
jolt of a step, the beginning of a turn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.track.observe import CameraMotion

Array = NDArray[np.float64]

MIN_TRACKS = 4
"""Tracks that have to agree: fewer may move together by themselves."""

MOST_TRACKS = 30
"""The oldest ones are asked; more would cost time and tell nothing new."""

OWN = 0.04
"""Share of its height by which a box errs by itself, beside what its prediction says."""

REACH = 1.0
"""Box heights within which a box is looked for."""

LEAST = 0.01
"""Box heights: smaller shifts are the detector's jitter, and are left to the tracks."""

TAIL = 3.0
"""Degrees of freedom of the errors (Student's t): some pairs are wrong, some people turn."""

MEMORY = 0.9
"""Share of the known mean square shift that stays from frame to frame."""


class EgoMotion:
    """Finds the shift of the picture from frame to frame, sceptical where the camera has stood still."""

    def __init__(self) -> None:
        self._power = 0.0  # recent mean square of the shift, in squared heights

    def estimate(self, mean: Array, variance: Array, boxes: Array) -> CameraMotion | None:
        """The shift that brings predictions (T, 4), with their variances, onto boxes (D, 4); all z."""
        if len(mean) < MIN_TRACKS or len(boxes) < MIN_TRACKS:
            return None
        mean, variance = mean[:MOST_TRACKS], variance[:MOST_TRACKS]
        height = np.exp(mean[:, 3])
        spread = variance[:, :2] + (OWN * height[:, None]) ** 2
        typical = float(np.sort(height)[len(height) // 2])
        shift = np.zeros(2)
        for _ in range(2):
            rows, columns = _nearest(mean, boxes, shift, height)
            if len(rows) < MIN_TRACKS:
                return None
            found, unsure = _robust_mean(boxes[columns, :2] - mean[rows, :2], spread[rows])
            squares = found * found - unsure
            raw = float(squares[0] + squares[1]) / 2 / typical**2
            prior = max(self._power, raw / 4, 1e-9) * typical**2
            shift = found * prior / (prior + unsure)
            dx, dy = shift.tolist()
            if max(abs(dx), abs(dy)) < 0.2 * typical:
                break
        self._power = MEMORY * self._power + (1 - MEMORY) * raw
        if max(abs(dx), abs(dy)) < LEAST * typical:
            return None
        return CameraMotion(dx, dy, 1.0, 0.0)


def _nearest(
    mean: Array, boxes: Array, shift: Array, height: Array
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs (track, box) that are each other's nearest, within reach, in place and size."""
    error = boxes[None] - mean[:, None]  # (T, D, 4)
    error[..., :2] = (error[..., :2] - shift) / height[:, None, None]
    far = (error * error).sum(axis=2)
    best = far.argmin(axis=1)
    rows = np.nonzero(far.argmin(axis=0)[best] == np.arange(len(mean)))[0]
    rows = rows[far[rows, best[rows]] < REACH**2]
    return rows, best[rows]


def _robust_mean(error: Array, spread: Array) -> tuple[Array, Array]:
    """Location (2,) of errors (P, 2) of variance `spread` (P, 2), and the location's variance."""
    centre = np.sort(error, axis=0)[len(error) // 2]
    weight = 1 / spread
    for _ in range(3):
        off = error - centre
        weight = (TAIL + 1) / (TAIL * spread + off * off)
        total = np.add.reduce(weight)
        centre = np.add.reduce(weight * error) / total
    return centre, 1 / total
