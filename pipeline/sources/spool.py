"""Copies of remote inputs on bounded local disk, hashed while they are read.

One thread fetches, in the order in which the inputs are needed, while those before are analysed. Whoever has
taken a copy releases it; until then it counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from pipeline.errors import SourceError, StorageError, TransientError
from pipeline.ids import digest
from pipeline.retry import pauses
from pipeline.sources.source import VIDEO_SUFFIXES, ChangedError, Missing, Source, suffix

AHEAD = 4
"""Copies that wait to be taken, at most."""

RESERVE_BYTES = 256 << 20
"""What is left free on the disk."""

_PREFIX = "marey-spool-"
_VERSIONS = 3  # of an object that are begun before it counts as one that keeps changing


class Spool:
    """Use as a context manager: leaving it removes all copies.

    One thread may ask for copies while another releases them.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._expected: deque[Source] = deque()
        self._sizes: dict[str, int] = {}  # of copies on the disk or on their way
        self._fetched: dict[str, Source | Exception] = {}  # by uri, until taken
        self._wanted: str | None = None
        self._change = threading.Condition()
        self._closed = False
        self._folder: Path | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abandon()
        if self._thread is not None:
            self._thread.join(5)  # it may wait for a server
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.close()

    def abandon(self) -> None:
        """Fetch nothing more; whoever waits for a copy is told."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def expect(self, sources: Iterable[Source]) -> None:
        """Say which inputs will be asked for, in order; what was expected before is forgotten.

        Raises:
            StorageError: there is no place for copies.
        """
        with self._change:
            self._expected = deque(sources)
            if self._expected:
                self._start()
            self._change.notify_all()

    def ready(self, source: Source) -> bool:
        """Whether `get` returns at once; if not, the input comes next."""
        with self._change:
            self._want(source)
            return source.uri in self._fetched

    def get(self, source: Source) -> Source:
        """The input with its copy and content_id, and of a later version if it has changed since.

        Raises:
            SourceError: it cannot be had, or is larger than the spool. Its code is `transient` where the
                server stumbled over it for too long.
            StorageError: its bucket cannot be reached.
        """
        with self._change:
            self._want(source)
            self._change.wait_for(lambda: source.uri in self._fetched or self._closed)
            self._wanted = None
            found = self._fetched.pop(source.uri, None) or _unread(source)
            self._change.notify_all()
        if isinstance(found, Exception):
            self.release(source)
            raise found
        return found

    def release(self, source: Source) -> None:
        """The copy is not needed any more."""
        if source.is_remote and self._folder is not None:
            self._copy(source).unlink(missing_ok=True)
            with self._change:
                self._sizes.pop(source.uri, None)
                self._change.notify_all()

    # -- the thread ----------------------------------------------------------------------------------------

    def _want(self, source: Source) -> None:
        """The lock is held."""
        self._wanted = source.uri
        if source.uri in self._fetched or source.uri in self._sizes:
            return
        self._expected = deque([source, *(other for other in self._expected if other.uri != source.uri)])
        self._start()
        self._change.notify_all()

    def _start(self) -> None:
        if self._thread is None:
            try:
                _remove_stale()
                folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
                self._lock = (folder / "unlocked").open("w")
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                (folder / "unlocked").rename(folder / "lock")  # which is found locked, or not at all
                self._folder = folder
            except OSError as exc:
                remedy = f"free the disk, or set TMPDIR ({exc.strerror or exc})"
                raise StorageError("there is no place for copies of remote inputs", remedy=remedy) from exc
            self._thread = threading.Thread(target=self._work, name="marey-spool", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._closed and not self._may_fetch():
                    self._change.wait(1.0)  # the disk may have been freed by others
                if self._closed:
                    return
                source = self._expected.popleft()
                self._sizes[source.uri] = source.size_bytes
            try:
                found: Source | Exception = self._fetch(source)
            except OSError as exc:  # the disk was filled by others
                told = f"{source.uri} cannot be copied to {tempfile.gettempdir()}"
                found = SourceError(told, remedy=exc.strerror or str(exc), code="spool")
            except Exception as exc:  # raised where the copy is asked for
                found = exc
            with self._change:
                self._fetched[source.uri] = found
                if isinstance(found, Source):
                    self._sizes[source.uri] = found.size_bytes
                self._change.notify_all()

    def _may_fetch(self) -> bool:
        if not self._expected:
            return False
        first = self._expected[0]
        if first.uri != self._wanted and len(self._fetched) >= AHEAD:
            return False
        if first.size_bytes > self._max_bytes or not self._sizes:
            return True  # it comes alone, or its error
        if self._fits(first):
            return True
        if first.uri == self._wanted:
            self._make_room()
        return self._fits(first)

    def _fits(self, source: Source) -> bool:
        used = sum(self._sizes.values())
        return used + source.size_bytes <= self._max_bytes and source.size_bytes <= self._free_bytes()

    def _make_room(self) -> None:
        """Give up copies that nobody has taken yet, for the one that is asked for now."""
        for uri in [uri for uri, found in self._fetched.items() if isinstance(found, Source)]:
            dropped = self._fetched.pop(uri)
            if isinstance(dropped, Source):
                self._copy(dropped).unlink(missing_ok=True)
                self._sizes.pop(uri, None)
                self._expected.append(dropped.unspooled())

    def _fetch(self, source: Source) -> Source:
        kind = _kind(source)
        for _ in range(_VERSIONS):
            self._check_size(source)
            seen_at = datetime.now(UTC)
            try:
                content = self._copied(source, kind)
            except ChangedError:
                now = kind.look(source.address or source)
                if isinstance(now, Missing):
                    raise now.error from None
                source = now
                continue
            except StorageError as exc:
                raise kind.blamed(source.uri, exc) from exc
            return replace(source, path=self._copy(source), content_id=content, seen_at=seen_at)
        raise SourceError(f"{source.uri} keeps changing while it is read", remedy="run again", code="changed")

    def _check_size(self, source: Source) -> None:
        size = f"{source.uri} has {source.size_bytes / 1e9:.3g} GB"
        if source.size_bytes > self._max_bytes:
            bound = f"more than run.max_spool_gb = {self._max_bytes / 1e9:.3g}"
            raise SourceError(f"{size}, {bound}", remedy="raise it", code="spool")
        if source.size_bytes > self._free_bytes():
            bound = f"more than is free in {tempfile.gettempdir()}"
            raise SourceError(f"{size}, {bound}", remedy="free it, or set TMPDIR", code="spool")

    def _copied(self, source: Source, kind: ModuleType) -> str:
        """Read an input to its copy, going on where the server broke off; returns the content_id."""
        sha, offset, tries = hashlib.sha256(), 0, kind.patience(source.uri)
        with self._copy(source).open("wb") as file:
            while True:
                before = offset
                try:
                    for chunk in kind.stream(source, offset):
                        file.write(chunk)
                        sha.update(chunk)
                        offset += len(chunk)
                        if self._closed:
                            raise _unread(source)
                        if offset > source.size_bytes:
                            raise ChangedError
                    error = TransientError(f"{source.uri} came in part only", remedy="run again")
                except TransientError as exc:
                    error = exc
                if offset == source.size_bytes:
                    return sha.hexdigest()[:32]
                if offset > before:
                    tries = pauses()
                pause = next(tries, None)
                if pause is None:
                    raise error
                time.sleep(pause)

    def _copy(self, source: Source) -> Path:
        """A name on this disk that no key can lead astray; the suffix helps to tell the format."""
        end = suffix(source.uri)
        return (self._folder or Path()) / (digest(source.uri) + (end if end in VIDEO_SUFFIXES else ""))

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._folder or tempfile.gettempdir()).free - RESERVE_BYTES


def _unread(source: Source) -> SourceError:
    return SourceError(f"{source.uri} is not read to its end", remedy="run again")


def _kind(source: Source) -> ModuleType:
    from pipeline.sources import bucket, web

    return bucket if source.uri.startswith("s3://") else web


def _remove_stale() -> None:
    """Remove the copies of programs that were killed: nobody holds their locks."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
