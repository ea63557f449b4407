"""Presentation times out of what a decoder says: missing, repeated, backward times become usable ones."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from pipeline.media.info import TimeSource

_RESTART_S = 1
"""Seconds: a smaller step backwards is bad order, a larger one is a clock that began anew."""

_LEAP_S = 60
"""Seconds ahead of everything before from which on the time of a lost packet is damage itself."""


class Clock:
    """Counts presentation time from the first displayed frame, in units of the stream's time base.

    Times never decrease: a frame that claims to be earlier than the one before is shown together with it.
    After a jump back of more than a second (clock reset, joined recordings) time runs on from the frame
    before. A frame without pts takes its dts, else the frame before plus a duration.
    """

    def __init__(self, time_base: Fraction, fps_hint: float | None) -> None:
        self._restart = max(1, round(_RESTART_S / time_base))
        self._leap = max(1, round(_LEAP_S / time_base))
        self._step = max(1, round(1 / (Fraction(fps_hint or 25) * time_base)))
        self._sources: Counter[TimeSource] = Counter()
        self._last: int | None = None  # stamp of the frame before, offset included
        self._last_duration = 0
        self._offset = 0  # what was added after jumps back
        self._farthest: int | None = None  # ticks of all that was shown or lost since the start or a seek
        self.origin: int | None = None

    @property
    def time_source(self) -> TimeSource:
        """Where most of the times came from; `pts` while there are none."""
        return max(self._sources, key=self._sources.__getitem__, default="pts")

    def show(self, pts: int | None, dts: int | None, duration: int) -> int:
        """Ticks from the first frame to this one, which is shown next."""
        stamp = self._stamp(pts, dts)
        if self._last is not None and stamp < self._last:
            if self._last - stamp > self._restart:
                self._offset += self._next() - stamp
                stamp = self._next()
            else:
                stamp = self._last
        if self.origin is None:
            self.origin = stamp
        self._last, self._last_duration = stamp, duration
        self._farthest = max(stamp - self.origin, self._farthest or 0)
        return stamp - self.origin

    def place(self, pts: int | None) -> int | None:
        """Ticks at which a packet that was lost would have been shown; None if that is unknown.

        Frames come in order, so that is not before the last one shown. A place more than a minute ahead of
        all that was shown or lost before is not believed: damage reaches time stamps too.
        """
        if pts is None or self.origin is None:
            return None
        shown = self.origin if self._last is None else self._last
        ticks = max(shown, pts + self._offset) - self.origin
        if self._farthest is not None and ticks > self._farthest + self._leap:
            return None
        self._farthest = max(ticks, self._farthest or 0)
        return ticks

    def place_before(self, pts: int | None) -> int | None:
        """Ticks of what was lost just before the frame shown at `pts`; None if that is unknown."""
        ticks = self.place(pts)
        return None if ticks is None else max(0, ticks - 1)

    def jump(self) -> None:
        """Forget the frame before, after a seek; the origin stays."""
        self._last = self._farthest = None

    def _stamp(self, pts: int | None, dts: int | None) -> int:
        if pts is not None:
            self._sources["pts"] += 1
            return pts + self._offset
        if dts is not None:
            self._sources["dts"] += 1
            return dts + self._offset
        self._sources["duration"] += 1
        return 0 if self._last is None else self._next()

    def _next(self) -> int:
        assert self._last is not None  # only asked for after a first frame
        return self._last + (self._last_duration or self._step)
