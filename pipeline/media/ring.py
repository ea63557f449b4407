"""Pictures in memory that a decoding process and its parent share."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray

from pipeline.media.motion import MOTION_GRID_SIZE
from pipeline.media.reader import Picture

_NUM_FLOATS = MOTION_GRID_SIZE + 4  # motion grid, then camera motion
_ALIGNMENT = 4096


class Ring:
    """`num_slots` places, each for one picture of up to `max_pixels` RGB pixels and its motion.

    The memory has no name: nothing is left over, however its processes end.
    """

    def __init__(self, fd: int, num_slots: int, max_pixels: int) -> None:
        self.num_slots, self.max_pixels = num_slots, max_pixels
        self._memory = mmap.mmap(fd, num_slots * _slot_bytes(max_pixels))

    @staticmethod
    def allocate(num_slots: int, max_pixels: int) -> int:
        """File descriptor of new memory for a ring, to be closed by the caller once it is mapped."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("marey-ring")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.truncate(fd, num_slots * _slot_bytes(max_pixels))
        return fd

    def picture(self, slot: int, width: int, height: int) -> Picture:
        """(height, width, 3) uint8 view."""
        start = self._start(slot) + _ALIGNMENT
        return np.frombuffer(self._memory, np.uint8, width * height * 3, start).reshape(height, width, 3)

    def motion(self, slot: int) -> NDArray[np.float32]:
        """(100,) float32 view: 96 numbers of the motion grid, 4 of camera motion."""
        return np.frombuffer(self._memory, np.float32, _NUM_FLOATS, self._start(slot))

    def close(self) -> None:
        """Unmap, unless somebody still holds a view: then the last view's end does it."""
        with contextlib.suppress(BufferError):
            self._memory.close()

    def _start(self, slot: int) -> int:
        if not 0 <= slot < self.num_slots:
            raise ValueError(f"slots are 0 to {self.num_slots - 1}, got {slot}")
        return slot * _slot_bytes(self.max_pixels)


def _slot_bytes(max_pixels: int) -> int:
    pixels = -(-max_pixels * 3 // _ALIGNMENT) * _ALIGNMENT
    return _ALIGNMENT + pixels
