"""What belongs to one job: counts of its frames and losses, and the gaps that the losses leave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from pipeline.media.items import DecodeJob, Gap
from pipeline.media.reader import Frame
from pipeline.media.sampling import seconds

_MERGE_GAPS_S = 1.0
_MAX_GAPS = 100


class Tally:
    """Is told all frames and losses that come by, counts those whose sample is the job's.

    Losses are told in the order of the file among the frames, each with the sample it would belong to.
    """

    def __init__(self, job: DecodeJob, time_base: Fraction) -> None:
        self._job, self._time_base = job, time_base
        self._gaps = _Gaps()
        self._last_ticks: int | None = None
        self._last_duration = 0
        self.frames_decoded = self.frames_failed = 0

    def is_past(self, sample: int) -> bool:
        """Whether the sample comes after the job's."""
        return self._job.end_sample is not None and sample >= self._job.end_sample

    def show(self, sample: int, frame: Frame) -> None:
        """A good frame, the next in order of presentation."""
        self._gaps.show(self._seconds(frame.ticks))
        if sample >= self._job.first_sample and not self.is_past(sample):
            self.frames_decoded += 1
            # Not the frame itself, which would keep its picture.
            self._last_ticks, self._last_duration = frame.ticks, frame.duration

    def lose(self, sample: int, ticks: int, before: int | None = None) -> None:
        """A packet that did not decode and would have been shown at `ticks`.

        `before` are those of the last good frame, which of the job's first losses may be no frame of the job.
        """
        if sample >= self._job.first_sample and not self.is_past(sample):
            self.frames_failed += 1
            last = before if self._last_ticks is None else self._last_ticks
            self._gaps.lose(None if last is None else self._seconds(last), self._seconds(ticks))

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """All gaps; one that nothing good came after has no end."""
        return self._gaps.all()

    @property
    def last_t(self) -> float | None:
        """Time in seconds of the job's last frame."""
        return None if self._last_ticks is None else self._seconds(self._last_ticks)

    @property
    def end_t(self) -> float | None:
        """When the display of the job's last frame ends, in seconds, if its duration is known."""
        if self._last_ticks is None or not self._last_duration:
            return None
        return self._seconds(self._last_ticks + self._last_duration)

    def _seconds(self, ticks: int) -> float:
        return seconds(ticks, self._time_base)


@dataclass
class _Open:
    """Losses that no good frame came after yet: the good frame before, the first and the last loss."""

    t_start: float
    first: float
    last: float
    frames: int = 1


class _Gaps:
    """Runs of lost packets between good frames; near ones are taken together, so the list stays short."""

    def __init__(self) -> None:
        self._done: list[Gap] = []
        self._open: _Open | None = None

    def lose(self, t_before: float | None, t: float) -> None:
        """One more packet is lost, to be shown at `t` seconds; the last good frame is at `t_before`."""
        if self._open is None:
            self._open = _Open(t if t_before is None else min(t, t_before), t, t)
            return
        gap = self._open
        gap.first, gap.last, gap.frames = min(gap.first, t), max(gap.last, t), gap.frames + 1

    def show(self, t: float) -> None:
        """A good frame is shown at `t` seconds."""
        gap = self._open
        if gap is None:
            return
        if t < gap.first:  # it was still in the decoder when the loss came
            gap.t_start = max(gap.t_start, t)
        elif t > gap.last:
            self._open = None
            self._add(Gap(gap.t_start, t, gap.frames, "media"))

    def _add(self, gap: Gap) -> None:
        last = self._done[-1] if self._done else None
        if last is not None and (_are_near(last, gap) or len(self._done) == _MAX_GAPS):
            self._done[-1] = _together(last, gap)
        else:
            self._done.append(gap)

    def all(self) -> tuple[Gap, ...]:
        """All gaps, the open one last."""
        rest = [Gap(self._open.t_start, None, self._open.frames, "media")] if self._open else []
        return (*self._done, *rest)


def joined_gaps(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Gaps of jobs that follow on each other: of one loss both may tell, and near ones are one."""
    found: list[Gap] = []
    for gap in gaps:
        if found and found[-1].cause == gap.cause == "media" and _are_near(found[-1], gap):
            found[-1] = _together(found[-1], gap)
        else:
            found.append(gap)
    return tuple(found)


def _are_near(gap: Gap, later: Gap) -> bool:
    return gap.t_end is not None and later.t_start - gap.t_end < _MERGE_GAPS_S


def _together(gap: Gap, later: Gap) -> Gap:
    return Gap(gap.t_start, later.t_end, gap.frames + later.frames, "media")
