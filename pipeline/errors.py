"""Every error that marey raises on purpose.

    MareyError
    ├── UsageError          wrong arguments or config; nothing was begun      exit 2   never retried
    ├── InputError          one input cannot be analysed                      exit 1   never retried
    │   ├── MediaError      the file is not a video that can be decoded
    │   └── SourceError     the file is missing, cannot be had, or changed meanwhile
    ├── ModelError          weights or a model file are missing or wrong      exit 2   never retried
    ├── WorkerError         a decoding process hung, crashed or grew          exit 1   retried
    └── StorageError        lake, bucket or server cannot be reached          exit 3   retried
        ├── ConflictError   another writer committed first: read and decide again
        ├── GoneError       a file went since its table's log was read: read the log again
        └── TransientError  a server stumbled; whether it did what it was asked is not known

A message has up to four parts: what failed, on which video and time, the value met, what to do next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class MareyError(Exception):
    """A failure told in one line: `what`, then `got` if a value was met, then `remedy`.

    `code` is a short constant for tables (`error_code`) and for programs; `retry` says whether the same
    call can succeed later without a change by the user.
    """

    exit_code = 1
    retry = False
    code = "error"

    def __init__(self, what: str, *, got: object = None, remedy: str = "", code: str = "") -> None:
        self.what = what
        self.got = got
        self.remedy = remedy
        if code:
            self.code = code
        text = what
        if got is not None:
            text += f" (got {got!r})"
        if remedy:
            text += f": {remedy}"
        super().__init__(" ".join(text.split()))


class UsageError(MareyError):
    exit_code = 2
    code = "usage"


class InputError(MareyError):
    exit_code = 1
    code = "input"


class MediaError(InputError):
    code = "media"


class SourceError(InputError):
    code = "source"


class ModelError(MareyError):
    exit_code = 2
    code = "model"


class WorkerError(MareyError):
    """`code` is the cause as the gaps name it: `timeout`, `crash` or `memory`."""

    exit_code = 1
    retry = True
    code = "crash"


class StorageError(MareyError):
    exit_code = 3
    retry = True
    code = "storage"


class ConflictError(StorageError):
    code = "conflict"


class GoneError(StorageError):
    code = "gone"


class TransientError(StorageError):
    code = "transient"


@contextmanager
def os_errors_as(kind: type[MareyError], what: str) -> Iterator[None]:
    """Raise a `kind` with the message `what` and the system's reason in place of an OSError."""
    try:
        yield
    except OSError as exc:
        raise kind(what, remedy=exc.strerror or str(exc)) from exc
