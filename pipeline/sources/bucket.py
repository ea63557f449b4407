"""Inputs on S3. Keys are taken as they stand: whatever is in them names nothing on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial

from botocore.exceptions import ClientError

from pipeline import s3
from pipeline.errors import SourceError, StorageError, TransientError, UsageError
from pipeline.retry import pauses
from pipeline.sources.source import VIDEO_SUFFIXES, ChangedError, Missing, Source, suffix

CHUNK_BYTES = 1 << 20
_GLOB = re.compile(r"[*?\[]")
_HIDDEN = re.compile(r"/\.[^./]")
_WILD = re.compile(r"(\*\*/|\*\*|\*|\?|\[!?[^/\]]+\])")


def expand(uri: str, since: datetime | None) -> Iterable[Source | Missing]:
    """The objects that an input names: one of that key, else those below it, else those that match it.

    What lies below a folder that matches is named, too, and what begins with a dot is not, as on a disk. An
    empty prefix (a bucket, or a key that ends with a slash) is no error.

    Raises:
        UsageError: it is no s3:// URI, or no glob.
        StorageError: the bucket cannot be read.
    """
    bucket, key = s3.split(uri)
    s3.region(bucket)
    folder = key if not key or key.endswith("/") else f"{key}/"
    if folder != key:
        try:
            if (one := _head(bucket, key)) is not None:
                return [one]
        except SourceError as exc:
            return [Missing(uri, exc)]
    found, wild = list(_listed(bucket, folder, since)), _GLOB.search(key)
    if not found and wild:
        pattern, listed = _pattern(key), _listed(bucket, key[: wild.start()], since)
        found = [entry for entry in listed if pattern.fullmatch(_key(entry))]
    if found or (folder == key and not wild):
        return found
    error = SourceError(
        f"there is no object {uri}, and none below it", remedy="check the key", code="missing"
    )
    return [Missing(uri, error)]


def names(named: str, uri: str) -> bool:
    """Whether an input names an object, as `expand` would find it: itself, a prefix of folders, or a glob.

    Raises:
        UsageError: it is no s3:// URI, or no glob.
    """
    bucket, key = s3.split(named)
    top = f"s3://{bucket}/"
    if not uri.startswith(top):
        return False
    found = uri.removeprefix(top)
    folder = f"{key.removesuffix('/')}/" if key else ""
    if found == key:
        return True
    if found.startswith(folder):
        return not _is_hidden(found, folder)
    wild = _GLOB.search(key)
    if wild is None or _is_hidden(found, key[: wild.start()]):
        return False
    return _pattern(key).fullmatch(found) is not None


def look(named: Source | str) -> Source:
    """An object as it is now, by its URI or as it was.

    Raises:
        SourceError: it is gone, or may not be read.
        StorageError: the bucket cannot be read.
    """
    uri = named if isinstance(named, str) else named.uri
    found = _head(*s3.split(uri))
    if found is None:
        raise SourceError(f"{uri} vanished", remedy="list again", code="missing")
    return found


def stream(source: Source, offset: int) -> Iterator[bytes]:
    """The bytes of the object's version from an offset on.

    Raises:
        ChangedError: the object is of another version.
        TransientError: the server stumbled; what was given is right.
        StorageError: it cannot be read; `blamed` says whether that is for the object or the bucket.
    """
    bucket, key = s3.split(source.uri)
    with s3.errors(f"{source.uri} cannot be read"):
        try:
            asked = {"Range": f"bytes={offset}-"} if offset else {}
            answer = s3.client().get_object(Bucket=bucket, Key=key, IfMatch=f'"{source.etag}"', **asked)
        except ClientError as exc:
            if isinstance(s3.translated("", exc), s3.NoObjectError | s3.PreconditionError):
                raise ChangedError from exc
            raise
        yield from answer["Body"].iter_chunks(CHUNK_BYTES)


def patience(uri: str) -> Iterator[float]:
    """Pauses between tries to read an object."""
    return pauses()


def blamed(uri: str, error: StorageError) -> SourceError:
    """What an error about an object means: if its bucket answers, it is this object's alone.

    Raises:
        StorageError: the bucket cannot be reached, or not with these credentials.
    """
    s3.check(s3.split(uri)[0])
    code = error.code if isinstance(error, TransientError) else "unreadable"
    return SourceError(error.what, got=error.got, remedy=error.remedy, code=code)


def _head(bucket: str, key: str) -> Source | None:
    uri = f"s3://{bucket}/{key}"
    try:
        found = s3.ask(f"{uri} cannot be read", partial(s3.client().head_object, Bucket=bucket, Key=key))
    except s3.NoObjectError:
        return None
    except StorageError as exc:
        raise blamed(uri, exc) from exc
    return _source(bucket, key, found["ContentLength"], found["LastModified"], found["ETag"])


def _listed(bucket: str, prefix: str, since: datetime | None) -> Iterator[Source]:
    for item in s3.listed(bucket, prefix):
        if suffix(item["Key"]) not in VIDEO_SUFFIXES or _is_hidden(item["Key"], prefix):
            continue
        if since is None or item["LastModified"] >= since:
            yield _source(bucket, item["Key"], item["Size"], item["LastModified"], item["ETag"])


def _is_hidden(key: str, prefix: str) -> bool:
    """Whether a name in a key, behind the prefix that was given, begins with a dot; `..` is a name here."""
    return _HIDDEN.search(f"/{key}", len(prefix)) is not None


def _source(bucket: str, key: str, size: int, changed: datetime, etag: str) -> Source:
    return Source(f"s3://{bucket}/{key}", None, size, changed.astimezone(UTC), etag.strip('"'))


def _key(source: Source) -> str:
    return s3.split(source.uri)[1]


def _pattern(key: str) -> re.Pattern[str]:
    """A glob as a regular expression, which takes what lies below a match; only `**` goes across slashes."""
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = (
        signs.get(
            part, f"[^{part[2:]}" if part.startswith("[!") else part if part[:1] == "[" else re.escape(part)
        )
        for part in _WILD.split(key.removesuffix("/"))
    )
    below = "/.*" if key.endswith("/") else "(?:/.*)?"
    try:
        return re.compile("".join(parts) + below, re.DOTALL)
    except re.error as exc:
        raise UsageError("no pattern of keys", got=key, remedy=str(exc)) from exc
