"""What any reader of videos offers: one pass over the displayed frames, in order of presentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.media.info import TimeSource, VideoInfo

ReaderName = Literal["pyav", "decord"]

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB, uint8 in [0, 255], upright."""

Grey = NDArray[np.uint8]
"""(H, W) brightness, uint8 in [0, 255], upright."""


@dataclass(frozen=True)
class Frame:
    """A decoded frame that is meant to be shown.

    `ticks` is its presentation time from the first displayed frame in units of the stream's time base, never
    less than the frame's before; `pts` is the time in the file, None if the file has none. `duration` is in
    the same units, 0 if unknown. `render(width, height)` gives the upright picture in that size,
    `render_grey` its brightness alone, where it can at less cost; they can be called until the reader is
    closed, and, where only frames on display at ticks are decoded, for these.
    """

    ticks: int
    pts: int | None
    duration: int
    render: Callable[[int, int], Picture]
    render_grey: Callable[[int, int], Grey]


@dataclass(frozen=True)
class Lost:
    """A packet that did not decode; `ticks` is where its picture would have been shown, None if unknown."""

    ticks: int | None


class ReaderFailed(Exception):
    """A file cannot be read as PyAV reads all of it; its message says why. PyAV is to read all of it.

    Raised at opening, by `events()`, and by a frame's `render`.
    """


class Reader(Protocol):
    """An open file. `info` is complete after opening; frames that edit lists hide are never given.

    `can_seek` says whether `seek` may be called at all, `renders_apart` whether a frame may be rendered by
    another thread while `events()` goes on.
    """

    name: ReaderName
    can_seek: bool
    renders_apart: bool
    info: VideoInfo

    @property
    def time_source(self) -> TimeSource:
        """Where most of the frame times so far came from."""
        ...

    @property
    def origin(self) -> int | None:
        """Time in the file of the first displayed frame, in the stream's time base; None without frames."""
        ...

    def events(self) -> Iterator[Frame | Lost]:
        """The rest of the file from where the reader stands."""
        ...

    def seek(self, pts: int) -> None:
        """Go to the key frame at or before `pts`; `events()` then begins there or nearby.

        Where it really begins has to be checked by the `pts` of the first frame. An error of the file
        (`MediaError`) leaves the reader useless, but still to be closed.
        """
        ...

    def close(self) -> None: ...
