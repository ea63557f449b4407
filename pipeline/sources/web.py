"""Inputs on web servers. What stands behind `?`, and user and password, are asked for and never kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import unquote, urlsplit

import urllib3

from pipeline.errors import SourceError, StorageError, TransientError
from pipeline.pool import ForbiddenError, cause
from pipeline.pool import pool as _pool
from pipeline.retry import patiently, pauses
from pipeline.sources.source import ChangedError, Missing, Source, name_of

CHUNK_BYTES = 1 << 20
_NO_SUCH_RANGE = 416
_LATER = (408, 425, 429, 500, 502, 503, 504)
_given_up: set[str] = set()  # servers that stumbled for too long, until they answer


def look(address: str) -> Source | Missing:
    """A file on a web server as it is now; missing with the code `transient` if the server is away."""
    uri = name_of(address)
    once = partial(_look, uri, address)
    try:
        return once() if _server(uri) in _given_up else patiently(once)
    except TransientError as exc:
        return Missing(uri, blamed(uri, exc))
    except SourceError as exc:
        return Missing(uri, exc)


def stream(source: Source, offset: int) -> Iterator[bytes]:
    """The bytes of the file's version from an offset on.

    Raises:
        ChangedError: the file is of another version.
        SourceError: it cannot be had.
        TransientError: the server stumbled; what was given is right.
    """
    asked = {"Range": f"bytes={offset}-"} if offset else {}
    answer = _ask("GET", source.uri, source.address, asked)
    try:
        if _etag(answer) != source.etag or _size(answer) != source.size_bytes:
            raise ChangedError
        passed = offset if answer.status != 206 else 0  # it does not know of ranges
        for chunk in answer.stream(CHUNK_BYTES):
            yield chunk[passed:]
            passed = max(0, passed - len(chunk))
    except urllib3.exceptions.HTTPError as exc:
        raise TransientError(f"{source.uri} came in part only", remedy="run again") from exc
    finally:
        answer.close()


def patience(uri: str) -> Iterator[float]:
    """Pauses between tries; none where a server was waited for in vain: each file would cost a minute."""
    return iter(()) if _server(uri) in _given_up else pauses()


def blamed(uri: str, error: StorageError) -> SourceError:
    """What an error that stayed means: this file cannot be had, others may well be."""
    _given_up.add(_server(uri))
    return SourceError(error.what, got=error.got, remedy=error.remedy, code=error.code)


def _look(uri: str, address: str) -> Source:
    try:
        answer = _ask("GET", uri, address, {"Range": "bytes=0-0"})  # signed addresses often allow no HEAD
    except SourceError as exc:
        if exc.got != _NO_SUCH_RANGE:
            raise
        answer = _ask("GET", uri, address, {})  # an empty file has no first byte
    answer.close()
    size = _size(answer)
    if size is None:
        remedy = "copy it to a disk or a bucket"
        raise SourceError(f"{uri}: the server does not say how long it is", remedy=remedy, code="unreadable")
    changed = _changed(answer) or datetime.now(UTC)
    return Source(uri, None, size, changed, _etag(answer), address=address)


def _ask(method: str, uri: str, address: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
    parts = urlsplit(address)
    if parts.username is not None:
        keys = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = headers | urllib3.make_headers(basic_auth=keys)
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    headers = headers | {"Accept-Encoding": "identity"}
    try:
        answer = _pool().request(method, address, headers=headers, preload_content=False)
    except ForbiddenError as exc:
        raise SourceError(f"{uri} may not be asked", remedy=str(exc), code="forbidden") from exc
    except urllib3.exceptions.LocationParseError:  # the texts of these two hold the query
        raise SourceError(f"{uri} is no address of a file", remedy="check it", code="missing") from None
    except urllib3.exceptions.HTTPError as exc:
        if isinstance(getattr(exc, "reason", None), urllib3.exceptions.ResponseError):  # waiting is no help
            what = f"{uri} leads from one address to the next"
            remedy = "check the address; some servers do so where one has to log in"
            raise SourceError(what, remedy=remedy, code="missing") from None
        raise TransientError(f"{uri} cannot be reached", remedy=cause(exc)) from None
    if answer.status in (200, 206):
        _given_up.discard(_server(uri))
        return answer
    answer.close()
    if answer.status in _LATER:
        raise TransientError(f"{uri} cannot be read", got=answer.status, remedy="the server is overloaded")
    raise SourceError(f"{uri} cannot be read", got=answer.status, remedy="check the address", code="missing")


def _server(uri: str) -> str:
    return urlsplit(uri).netloc


def _size(answer: urllib3.BaseHTTPResponse) -> int | None:
    """Bytes of the whole file."""
    span = answer.headers.get("Content-Range", "")
    text = span.rpartition("/")[2] if answer.status == 206 else answer.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _etag(answer: urllib3.BaseHTTPResponse) -> str | None:
    return answer.headers.get("ETag", "").strip('"') or answer.headers.get("Last-Modified")


def _changed(answer: urllib3.BaseHTTPResponse) -> datetime | None:
    try:
        return parsedate_to_datetime(answer.headers.get("Last-Modified", "")).astimezone(UTC)
    except ValueError:
        return None
