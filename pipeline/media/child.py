"""The decoding process: takes jobs from its parent, leaves pictures in the ring. Started by `feed`.

What it says are JSON messages and bytes in shared memory: the parent unpickles nothing that comes from
a process in which a hostile file may have run code. Parent to child: `job`, `free` (a slot may be used
again). Child to parent: `ready`, `progress`, `start`, `frame`, `end`, `memory`.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import cv2

from pipeline.media.decode import Decoder
from pipeline.media.items import DecodeJob, Fault, JobEnd, JobStart, SampledFrame
from pipeline.media.ring import Ring

_PROGRESS_S = 0.25
_PR_SET_PDEATHSIG = 1
_SLOW_S = 0.2
_MAX_FILE_BYTES = 1 << 16  # of its standard error; it has nothing else to write
_MEMORY_MARGIN_BYTES = 512 << 20


class _Link:
    """The child's end: messages to and from the parent, and which slots are free."""

    def __init__(self, connection: Connection, ring: Ring) -> None:
        self.ring = ring
        self._connection = connection
        self._free = list(range(ring.num_slots))
        self._told = time.monotonic()

    def next_job(self) -> dict[str, Any]:
        while True:
            message = self._receive()
            if message["kind"] == "job":
                return message

    def send(self, kind: str, **values: Any) -> None:
        self._told = time.monotonic()
        self._connection.send_bytes(json.dumps({"kind": kind, **values}).encode())

    def progress(self) -> None:
        """Tell the parent now and then that decoding goes on."""
        if time.monotonic() - self._told > _PROGRESS_S:
            self.send("progress")

    def frame(self, item: SampledFrame) -> None:
        """Put a frame into a free slot, waiting for one, and tell the parent."""
        while not self._free:
            self._receive()
        slot = self._free.pop()
        height, width, _ = item.picture.shape
        self.ring.picture(slot, width, height)[:] = item.picture
        motion = self.ring.motion(slot)
        motion[:-4] = item.motion_grid
        motion[-4:] = item.camera_motion or 0
        moved = item.camera_motion is not None
        told = {"sample": item.sample, "pts": item.pts, "t": item.t, "camera": moved, "like": item.like}
        self.send("frame", slot=slot, **told)

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv_bytes())
        if message["kind"] == "free":
            self._free.append(message["slot"])
        return message


def _work(link: _Link, job: DecodeJob, attempt: int, after: int, decoder: Decoder) -> None:
    """Decode one job; samples up to `after` have reached the parent in an earlier attempt."""
    fault = job.fault if job.fault and attempt <= job.fault.attempts else None
    if fault and fault.at_sample < 0:
        _inject(fault, link)
    for item in decoder.items(job, link.progress, fresh=attempt > 1):
        if isinstance(item, SampledFrame):
            if fault and item.sample >= fault.at_sample:
                _inject(fault, link)
            if item.sample > after:
                link.frame(item)
        elif isinstance(item, JobStart):
            link.send("start", item=item.to_json())
        elif isinstance(item, JobEnd):
            link.send("end", item=item.to_json())


def _inject(fault: Fault, link: _Link) -> None:
    """Fail as a hostile file could make a decoder fail. For tests."""
    if fault.kind == "slow":
        time.sleep(_SLOW_S)
        return
    if fault.kind == "crash":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    hoard = []
    while True:
        if fault.kind == "leak":
            hoard.append(b"x" * (8 << 20))
            link.progress()
        time.sleep(0.01)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _confine(max_memory_bytes: int) -> None:
    """No core dumps of footage, no files, and an end to memory even while the parent looks away."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: _MAX_FILE_BYTES,
        resource.RLIMIT_DATA: max_memory_bytes + _MEMORY_MARGIN_BYTES,
    }
    for kind, wanted in limits.items():
        _, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, hard))


def main(arguments: list[str]) -> int:
    """Serve jobs until the parent closes the connection."""
    parent, connection_fd, ring_fd, num_slots, max_pixels = map(int, arguments)
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt ends
    cv2.setNumThreads(1)
    ring = Ring(ring_fd, num_slots, max_pixels)
    os.close(ring_fd)
    link = _Link(Connection(connection_fd), ring)
    decoder = Decoder()
    gc.freeze()  # makes collecting take a fraction of a millisecond
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)  # glibc; under a millisecond
    try:
        link.send("ready")
        while True:
            message = link.next_job()
            job = DecodeJob.from_json(message["job"])
            _confine(job.max_memory_bytes)
            _work(link, job, message["attempt"], message["after"], decoder)
            gc.collect()  # PyAV keeps the first frame of each file in a circle of references
            give_back(0)  # else what was freed lies about between what is used: 10 MB after 600 files
    except MemoryError:
        link.send("memory")
        return 1
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
