"""Which sampled frames look like those perceived before them: perceiving them would say nothing new."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.media.reader import Grey

BLOCK_S = 10.0
"""Seconds of the time grid after which a frame is perceived in any case, counted from the video's start.

So what is still does not depend on where decoding began, if it began at a multiple of this.
"""

PERCEIVED, AGAIN = 4, 23
"""Frames of a still scene that are perceived: the first four, and then every so many. The others take over
what was seen in the last four of these, in turn. So what the CNN sees in some frames and not in others, by
noise and coding alone, goes on coming and going; one frame for all would make an object of it or nothing.
23 has no divisor in common with usual distances of key frames, which look sharper or coarser than others."""

_CELL_PX = 8
"""Of the small grey picture. Means over cells even out noise, and a far walker fills a good part of one."""


def block_ticks(sample_fps: float) -> int:
    """Ticks of the time grid in a block, at least 1."""
    return max(1, round(BLOCK_S * sample_fps))


class StillGate:
    """Compares each sampled frame with the one that was perceived when the scene last changed.

    Args:
        threshold: mean absolute difference of a cell, in grey levels of 255, below which it has not changed.
        sample_fps: ticks per second.
    """

    def __init__(self, threshold: float, sample_fps: float) -> None:
        self._threshold, self._ticks = threshold, block_ticks(sample_fps)
        self._block = -1
        self._first: Grey | None = None  # of the scene
        self._count = 0  # frames of the scene before this one

    def takes_over(self, sample: int, grey: Grey) -> int | None:
        """Of which perceived frame this one may take over what was seen: how many back.

        Args:
            sample: its tick.
            grey: its small grey picture (h, w).

        Returns:
            1 is the frame perceived last, `PERCEIVED` the farthest; 0: the scene is still, and this one is
            perceived nevertheless; None: the scene is another.
        """
        block = sample // self._ticks
        if block == self._block and self._first is not None:
            change = cv2.absdiff(grey, self._first)
            cells = -(-grey.shape[1] // _CELL_PX), -(-grey.shape[0] // _CELL_PX)
            means = cv2.resize(change.astype(np.float32), cells, interpolation=cv2.INTER_AREA)
            if means.max() < self._threshold:
                self._count += 1
                if self._count < PERCEIVED or self._count % AGAIN == 0:
                    return 0
                return PERCEIVED - self._count % PERCEIVED
        self._block, self._first, self._count = block, grey, 0
        return None
