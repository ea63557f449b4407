"""Which reader opens a file."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.errors import MediaError
from pipeline.media.container import Limits, file_identity
from pipeline.media.decord_reader import DecordReader
from pipeline.media.info import VideoInfo
from pipeline.media.items import DecodeJob
from pipeline.media.nal import CODECS
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Reader, ReaderFailed
from pipeline.media.sampling import Grid
from pipeline.media.scan import Scanner
from pipeline.media.sparse import plan_for


class Readers:
    """Opens files with the reader that a job names, or with PyAV where that one does not do."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._failed: tuple[object, str] | None = None  # the last file that was given up, and why

    def open(self, job: DecodeJob, progress: Callable[[], None]) -> Reader:
        """Open a job's file; `progress` is called now and then while it is read.

        Raises:
            SourceError, MediaError: as `open_container` says.
        """
        limits = Limits(job.max_pixels, job.max_streams)
        if job.reader == "decord" and self.note(job) is None:
            try:
                return DecordReader(job.path, limits, self._scanner.scan(job.path, limits, progress))
            except ReaderFailed as exc:
                self.give_up(job, exc)
        reader = PyavReader(job.path, limits, progress)
        try:
            if self._may_be_sparse(job, reader.info):
                grid = Grid.of(job.sample_fps, reader.info.time_base)
                packets = self._scanner.scan(job.path, limits, progress)
                if (plan := plan_for(packets, grid, reader.origin)) is not None:
                    reader.read_sparsely(plan)
        except MediaError as exc:
            reader.close()
            raise ReaderFailed(str(exc)) from exc
        except BaseException:
            reader.close()
            raise
        return reader

    def _may_be_sparse(self, job: DecodeJob, info: VideoInfo) -> bool:
        """Whether it is worth a look if some of the job's file need not be decoded."""
        if not (job.sparse and job.sample_fps) or job.reader != "pyav" or self._has_failed(job):
            return False
        return info.codec in CODECS and (info.fps_mean is None or info.fps_mean > job.sample_fps)

    def give_up(self, job: DecodeJob, reason: ReaderFailed) -> None:
        """Let PyAV read the job's file from now on, and decode all of it."""
        self._failed = file_identity(job.path), str(reason)

    def note(self, job: DecodeJob) -> str | None:
        """Why the job's file is not read by the reader that the job names; None if nothing is known."""
        if job.reader == "pyav" or self._failed is None or not self._has_failed(job):
            return None
        return f"{job.reader}: {self._failed[1]}"

    def _has_failed(self, job: DecodeJob) -> bool:
        return self._failed is not None and self._failed[0] == file_identity(job.path)
