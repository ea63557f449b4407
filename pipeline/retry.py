"""Trying again, for as long as it can help."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from pipeline.errors import ConflictError, GoneError, TransientError

RETRY_S = 60.0
"""Seconds for which something is tried again."""

_T = TypeVar("_T")


def pauses() -> Iterator[float]:
    """Growing, random pauses until the time for retries is over."""
    end = time.monotonic() + RETRY_S
    limit = 0.02
    while time.monotonic() < end:
        yield random.uniform(0, limit)
        limit = min(limit * 2, 2.0)


def again(call: Callable[[], _T]) -> _T:
    """The result of a call that reads a table's log and what it names, made again if that went meanwhile.

    Once: `forget` takes seconds from one removal to the next, and a file that is lost for good is to be told.

    Raises:
        GoneError: it is gone by the newest log, too.
    """
    try:
        return call()
    except GoneError:
        return call()


def patiently(call: Callable[[], _T]) -> _T:
    """The result of a call that may be made twice, made again while a server stumbles.

    Raises:
        TransientError: it stumbled for a minute.
    """
    for pause in pauses():
        try:
            return call()
        except TransientError:
            time.sleep(pause)
    return call()


def contended(what: str, call: Callable[[], _T]) -> _T:
    """The result of a call that reads, decides and writes, made again while others write or servers stumble.

    Args:
        what: the table that it writes, for the error.
        call: may be made twice; it looks first whether it was done.

    Raises:
        ConflictError: others were faster for a minute.
        GoneError: a file that it needs is gone, also when it is called again.
        TransientError: the server stumbled for a minute.
    """
    last: ConflictError | TransientError | None = None
    for pause in pauses():
        try:
            return again(call)
        except (ConflictError, TransientError) as exc:
            last = exc
            time.sleep(pause)
    if isinstance(last, TransientError):
        raise last
    raise ConflictError(f"{what} is written by too many", remedy="try again") from last
