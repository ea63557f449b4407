"""Frames from decoding processes that may hang, crash or grow without harm: `Feed`."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import WorkerError
from pipeline.media.items import Cause, DecodeJob, Gap, Item, JobEnd, JobStart, SampledFrame
from pipeline.media.process import DecodingProcess

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25
_ATTEMPTS = 2

_REASONS: dict[Cause, str] = {
    "timeout": "made no progress for too long",
    "memory": "grew above its memory limit",
    "crash": "crashed",
    "media": "met damaged media",
}

_INSTALLATION = "see whether this Python has what they need: python -c 'import av, cv2, numpy'"


@dataclass
class _Task:
    """A job on its way: which attempt, and what has been handed on."""

    job: DecodeJob
    attempt: int = 1
    start: JobStart | None = None
    sample: int = -1
    t: float | None = None
    num_samples: int = 0

    def given_up(self, cause: Cause) -> JobEnd:
        """The end of a job that failed twice: all that was not handed on is one gap."""
        job, start = self.job, self.start
        begin = job.first_sample / job.sample_fps if job.sample_fps else 0.0
        end = job.end_sample / job.sample_fps if job.end_sample and job.sample_fps else None
        gap = Gap(begin if self.t is None else self.t, end, 0, cause)
        remedy = "the file may be damaged; others are not affected"
        error = WorkerError(
            f"{job.path}: the decoding process {_REASONS[cause]} twice", remedy=remedy, code=cause
        )
        return JobEnd(
            job.key,
            start.info if start else None,
            start.letterbox if start else None,
            frames_decoded=self.num_samples,
            gaps=(gap,),
            last_t=self.t,
            error=None if start else error,
        )


class Feed:
    """Decodes jobs in `num_processes` child processes, one job in each at a time.

    A process that makes no progress for `stall_s`, grows above `max_memory_bytes` (both of the job) or ends
    is killed and replaced; its job is tried once more, with no other job running beside it, and goes on
    after the last sample handed on. If that fails too, the job ends with a gap that says why.

    Use as a context manager: leaving it kills the processes. They also end when this process does.

    Args:
        num_processes: decoding processes, started when they are first needed.
        ring_size: pictures that each may decode ahead.
        max_pixels: pixels of the largest picture that a job may ask for.
    """

    def __init__(self, num_processes: int = 1, ring_size: int = 16, max_pixels: int = 544 * 320) -> None:
        if num_processes < 1 or ring_size < 2:
            raise ValueError(f"a feed needs a process and two slots, got {num_processes}, {ring_size}")
        self._ring_size, self._max_pixels = ring_size, max_pixels
        self._num_processes = num_processes
        self._processes: list[DecodingProcess] = []  # all that were started and not ended
        self._busy: dict[DecodingProcess, _Task] = {}
        self._retries: deque[_Task] = deque()
        self._abandoned = False
        self._early: Future[DecodingProcess] | None = None
        # The kernel kills children when the thread that started them ends, so one thread that lasts does it.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="marey-feed")

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all processes and free their memory; the feed can be used again."""
        self._starter.shutdown()  # waits for a process that is just being started
        self._early = None
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="marey-feed")
        for process in self._processes:
            process.kill()
        while self._processes:
            self._end(self._processes[-1])
        self._retries.clear()

    def warm(self) -> None:
        """Begin to start the first process, whose imports take as long as those of a network."""
        if not self._processes and self._early is None:
            self._early = self._begin_start()

    def abandon(self) -> None:
        """From another thread than the one that runs it: kill what is at work, and begin nothing more."""
        self._abandoned = True
        for process in list(self._processes):
            process.kill()

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that live now."""
        return [process.pid for process in self._processes]

    def run(self, jobs: Iterable[DecodeJob | None]) -> Iterator[Item]:
        """The items of all jobs: per job `JobStart`, `SampledFrame`s by number, one `JobEnd`.

        Items of jobs that run at once are mixed. A job is taken from `jobs` when a process is free for it,
        preferably the one that has the file open from a job before. A frame's picture is valid until the next
        item is asked for. None among the jobs: the next is not ready while others are at work. Breaking off,
        or beginning another run, kills the processes at work.

        Raises:
            ValueError: a job asks for a picture larger than `max_pixels`.
            WorkerError: processes cannot be started, or end before they begin.
        """
        self._break_off()
        queue, busy = iter(jobs), self._busy
        try:
            while busy is self._busy:  # until another run takes over
                self._assign(queue)
                if not self._busy:
                    return
                ready = wait([process.connection for process in self._busy], _LOOK_EVERY_S)
                for process in [process for process in self._busy if process.connection in ready]:
                    if process in self._busy:
                        yield from self._next_items(process)
                yield from self._look_after()
        finally:
            if busy is self._busy:
                self._break_off()

    def _break_off(self) -> None:
        for process in list(self._busy):
            self._end(process)
        self._retries.clear()
        self._busy = {}

    def _assign(self, queue: Iterator[DecodeJob | None]) -> None:
        """Give jobs to free processes; a second attempt gets the machine for itself."""
        while len(self._busy) < self._num_processes:
            if any(task.attempt > 1 for task in self._busy.values()):
                return
            if self._retries:
                if self._busy:
                    return
                task = self._retries.popleft()
            else:
                job = next(queue, None)
                if job is None:
                    return
                task = _Task(self._checked(job))
            process = self._process_for(task.job)
            self._busy[process] = task
            # Should it be gone meanwhile, the next look at it tells.
            with contextlib.suppress(OSError):
                process.give(task.job, task.attempt, task.sample)

    def _process_for(self, job: DecodeJob) -> DecodingProcess:
        """Of the free processes the one whose open file is nearest before the job, else a new one."""
        if self._early is not None:
            self._early.exception()  # waits; where it failed, starting it again tells why
            self._early = None
        free = [process for process in self._processes if process not in self._busy]
        for process in sorted(free, key=lambda process: process.stands_at(job), reverse=True):
            if process.alive:
                return process
            self._end(process)
        if self._abandoned:
            raise WorkerError("no decoding process is started any more")
        try:
            return self._begin_start().result()
        except OSError as exc:
            raise WorkerError("no decoding process can be started", remedy=str(exc)) from exc

    def _begin_start(self) -> Future[DecodingProcess]:
        # An interrupt while the starter's thread is being started would hide the thread from `close`. It
        # must not have a process to start yet.
        self._starter.submit(int).result()
        return self._starter.submit(self._start)

    def _start(self) -> DecodingProcess:
        process = DecodingProcess(self._ring_size, self._max_pixels)
        # Here, not where its start is waited for: an interrupt there must not lose it.
        self._processes.append(process)
        return process

    def _checked(self, job: DecodeJob) -> DecodeJob:
        if job.width * job.height > self._max_pixels:
            raise ValueError(
                f"this feed has room for {self._max_pixels} pixels, got {job.width}x{job.height}"
            )
        return replace(job, path=str(Path(job.path).absolute()))

    def _next_items(self, process: DecodingProcess) -> Iterator[Item]:
        task = self._busy[process]
        try:
            message = process.receive()
            item = _item_of(message, process, task)
        except (EOFError, OSError):
            yield from self._failed(process, "crash")
        except (ValueError, KeyError, TypeError):
            logger.warning("decoding process %d sent nonsense", process.pid, exc_info=True)
            yield from self._failed(process, "crash")
        else:
            if message["kind"] == "memory":
                yield from self._failed(process, "memory")
            elif isinstance(item, SampledFrame):
                task.sample, task.t, task.num_samples = item.sample, item.t, task.num_samples + 1
                yield item
                process.free(message["slot"])
            elif isinstance(item, JobStart):
                if task.start is None:
                    task.start = item
                    yield item
            elif isinstance(item, JobEnd):
                del self._busy[process]
                if item.error is None:
                    process.finish(task.job)
                yield item

    def _look_after(self) -> Iterator[Item]:
        for process, task in list(self._busy.items()):
            if process.too_large(task.job.max_memory_bytes):
                yield from self._failed(process, "memory")
            elif process.stalled(task.job.stall_s):
                yield from self._failed(process, "timeout")

    def _failed(self, process: DecodingProcess, cause: Cause) -> Iterator[Item]:
        """Replace the process; try its job again, or end the job with a gap.

        Raises:
            WorkerError: no process can take any job, which says nothing of the file.
        """
        if cause == "crash" and (ended := process.never_began()) is not None:
            raise WorkerError("decoding processes end before they begin", got=ended, remedy=_INSTALLATION)
        task = self._busy[process]
        ended = self._end(process)
        logger.warning("decoding %s: the process %s (%s)", task.job.path, _REASONS[cause], ended)
        if task.attempt < _ATTEMPTS and not self._abandoned:
            task.attempt += 1
            self._retries.append(task)
        else:
            yield task.given_up(cause)

    def _end(self, process: DecodingProcess) -> str:
        how = process.end()
        self._processes.remove(process)
        self._busy.pop(process, None)
        return how


def _item_of(message: dict[str, Any], process: DecodingProcess, task: _Task) -> Item | None:
    """The item that a message carries; None for messages that are not items."""
    kind, key = message["kind"], task.job.key
    if kind == "start":
        return replace(JobStart.from_json(message["item"]), job_key=key)
    if kind == "end":
        return replace(JobEnd.from_json(message["item"]), job_key=key)
    if kind != "frame":
        return None
    motion = process.ring.motion(message["slot"])
    dx, dy, scale, rotation = motion[-4:].tolist()
    like = int(message["like"])
    size = (0, 0) if like else (task.job.width, task.job.height)
    picture = process.ring.picture(message["slot"], *size)
    picture.flags.writeable = False
    return SampledFrame(
        key,
        int(message["sample"]),
        None if message["pts"] is None else int(message["pts"]),
        float(message["t"]),
        picture,
        np.array(motion[:-4]),
        (dx, dy, scale, rotation) if message["camera"] else None,
        like,
    )
