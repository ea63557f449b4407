"""The loops: messages of a queue or sweeps of a listing, judged by the lake, to whoever does the work.

Who submits is given as a function, so the same loops serve a Prefect server and this very process. A message
is deleted only after the submission answered. What is lost between is found by the sweep of `reconcile`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline import allowed, s3
from pipeline.errors import InputError, MareyError, SourceError, StorageError, UsageError
from pipeline.lake.location import Location
from pipeline.sources import Source, bucket, find
from pipeline.sources.files import Say, silent
from pipeline.sources.source import VIDEO_SUFFIXES, suffix
from pipeline.sqs import HIDDEN_S, WAIT_S, Message, Queue
from pipeline.uploads.judge import Judge, Todo, todo
from pipeline.uploads.notices import created
from pipeline.uploads.sweep import Sweeper, is_being_written

Submit = Callable[[Sequence[Todo]], None]

MAX_TRIES = 5
"""Times that a message is received before it goes to the dead-letter queue."""

_PAUSE_S = 10.0

_HELD_S = HIDDEN_S - 60.0
"""Seconds for which a message is tried again in hand, before the queue gives it to others."""


def forever() -> bool:
    """For loops that end by a signal."""
    return True


def watch_queue(
    prefix: str,
    lake: str,
    queue: Queue,
    submit: Submit,
    say: Say,
    more: Callable[[], bool] = forever,
    wait_s: int = WAIT_S,
) -> None:
    """Work on a queue's messages about objects below a prefix while `more()` is true.

    Raises:
        UsageError: what it takes to submit is missing: a mistake in the set-up, not in a message.
    """
    judge = Judge(lake)

    def submit_for(some: Sequence[Message]) -> None:
        uris = [uri for message in some for uri in created(message.body) if wanted(uri, prefix, lake)]
        submit(judge.todo(_there(uris)))

    while more():
        try:
            messages = queue.receive(wait_s)
        except MareyError as exc:
            _wait_out(exc, say)
            continue
        _work_on(messages, queue, submit_for, say)


def _work_on(
    messages: Sequence[Message], queue: Queue, submit_for: Callable[[Sequence[Message]], None], say: Say
) -> None:
    """Submit what messages are about, all at once; each alone if something is wrong with one of them.

    While the server is away they are held, as long as nobody else gets them.
    """
    until = time.monotonic() + _HELD_S
    left = list(messages)
    while left:
        try:
            submit_for(left)
            while left:
                queue.delete(left[0])
                del left[0]
        except (ValueError, InputError) as exc:
            if len(left) == 1:
                return _refuse(left[0], queue, exc, say)
            for message in left:
                _work_on([message], queue, submit_for, say)
            return None
        except MareyError as exc:
            if not exc.retry:
                raise
            _wait_out(exc, say)
            if time.monotonic() > until:
                return None  # they come again by themselves
    return None


def _refuse(message: Message, queue: Queue, exc: Exception, say: Say) -> None:
    try:
        if message.tries < MAX_TRIES:
            queue.again(message, message.tries)
        elif queue.bury(message, str(exc)):
            say(f"a message went to the dead-letter queue: {exc}")
        else:
            say(f"a message is left in a queue without dead-letter queue: {exc}")
    except StorageError as away:  # the message comes again by itself
        _wait_out(away, say)


def check_source(uri: str, *, is_lake: bool = False) -> None:
    """Refuse what is not there, before anything is begun; the directory of a lake is made when it is needed.

    Raises:
        UsageError: the directory does not exist, or the scheme is not supported.
        StorageError: the bucket does not exist or cannot be reached.
    """
    if is_lake:
        Location.parse(uri)
    elif "://" in uri and not uri.startswith(("s3://", "https://", "http://")):
        remedy = "give a directory, a glob or s3://bucket/prefix"
        raise UsageError(f"{uri.partition('://')[0]}:// cannot be watched", got=uri, remedy=remedy)
    if uri.startswith("s3://"):
        s3.region(s3.split(uri)[0])
    elif "://" not in uri and not is_lake and not (Path(uri).exists() or set("*?[") & set(uri)):
        raise UsageError(f"{uri} does not exist", remedy="check the name, or make it")


def wanted(uri: str, prefix: str, lake: str) -> bool:
    """Whether a new object is a video that may be used, not the lake's own, and named by a prefix, if any."""
    own = uri.startswith(str(Location.parse(lake)).rstrip("/") + "/")
    if suffix(uri) not in VIDEO_SUFFIXES or own or allowed.refusal(uri) is not None:
        return False
    return not prefix or bucket.names(prefix, uri)


def _there(uris: Sequence[str]) -> list[Source]:
    """The objects as they are now; what was removed since is left out."""
    found: list[Source] = []
    for uri in dict.fromkeys(uris):
        try:
            found.append(bucket.look(uri))
        except SourceError as exc:
            if exc.code != "missing":
                raise
    return found


def watch_sweep(
    inputs: Sequence[str],
    lake: str,
    submit: Submit,
    say: Say,
    *,
    every_s: float,
    settle_s: float,
    more: Callable[[], bool] = forever,
) -> None:
    """List the inputs again and again while `more()` is true, and submit what has come to rest."""
    sweeper, judge = Sweeper(inputs, settle_s=settle_s, say=say), Judge(lake)
    while more():
        try:
            _sweep(sweeper, lake, judge, submit)
        except MareyError as exc:
            if not exc.retry:
                raise
            _wait_out(exc, say)
        time.sleep(every_s)


def _sweep(sweeper: Sweeper, lake: str, judge: Judge, submit: Submit) -> None:
    sources = [source for source in sweeper.whole() if wanted(source.uri, "", lake)]
    if sources:
        submit(judge.todo(sources))
        sweeper.mark(sources)


def sweep_once(inputs: Sequence[str], lake: str, say: Say = silent) -> list[Todo]:
    """What a single listing shows to be undone. Files that somebody is writing to are left out.

    `say` is told which folders cannot be read and are passed over, and of what is left out because it may
    not be used: what others put there, such as links.

    Raises:
        UsageError: an input does not exist.
        StorageError: bucket or lake cannot be read.
    """
    try:
        sources = [entry for entry in find(inputs, say=say) if isinstance(entry, Source)]
    except UsageError as exc:
        if exc.code != "empty":  # a directory in which nothing has arrived yet
            raise
        sources = []
    for source in sources:
        if (error := allowed.refusal(source.uri)) is not None:
            say(f"left out: {error}")
    return todo(lake, [s for s in sources if wanted(s.uri, "", lake) and not _is_open(s)])


def _is_open(source: Source) -> bool:
    return source.path is not None and is_being_written(source.path)


def _wait_out(error: MareyError, say: Say) -> None:
    say(f"waiting: {error}")
    time.sleep(_PAUSE_S)
