"""Which sampled frames look like the one perceived before them: perceiving them would say nothing new."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK_S = 10.0
"""Seconds of the time grid after which a frame is perceived in any case, counted from the video's start.

So what is still does not depend on where decoding began, if it began at a multiple of this.
"""

_CELL_PX = 8
"""Of the small grey picture. Means over cells even out noise, and a far walker fills a good part of one."""


def block_ticks(sample_fps: float) -> int:
    """Ticks of the time grid in a block, at least 1."""
    return max(1, round(BLOCK_S * sample_fps))


class StillGate:
    """Compares each sampled frame with the last one that was perceived.

    Args:
        threshold: mean absolute difference of a cell, in grey levels of 255, below which it has not changed;
            0: nothing is ever still.
        sample_fps: ticks per second.
    """

    def __init__(self, threshold: float, sample_fps: float) -> None:
        self._threshold, self._ticks = threshold, block_ticks(sample_fps)
        self._block = -1
        self._perceived: NDArray[np.uint8] | None = None

    def is_still(self, sample: int, grey: NDArray[np.uint8]) -> bool:
        """Whether the frame may take over what was perceived last; if not, it is what others compare with.

        Args:
            sample: its tick.
            grey: the small grey picture (h, w) of `MotionMeter`.
        """
        if self._threshold <= 0:
            return False
        block = sample // self._ticks
        if block == self._block and self._perceived is not None:
            change = cv2.absdiff(grey, self._perceived)
            cells = -(-grey.shape[1] // _CELL_PX), -(-grey.shape[0] // _CELL_PX)
            means = cv2.resize(change.astype(np.float32), cells, interpolation=cv2.INTER_AREA)
            if means.max() < self._threshold:
                return True
        self._block, self._perceived = block, grey
        return False
