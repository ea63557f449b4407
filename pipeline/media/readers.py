"""Which reader opens a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from pipeline.media.container import Limits, file_identity
from pipeline.media.decord_reader import DecordReader
from pipeline.media.items import DecodeJob
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Reader, ReaderFailed
from pipeline.media.scan import Scanner
from pipeline.media.sparse_reader import CODECS, SparseReader

_MIN_SAMPLES, _MIN_FRAMES_PER_SAMPLE = 16, 1.5


class Readers:
    """Opens files with the reader that a job names, or with PyAV where that one does not do."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._failed: tuple[object, str] | None = None  # the last file that was given up, and why

    def open(self, job: DecodeJob, progress: Callable[[], None]) -> Reader:
        """Open a job's file; `progress` is called now and then.

        Raises:
            SourceError, MediaError: as `open_container` says.
        """
        limits = Limits(job.max_pixels, job.max_streams)
        if job.reader == "decord" and self.note(job) is None:
            try:
                return DecordReader(job.path, limits, self._scanner.scan(job.path, limits, progress))
            except ReaderFailed as exc:
                self.give_up(job, exc)
        reader = PyavReader(job.path, limits)
        if self._is_sparse(job, reader):
            with contextlib.suppress(ReaderFailed):
                return SparseReader(reader, self._scanner.scan(job.path, limits, progress), job.sample_fps)
        return reader

    def _is_sparse(self, job: DecodeJob, reader: PyavReader) -> bool:
        """Whether so few of the frames are asked for that it pays to know all packets beforehand."""
        many = job.end_sample is None or job.end_sample - job.first_sample >= _MIN_SAMPLES
        known = self._failed is not None and self._failed[0] == file_identity(job.path)
        if not job.sample_fps or not many or known or reader.info.codec not in CODECS:
            return False
        return (reader.info.fps_mean or 0.0) >= _MIN_FRAMES_PER_SAMPLE * job.sample_fps

    def give_up(self, job: DecodeJob, reason: ReaderFailed) -> None:
        """Let PyAV read the job's file from now on, and every frame."""
        self._failed = file_identity(job.path), str(reason)

    def note(self, job: DecodeJob) -> str | None:
        """Why the job's file is not read by the reader that the job names; None if nothing is known."""
        if job.reader == "pyav" or self._failed is None or self._failed[0] != file_identity(job.path):
            return None
        return f"{job.reader}: {self._failed[1]}"
