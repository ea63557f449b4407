"""One job, from its file to its items: reading, sampling, letterboxing, motion. In whatever process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain

from pipeline.errors import MareyError
from pipeline.media.container import Limits, undecodable
from pipeline.media.items import DecodeJob, Gap, Item, JobEnd, JobStart, SampledFrame
from pipeline.media.letterbox import Letterbox
from pipeline.media.motion import MotionMeter
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Frame, Lost, Picture, Reader
from pipeline.media.sampling import Grid, on_display, seconds, shown_at
from pipeline.media.scan import Scanner

_LEAD_S = 1
"""Seconds by which a job in the middle of a file begins before its first sample, at least."""

_MERGE_GAPS_S = 1.0
_MAX_GAPS = 100


def decode_inline(job: DecodeJob) -> Iterator[Item]:
    """The job's items, decoded in this process; pictures are the caller's to keep.

    Nothing here protects from a file that makes the decoder hang or crash: that is what `Feed` is for.
    """
    return decode(job, Scanner(), lambda: None)


def decode(job: DecodeJob, scanner: Scanner, progress: Callable[[], None]) -> Iterator[Item]:
    """The job's items; `progress` is called at every frame and loss, sampled or not.

    Errors of the file are told in `JobEnd`, never raised.
    """
    limits = Limits(job.max_pixels, job.max_streams)
    try:
        with PyavReader(job.path, limits) as reader:
            if reader.origin is None:
                lost = sum(isinstance(event, Lost) for event in reader.events())
                yield JobEnd(job.key, reader.info, frames_failed=lost, error=undecodable(job.path))
                return
            info = reader.info
            letterbox = Letterbox.fit(info.width_px, info.height_px, job.width, job.height)
            yield JobStart(job.key, info, letterbox)
            events = _from_the_middle(reader, job, scanner, progress)
            if events is not None:
                yield from _Run(job, reader, letterbox, progress).items(events)
                return
        # The file is not safe for a start in its middle, and where the reader stands now is not known.
        with PyavReader(job.path, limits) as reader:
            yield from _Run(job, reader, letterbox, progress).items(reader.events())
    except MareyError as exc:
        yield JobEnd(job.key, error=exc)


def _from_the_middle(
    reader: Reader, job: DecodeJob, scanner: Scanner, progress: Callable[[], None]
) -> Iterator[Frame | Lost] | None:
    """Events that begin early enough before the job's first sample: near it where that is safe.

    Safe is a file whose packets all have their own time, so that the frame sampled before the first one is
    known; the first frame that comes out after seeking must be one of the scan's and not after that one.
    None: the seek went wrong, open the file again.
    """
    if not job.sample_fps or job.seek_after_s is None:
        return reader.events()
    if job.first_sample <= job.seek_after_s * job.sample_fps:
        return reader.events()
    packets = scanner.scan(job.path, Limits(job.max_pixels, job.max_streams), progress)
    if packets.unsafe is not None or reader.origin is None or packets.stamps[0] != reader.origin:
        return reader.events()
    grid = Grid.of(job.sample_fps, reader.info.time_base)
    before = shown_at(packets.stamps, reader.origin + grid.last_ticks(job.first_sample - 1))
    early = reader.origin + grid.last_ticks(job.first_sample) - round(_LEAD_S / grid.time_base)
    key = None if before is None else shown_at(packets.keys, min(before, early))
    if before is None or key is None or key == packets.keys[0]:
        return reader.events()
    try:
        reader.seek(key)
    except MareyError:
        return None
    events = reader.events()
    lead: list[Frame | Lost] = []
    for event in events:
        progress()
        lead.append(event)
        if isinstance(event, Frame):
            stamp = event.pts
            known = stamp is not None and shown_at(packets.stamps, stamp) == stamp
            return chain(lead, events) if stamp is not None and known and stamp <= before else None
    return None


class _Run:
    """Goes once over a reader's events and makes items of those that belong to the job."""

    def __init__(
        self, job: DecodeJob, reader: Reader, letterbox: Letterbox, progress: Callable[[], None]
    ) -> None:
        self._job, self._reader, self._letterbox, self._progress = job, reader, letterbox, progress
        self._time_base: Fraction = reader.info.time_base
        self._grid = Grid.of(job.sample_fps, self._time_base) if job.sample_fps else None
        self._gaps = _Gaps()
        self._frames_seen = self._decoded = self._failed = 0
        self._last: Frame | None = None
        self._whole = True  # until the job's end comes before the file's

    def items(self, events: Iterator[Frame | Lost]) -> Iterator[Item]:
        meter = MotionMeter(self._letterbox)
        before: Frame | None = None
        for sample, frame in self._numbered(self._frames(events)):
            if sample < self._job.first_sample:
                before = frame
            elif not self._past_end(sample):
                if before is not None:
                    meter.step(self._content(before), self._seconds(before.ticks))
                    before = None
                yield self._item(sample, frame, meter)
        yield self._end()

    def _item(self, sample: int, frame: Frame, meter: MotionMeter) -> SampledFrame:
        content, t = self._content(frame), self._seconds(frame.ticks)
        motion_grid, camera = meter.step(content, t)
        motion = camera.as_tuple() if camera else None
        return SampledFrame(
            self._job.key, sample, frame.pts, t, self._letterbox.paste(content), motion_grid, motion
        )

    def _content(self, frame: Frame) -> Picture:
        return frame.render(self._letterbox.content_width, self._letterbox.content_height)

    def _seconds(self, ticks: int) -> float:
        return seconds(ticks, self._time_base)

    def _numbered(self, frames: Iterator[Frame]) -> Iterator[tuple[int, Frame]]:
        return on_display(frames, self._grid) if self._grid else enumerate(frames)

    def _past_end(self, sample: int) -> bool:
        return self._job.end_sample is not None and sample >= self._job.end_sample

    def _sample_at(self, ticks: int) -> int:
        """The sample that a frame shown at `ticks` belongs to."""
        return self._grid.first_sample(ticks) if self._grid else self._frames_seen

    def _frames(self, events: Iterator[Frame | Lost]) -> Iterator[Frame]:
        """The frames up to the first one past the job, counting those that belong to it."""
        for event in events:
            self._progress()
            if isinstance(event, Lost):
                self._count_loss(event)
                continue
            sample = self._sample_at(event.ticks)
            self._frames_seen += 1
            if self._past_end(sample):
                self._whole = False
                self._gaps.close(self._seconds(event.ticks))
                yield event
                return
            if sample >= self._job.first_sample:
                self._decoded += 1
                self._last = event
                self._gaps.close(self._seconds(event.ticks))
            yield event

    def _count_loss(self, lost: Lost) -> None:
        ticks = lost.ticks if lost.ticks is not None else self._last.ticks if self._last else 0
        sample = self._sample_at(ticks)
        if sample >= self._job.first_sample and not self._past_end(sample):
            self._failed += 1
            self._gaps.lose(self._seconds(self._last.ticks if self._last else ticks))

    def _end(self) -> JobEnd:
        last = self._last
        return JobEnd(
            self._job.key,
            self._reader.info,
            self._letterbox,
            frames_decoded=self._decoded,
            frames_failed=self._failed,
            gaps=self._gaps.all(),
            last_t=self._seconds(last.ticks) if last else None,
            end_t=self._seconds(last.ticks + last.duration) if last and last.duration else None,
            end_of_file=self._whole,
            time_source=self._reader.time_source,
            reader=self._reader.name,
        )


class _Gaps:
    """Runs of lost packets between good frames; near ones are taken together, so the list stays short."""

    def __init__(self) -> None:
        self._done: list[Gap] = []
        self._open: Gap | None = None

    def lose(self, t: float) -> None:
        """One more packet is lost, after the good frame at `t` seconds."""
        frames = self._open.frames + 1 if self._open else 1
        self._open = Gap(self._open.t_start if self._open else t, None, frames, "media")

    def close(self, t: float) -> None:
        """A good frame is shown at `t` seconds."""
        if self._open is None:
            return
        gap, self._open = Gap(self._open.t_start, t, self._open.frames, "media"), None
        last = self._done[-1] if self._done else None
        near = last is not None and last.t_end is not None and gap.t_start - last.t_end < _MERGE_GAPS_S
        if last is not None and (near or len(self._done) == _MAX_GAPS):
            self._done[-1] = Gap(last.t_start, gap.t_end, last.frames + gap.frames, "media")
        else:
            self._done.append(gap)

    def all(self) -> tuple[Gap, ...]:
        """All gaps; one that nothing good came after has no end."""
        return (*self._done, *([self._open] if self._open else []))
