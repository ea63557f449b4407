"""Frames from decoding processes that may hang, crash or grow without harm: `Feed`."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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

    def __init__(self, num_processes: int = 1, ring_size: int = 16, max_pixels: int = 512 * 288) -> None:
        if num_processes < 1 or ring_size < 2:
            raise ValueError(f"a feed needs a process and two slots, got {num_processes}, {ring_size}")
        self._ring_size, self._max_pixels = ring_size, max_pixels
        self._idle: list[DecodingProcess | None] = [None] * num_processes  # None: not started yet
        self._busy: dict[DecodingProcess, _Task] = {}
        self._retries: deque[_Task] = deque()
        # The kernel kills children when the thread that started them ends, so one thread that lasts does it.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="marey-feed")

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all processes and free their memory; the feed can be used again."""
        for process in [*self._busy, *filter(None, self._idle)]:
            process.end()
        self._idle = [None] * (len(self._idle) + len(self._busy))
        self._busy.clear()
        self._retries.clear()
        self._starter.shutdown()
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="marey-feed")

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that live now."""
        return [process.pid for process in [*self._busy, *filter(None, self._idle)]]

    def run(self, jobs: Iterable[DecodeJob]) -> Iterator[Item]:
        """The items of all jobs: per job `JobStart`, `SampledFrame`s by number, one `JobEnd`.

        Items of jobs that run at once are mixed. A job is taken from `jobs` when a process is free for it. A
        frame's picture is valid until the next item is asked for. Breaking off kills the processes at work.

        Raises:
            ValueError: a job asks for a picture larger than `max_pixels`.
        """
        queue = iter(jobs)
        try:
            while True:
                self._assign(queue)
                if not self._busy:
                    return
                for connection in wait([p.connection for p in self._busy], _LOOK_EVERY_S):
                    process = next(p for p in self._busy if p.connection is connection)
                    yield from self._next_items(process)
                yield from self._look_after()
        finally:
            for process in list(self._busy):
                self._replace(process)
            self._retries.clear()

    def _assign(self, queue: Iterator[DecodeJob]) -> None:
        """Give jobs to free processes; a second attempt gets the machine for itself."""
        while self._idle and not any(task.attempt > 1 for task in self._busy.values()):
            if self._retries:
                if self._busy:
                    return
                task = self._retries.popleft()
            else:
                job = next(queue, None)
                if job is None:
                    return
                task = _Task(self._checked(job))
            process = self._free_process()
            self._busy[process] = task
            # Should it be gone meanwhile, the next look at it tells.
            with contextlib.suppress(OSError):
                process.give(task.job, task.attempt, task.sample)

    def _free_process(self) -> DecodingProcess:
        """One that lives, else a new one."""
        self._idle.sort(key=lambda process: process is not None)
        process = self._idle.pop()
        if process is not None and process.alive:
            return process
        if process is not None:
            process.end()
        try:
            return self._starter.submit(DecodingProcess, self._ring_size, self._max_pixels).result()
        except OSError as exc:
            self._idle.append(None)
            raise WorkerError("no decoding process can be started", remedy=str(exc)) from exc

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
                self._idle.append(process)
                yield item

    def _look_after(self) -> Iterator[Item]:
        for process, task in list(self._busy.items()):
            if process.too_large(task.job.max_memory_bytes):
                yield from self._failed(process, "memory")
            elif process.stalled(task.job.stall_s):
                yield from self._failed(process, "timeout")

    def _failed(self, process: DecodingProcess, cause: Cause) -> Iterator[Item]:
        """Replace the process; try its job again, or end the job with a gap."""
        task = self._busy[process]
        ended = self._replace(process)
        logger.warning("decoding %s: the process %s (%s)", task.job.path, _REASONS[cause], ended)
        if task.attempt < _ATTEMPTS:
            task.attempt += 1
            self._retries.append(task)
        else:
            yield task.given_up(cause)

    def _replace(self, process: DecodingProcess) -> str:
        del self._busy[process]
        self._idle.append(None)
        return process.end()


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
    picture = process.ring.picture(message["slot"], task.job.width, task.job.height)
    picture.flags.writeable = False
    return SampledFrame(
        key,
        int(message["sample"]),
        None if message["pts"] is None else int(message["pts"]),
        float(message["t"]),
        picture,
        np.array(motion[:-4]),
        (dx, dy, scale, rotation) if message["camera"] else None,
    )
