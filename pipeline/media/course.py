"""One way through an open file, on which jobs that follow on each other take their part in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from itertools import chain

import numpy as np

from pipeline.media.container import file_identity
from pipeline.media.items import DecodeJob, JobEnd, SampledFrame
from pipeline.media.letterbox import Letterbox
from pipeline.media.motion import CameraMotion, MotionMeter
from pipeline.media.reader import Frame, Grey, Lost, Picture, Reader
from pipeline.media.sampling import Display, Grid, seconds
from pipeline.media.seeking import SeekPoint
from pipeline.media.still import StillGate
from pipeline.media.tally import Tally

_MAX_EARLY = 10_000
"""Losses remembered for later jobs; a file with more of them is opened anew for each job."""

_BEHIND = 2
"""Sampled frames that wait to be rendered while the next ones are decoded."""

_NO_PICTURE: Picture = np.zeros((0, 0, 3), np.uint8)


class Course:
    """An open file with all that its samples depend on: what was on display, motion, losses.

    A job gets the same items whether the course began with it or served others before. Between jobs the
    course holds the decoder, at most three of its frames and a few small grey pictures; at the end of the
    file it closes it.

    Args:
        job: the first of the jobs.
        open_reader: opens the job's file; its errors pass through.
        beside: one thread that renders and measures while decoding goes on, where the reader allows it.
    """

    def __init__(self, job: DecodeJob, open_reader: Callable[[], Reader], beside: Executor) -> None:
        self._beside = beside
        self._reading, self._identity = job.reading, file_identity(job.path)
        self.reader = open_reader()
        info = self.reader.info
        self.letterbox = Letterbox.fit(
            info.width_px, info.height_px, job.width, job.height, stretch=job.stretch
        )
        self._time_base = info.time_base
        self._events = self.reader.events()
        self._display = Display[Frame](Grid.of(job.sample_fps, info.time_base) if job.sample_fps else None)
        self._meter = MotionMeter(self.letterbox, grid=job.motion_grid)
        self._gate = StillGate(job.still_threshold, job.sample_fps) if job.still_threshold else None
        self._grey: Grey | None = None  # of the last item's frame, if there is a gate
        self._still: Frame | None = None  # of the last item, if it was still: motion knows nothing of it
        self._passed: Frame | None = None  # the last sampled frame, if it was no item
        self._early: list[tuple[int, int]] = []  # losses that belong to later jobs: sample and ticks
        self._before: int | None = None  # ticks of the frame before the newest
        self.position: int | None = 0
        """The first sample that is still to come; None while a job is at work, or after one broke off."""

    def close(self) -> None:
        """Close the file; may be called twice."""
        self.reader.close()

    def reaches(self, job: DecodeJob) -> bool:
        """Whether the job's samples are still to come, and the file is the one that was opened."""
        return (
            self.position is not None
            and self.position <= job.first_sample
            and self._reading == job.reading
            and len(self._early) < _MAX_EARLY
            and self._identity is not None
            and self._identity == file_identity(job.path)
        )

    def num_lost(self) -> int:
        """Go through the rest of the file and count what does not decode."""
        return sum(isinstance(event, Lost) for event in self._events)

    def seek(self, point: SeekPoint, progress: Callable[[], None]) -> bool:
        """Begin in the middle, before any job.

        Returns:
            Whether the first frame that comes out is one that may; if not, the course is of no more use.
        """
        self.reader.seek(point.key)
        self._events = self.reader.events()
        lead: list[Frame | Lost] = []
        for event in self._events:
            progress()
            lead.append(event)
            if isinstance(event, Frame):
                self._events = chain(lead, self._events)
                return point.allows(event.pts)
        return False

    def items(self, job: DecodeJob, progress: Callable[[], None]) -> Iterator[SampledFrame | JobEnd]:
        """The job's frames and its end; `progress` is called at every frame and loss, sampled or not."""
        self.position = None
        tally = Tally(job, self._time_base)
        waiting: deque[Future[SampledFrame]] = deque()
        for sample, frame in self._on_display(tally, progress):
            if sample < job.first_sample:
                self._passed = frame
                continue
            passed, self._passed = self._passed, None
            item = partial(self._item, job, sample, frame, passed)
            if not self.reader.renders_apart:
                yield item()
                continue
            waiting.append(self._beside.submit(item))
            if len(waiting) > _BEHIND:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        end_of_file = self._display.newest is None
        if end_of_file:
            self.close()
        self.position = job.end_sample
        yield self._end(job, tally, end_of_file)

    def _on_display(self, tally: Tally, progress: Callable[[], None]) -> Iterator[tuple[int, Frame]]:
        """Samples and frames up to the job's last, counting on the way what belongs to it."""
        self._recall(tally)
        display = self._display
        if display.newest is not None:
            tally.show(*display.newest)
        while display.newest is None or not tally.is_past(display.newest[0]):
            event = next(self._events, None)
            if event is None:
                last = display.finish()
                if last is not None:
                    yield last
                return
            progress()
            if isinstance(event, Lost):
                self._lose(event, tally)
                continue
            self._before = display.newest[1].ticks if display.newest else None
            before = display.show(event)
            assert display.newest is not None  # the event
            tally.show(*display.newest)
            if before is not None:
                yield before

    def _lose(self, lost: Lost, tally: Tally) -> None:
        newest = self._display.newest[1].ticks if self._display.newest else None
        ticks = lost.ticks if lost.ticks is not None else newest or 0
        sample = self._display.sample_at(ticks)
        tally.lose(sample, ticks, newest)
        if tally.is_past(sample) and len(self._early) < _MAX_EARLY:
            self._early.append((sample, ticks))

    def _recall(self, tally: Tally) -> None:
        """Tell a new job of the losses that came by before it and belong to it."""
        for sample, ticks in self._early:
            tally.lose(sample, ticks, self._before)
        self._early = [(sample, ticks) for sample, ticks in self._early if tally.is_past(sample)]

    def _item(self, job: DecodeJob, sample: int, frame: Frame, passed: Frame | None) -> SampledFrame:
        """The item of a sampled frame; `passed` is the one before, if it was no item."""
        t, before, like, picture = self._seconds(frame), self._grey, None, _NO_PICTURE
        if self._gate is not None:
            self._grey = frame.render_grey(*self._meter.size)
            like = self._gate.takes_over(sample, self._grey)
        if not like:
            content = self._content(frame)
            picture = self.letterbox.paste(content)
        camera: CameraMotion | None
        if like is None:
            unknown, self._still = passed or self._still, None
            if unknown is not None:
                self._meter.keep(self._content(unknown), self._seconds(unknown))
            motion_grid, camera = self._meter.step(content, t)
        else:
            assert before is not None and self._grey is not None  # still is what looks like a frame before
            self._still = frame
            motion_grid, camera = self._meter.at_rest(before, self._grey)
        motion = camera.as_tuple() if camera else None
        return SampledFrame(job.key, sample, frame.pts, t, picture, motion_grid, motion, like or 0)

    def _end(self, job: DecodeJob, tally: Tally, end_of_file: bool) -> JobEnd:
        return JobEnd(
            job.key,
            self.reader.info,
            self.letterbox,
            frames_decoded=tally.frames_decoded,
            frames_failed=tally.frames_failed,
            gaps=tally.gaps,
            last_t=tally.last_t,
            end_t=tally.end_t,
            end_of_file=end_of_file,
            next_sample=self._next_sample(job),
            time_source=self.reader.time_source,
            reader=self.reader.name,
        )

    def _next_sample(self, job: DecodeJob) -> int | None:
        """The first sample after the job's that shows something, as far as that is known."""
        newest = self._display.newest
        if newest is None or job.end_sample is None:
            return None
        lost = [sample for sample, _ in self._early]
        return max(job.end_sample, min([newest[0], *lost]))

    def _content(self, frame: Frame) -> Picture:
        return frame.render(self.letterbox.content_width, self.letterbox.content_height)

    def _seconds(self, frame: Frame) -> float:
        return seconds(frame.ticks, self._time_base)
