"""The parent's side of one decoding process: start it, talk to it, watch it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pipeline
from pipeline.media.items import DecodeJob
from pipeline.media.ring import Ring

_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "TMPDIR")
"""All that a decoding process gets to see of ours: no credentials, no home."""

_MAX_MESSAGE_BYTES = 1 << 20
_MEMORY_EVERY_S = 0.5

_EXIT_S = 2.0
"""Seconds from the end of a process's connection to that of the process."""

_START_S = 60.0
"""Seconds a new process has for its imports, which take 0.4 s on a free core, before stalls count."""


class DecodingProcess:
    """A long-lived child that decodes one job at a time into its own ring of pictures.

    A plain child program, not a fork of ours: it inherits no memory, no environment, no open files, and does
    not import the caller's main module.
    """

    def __init__(self, ring_size: int, max_pixels: int) -> None:
        with contextlib.ExitStack() as lent, contextlib.ExitStack() as owned:
            ring_fd = Ring.allocate(ring_size, max_pixels)
            lent.callback(os.close, ring_fd)
            self.ring = owned.enter_context(contextlib.closing(Ring(ring_fd, ring_size, max_pixels)))
            self.connection, theirs = Pipe()
            lent.enter_context(theirs)
            owned.enter_context(self.connection)
            self._stderr = owned.enter_context(tempfile.TemporaryFile())
            numbers = [os.getpid(), theirs.fileno(), ring_fd, ring_size, max_pixels]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipeline.media.child", *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=(theirs.fileno(), ring_fd),
                env=_environment(),
                cwd="/",
            )
            self._owned = owned.pop_all()
        self.last_job: DecodeJob | None = None
        self._taken = 0
        self._ready = False
        self._progress_at = self._memory_at = time.monotonic()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None

    def give(self, job: DecodeJob, attempt: int, after: int) -> None:
        """Start a job; samples up to `after` are not sent. OSError if the process is gone."""
        self._progress_at = time.monotonic()
        self.last_job = None
        self._send({"kind": "job", "job": job.to_json(), "attempt": attempt, "after": after})

    def receive(self) -> dict[str, Any]:
        """The next message, waiting for it.

        Raises:
            EOFError, OSError: the process is gone.
            ValueError: it talks nonsense.
        """
        message = json.loads(self.connection.recv_bytes(_MAX_MESSAGE_BYTES))
        if not isinstance(message, dict) or "kind" not in message:
            raise ValueError(f"not a message: {str(message)[:80]}")
        self._progress_at = time.monotonic()
        self._ready = True
        self._taken += message["kind"] == "frame"
        return message

    def free(self, slot: int) -> None:
        """The picture in this slot is no longer needed."""
        self._taken -= 1
        self._progress_at = time.monotonic()
        with contextlib.suppress(OSError):  # a process that is gone shows at the next receive
            self._send({"kind": "free", "slot": slot})

    def stalled(self, stall_s: float) -> bool:
        """Whether nothing was heard for so long, though it had room for pictures and nothing is unread."""
        allowed = stall_s if self._ready else max(stall_s, _START_S)
        silent = time.monotonic() - self._progress_at > allowed
        return silent and self._taken < self.ring.num_slots and not self.connection.poll()

    def too_large(self, max_memory_bytes: int) -> bool:
        """Whether it uses more memory; looked at twice a second at most."""
        if time.monotonic() - self._memory_at < _MEMORY_EVERY_S:
            return False
        self._memory_at = time.monotonic()
        # What is resident costs nothing to ask for and is no less than its share, which the kernel sums up.
        return resident_bytes(self.pid) > max_memory_bytes and memory_bytes(self.pid) > max_memory_bytes

    def never_began(self) -> str | None:
        """How it ended before it could take any job; None if it could, or was killed.

        For a process whose connection is closed, so that it ends by itself if anything.
        """
        if self._ready:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_S)
        return self.end() if (self._process.poll() or 0) > 0 else None

    def finish(self, job: DecodeJob) -> None:
        """Note that a job has ended well; the process may keep its file open."""
        self.last_job = job

    def stands_at(self, job: DecodeJob) -> int:
        """The sample from which it could go on to this job in its open file; -1 if it would open it anew."""
        last = self.last_job
        if last is None or last.reading != job.reading or last.end_sample is None:
            return -1
        return last.end_sample if last.end_sample <= job.first_sample else -1

    def kill(self) -> None:
        """Kill it, if it still lives, and do not wait."""
        self._process.kill()

    def end(self) -> str:
        """Kill it, if it still lives, and free everything. May be called again, should it be interrupted.

        Returns:
            How it ended, for a log: exit status and the last line of its standard error.
        """
        self._process.kill()
        status = self._process.wait()
        said: list[str] = []
        if not self._stderr.closed:
            self._stderr.seek(0)
            said = self._stderr.read().decode(errors="replace").strip().splitlines()
        self._owned.close()
        return f"exit status {status}" + (f", {said[-1]}" if said else "")

    def _send(self, message: dict[str, Any]) -> None:
        self.connection.send_bytes(json.dumps(message).encode())


def resident_bytes(pid: int) -> int:
    """Resident set size of a process; the greatest there is where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return sys.maxsize


def memory_bytes(pid: int) -> int:
    """Proportional set size of a process; 0 if it is gone or the system does not tell."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # One process per core: the libraries' own threads would only get in each other's way.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return kept | threads | {"PYTHONPATH": python_path()}


def python_path() -> str:
    """PYTHONPATH with which a child finds packages as we do, whatever its working directory is."""
    ours = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = [Path(pipeline.__file__).resolve().parent.parent, *map(os.path.abspath, ours)]
    return os.pathsep.join(map(str, paths))
