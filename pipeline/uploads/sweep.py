"""Listing again and again: a file counts when it has come to rest and nobody has it open for writing."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.sources import Missing, Source, find
from pipeline.sources.files import Say, silent

Version = tuple[str, str | None, int]


class Sweeper:
    """The files of directories, prefixes and globs, each version given once, when it is whole."""

    def __init__(self, inputs: Sequence[str], *, settle_s: float, say: Say = silent) -> None:
        """Begin to watch.

        Args:
            inputs: directories, prefixes and globs.
            settle_s: seconds for which a local file must not have changed.
            say: is told, once, what cannot be read below them.
        """
        self._inputs, self._settle_s, self._say = inputs, settle_s, say
        self._told: set[str] = set()
        self._met: dict[str, tuple[Version, float]] = {}  # when this version was first seen
        self._given: set[Version] = set()

    def whole(self) -> list[Source]:
        """What has come to rest and was not marked as given.

        Raises:
            StorageError: a bucket cannot be listed.
        """
        found = {version(entry): entry for entry in self._found()}
        self._given &= found.keys()  # what is gone needs no memory; should it come back, the lake knows it
        sources = [entry for key, entry in found.items() if key not in self._given]
        seen = {source.uri: self._seen(source) for source in sources}
        self._met = seen
        return [source for source in sources if self._rests(source)]

    def mark(self, sources: Sequence[Source]) -> None:
        """These versions are taken care of."""
        self._given |= {version(source) for source in sources}

    def _found(self) -> list[Source]:
        found: list[Source] = []
        for item in self._inputs:
            try:
                found += [entry for entry in find([item], say=self._tell) if not isinstance(entry, Missing)]
            except UsageError as exc:
                # A directory without videos, or a file that is not there yet, is what is waited for: such
                # errors have codes of their own. Nothing comes of a wrong use.
                if exc.code == UsageError.code:
                    raise
                if exc.code == "unreadable":
                    self._tell(str(exc))
        return found

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._say(text)

    def _seen(self, source: Source) -> tuple[Version, float]:
        before = self._met.get(source.uri)
        now = version(source)
        return before if before is not None and before[0] == now else (now, time.monotonic())

    def _rests(self, source: Source) -> bool:
        if source.path is None:
            return True  # an object appears when it is whole
        # A copy may carry any time of change, clocks may be wrong: what counts is how long we saw it quiet.
        watched_s = time.monotonic() - self._met[source.uri][1]
        return watched_s >= self._settle_s and not is_being_written(source.path)


def version(source: Source) -> Version:
    """A name with its version."""
    return source.uri, source.etag, source.size_bytes


def is_being_written(path: Path) -> bool:
    """Whether some process of this machine has the file open for writing, where the system tells (Linux).

    A read lease is granted only on a file that nobody has open for writing; see fcntl(2), F_SETLEASE.
    """
    if sys.platform != "linux":
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True  # gone, or not ours to read
    try:
        # Who opens it for writing meanwhile has us told by a signal: SIGIO would end us, SIGURG is ignored.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False  # another's file, or a file system without leases: it does not tell
    finally:
        os.close(handle)
