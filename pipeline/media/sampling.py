"""The time grid: which frames are taken, and the number of the tick each stands for. Exact arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MediaError

_LONGEST_S = 1e12
"""Where not even the fastest grid's instants are told apart by float64 and int64 any more."""


class HasTicks(Protocol):
    """Anything shown at a time: `ticks` units of the time base after the first displayed frame."""

    @property
    def ticks(self) -> int: ...


Shown = TypeVar("Shown", bound=HasTicks)


@dataclass(frozen=True)
class Grid:
    """Instants k / `sample_fps` seconds after the first displayed frame, k = 0, 1, 2, ...

    `time_base` is the length in seconds of the units in which frames tell their time.
    """

    sample_fps: Fraction
    time_base: Fraction

    def __post_init__(self) -> None:
        if self.sample_fps <= 0 or self.time_base <= 0:
            raise ValueError(f"a grid needs a rate and a time base above 0, got {self}")

    @classmethod
    def of(cls, sample_fps: float, time_base: Fraction) -> Grid:
        """A grid of the rate as it is written: 29.97 is 2997/100, not the nearest binary number."""
        return cls(Fraction(repr(sample_fps)), time_base)

    def first_sample(self, ticks: int) -> int:
        """Number of the first instant at or after `ticks`: where a frame shown then is first on display.

        Raises:
            MediaError: see `seconds`.
        """
        rate = self.time_base * self.sample_fps
        seconds(ticks, self.time_base)
        return -(-ticks * rate.numerator // rate.denominator)

    def first_samples(self, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        """`first_sample` of each of the sorted `ticks`, none of them below 0."""
        self.first_sample(int(ticks[-1]))  # whether all can be counted
        rate = self.time_base * self.sample_fps
        exact = ticks if int(ticks[-1]) * rate.numerator < 1 << 62 else ticks.astype(object)
        return np.asarray(-(-exact * rate.numerator // rate.denominator), np.int64)

    def on_instant(self, ticks: int) -> bool:
        """Whether `ticks` is exactly an instant of the grid."""
        return (ticks * self.time_base * self.sample_fps).denominator == 1

    def last_ticks(self, sample: int) -> int:
        """The latest time, in units of the time base, that is not after instant `sample`."""
        return int(sample / self.sample_fps // self.time_base)


def seconds(ticks: int, time_base: Fraction) -> float:
    """The tables' edge: seconds as the nearest float64.

    Raises:
        MediaError: it is so far off that it can be no frame's time.
    """
    found = ticks * time_base.numerator / time_base.denominator
    if found > _LONGEST_S:
        raise MediaError("a frame's time cannot be counted", got=f"{found:.3g} s", code="media_time")
    return found


class Display(Generic[Shown]):
    """Which frames are on display at an instant of the grid, and the number of the first such instant.

    A frame is on display from its time to just before the next frame's, the last one at its own time only.
    Several frames between two instants: the last of them. A frame over several instants is given once.

    Args:
        grid: the instants. None takes every frame; samples are then numbers of frames.
    """

    def __init__(self, grid: Grid | None) -> None:
        self._grid = grid
        self._num_frames = 0
        self.newest: tuple[int, Shown] | None = None
        """The frame taken last with its sample; whether that sample shows it, the next frame tells."""

    def sample_at(self, ticks: int) -> int:
        """The sample to which something belongs that is shown at `ticks`, next after the newest frame."""
        return self._grid.first_sample(ticks) if self._grid else self._num_frames

    def show(self, frame: Shown) -> tuple[int, Shown] | None:
        """Take the next frame in order of presentation; the one before if it was on display at an instant."""
        before, self.newest = self.newest, (self.sample_at(frame.ticks), frame)
        self._num_frames += 1
        return before if before is not None and before[0] < self.newest[0] else None

    def finish(self) -> tuple[int, Shown] | None:
        """There are no more frames; the last one if it is on display at an instant."""
        last, self.newest = self.newest, None
        exact = last is not None and (self._grid is None or self._grid.on_instant(last[1].ticks))
        return last if exact else None


def sample_step_s(sample_fps: float | None, fps_mean: float | None) -> float:
    """Seconds from sample to sample; 0 where nothing is known.

    Args:
        sample_fps: ticks per second of the grid; 0 or None where every frame is sampled.
        fps_mean: frames per second of the video, each of which is sampled once if they are fewer than ticks.
    """
    rates = [rate for rate in (sample_fps, fps_mean) if rate]
    return 1 / min(rates) if rates else 0.0


def shown_at(stamps: NDArray[np.int64], ticks: int) -> int | None:
    """The last of the sorted `stamps` that is not after `ticks`; None if all are."""
    index = int(np.searchsorted(stamps, ticks, side="right")) - 1
    return int(stamps[index]) if index >= 0 else None
