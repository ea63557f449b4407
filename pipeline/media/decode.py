"""Jobs to items: reading, sampling, letterboxing, motion. In whatever process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pipeline.errors import MareyError
from pipeline.media.container import Limits, undecodable
from pipeline.media.course import Course
from pipeline.media.items import DecodeJob, Item, JobEnd, JobStart, SampledFrame
from pipeline.media.reader import ReaderFailed
from pipeline.media.readers import Readers
from pipeline.media.scan import Scanner
from pipeline.media.seeking import seek_point


def decode_inline(job: DecodeJob) -> Iterator[Item]:
    """The job's items, decoded in this process; pictures are the caller's to keep.

    Nothing here protects from a file that makes the decoder hang or crash: that is what `Feed` is for.
    """
    with contextlib.closing(Decoder()) as decoder:
        yield from decoder.items(job, lambda: None)


class Decoder:
    """Decodes one job after the other, and keeps the last one's file open for one that goes on with it.

    That is a job on the same unchanged file with the same settings, whose first sample comes at or after the
    last job's end. It gets exactly what it would get from a file opened for it.
    """

    def __init__(self) -> None:
        self._scanner = Scanner()
        self._readers = Readers(self._scanner)
        self._course: Course | None = None
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="marey-render")

    def close(self) -> None:
        """Close the file that is kept open, if one is."""
        if self._course is not None:
            self._course.close()
        self._course = None

    def items(self, job: DecodeJob, progress: Callable[[], None], *, fresh: bool = False) -> Iterator[Item]:
        """The job's items; `progress` is called at every frame and loss, and now and then between them.

        Errors of the file are told in `JobEnd`, never raised. Where a reader fails that is not PyAV, PyAV
        reads the job again and goes on after the last frame given. `fresh`: open the file anew in any case.
        """
        started, last = False, -1
        try:
            try:
                for item in self._read(job, progress, fresh):
                    started = True
                    last = item.sample if isinstance(item, SampledFrame) else last
                    yield item
            except ReaderFailed as exc:
                self._readers.give_up(job, exc)
                for item in self._read(job, progress, fresh=True):
                    old = isinstance(item, JobStart) and started
                    if not (old or (isinstance(item, SampledFrame) and item.sample <= last)):
                        yield item
        except MareyError as exc:
            self.close()
            yield JobEnd(job.key, error=exc)

    def _read(self, job: DecodeJob, progress: Callable[[], None], fresh: bool) -> Iterator[Item]:
        course = self._course
        if course is None or fresh or not course.reaches(job):
            course = self._open(job, progress)
        if course.reader.origin is None:
            lost, error = course.num_lost(), undecodable(job.path)
            self.close()
            yield JobEnd(job.key, course.reader.info, frames_failed=lost, error=error)
            return
        yield JobStart(job.key, course.reader.info, course.letterbox)
        if course.position != job.first_sample:
            course = self._nearer(course, job, progress)
        for item in course.items(job, progress):
            yield self._explained(item, job, progress) if isinstance(item, JobEnd) else item

    def _explained(self, end: JobEnd, job: DecodeJob, progress: Callable[[], None]) -> JobEnd:
        reason = None
        if job.explain:
            limits = Limits(job.max_pixels, job.max_streams)
            reason = self._scanner.scan(job.path, limits, progress).unsafe
        return replace(end, reader_note=self._readers.note(job), read_from_start=reason)

    def _open(self, job: DecodeJob, progress: Callable[[], None]) -> Course:
        self.close()
        self._course = Course(job, lambda: self._readers.open(job, progress), self._beside)
        return self._course

    def _nearer(self, course: Course, job: DecodeJob, progress: Callable[[], None]) -> Course:
        """A course that begins near the job's first sample where that is safe, else the one given."""
        point = seek_point(course.reader, job, self._scanner, progress) if course.reader.can_seek else None
        if point is None:
            return course
        if course.position:
            course = self._open(job, progress)
        with contextlib.suppress(MareyError):
            if course.seek(point, progress):
                return course
        return self._open(job, progress)
