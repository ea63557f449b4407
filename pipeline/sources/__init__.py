"""Where videos come from: files, directories, globs, s3:// and https://, and what their names tell.

source   an input                  files    on this machine        bucket   on S3
web      on a web server           spool    copies of remote inputs on bounded local disk
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import MareyError, SourceError, TransientError, UsageError
from pipeline.sources import files
from pipeline.sources.files import Say, look, silent
from pipeline.sources.source import Missing, Source, camera_and_time, is_web, name_of
from pipeline.sources.spool import Spool

__all__ = [
    "Missing",
    "Source",
    "Spool",
    "camera_and_time",
    "changed_since",
    "find",
    "look",
    "look_again",
    "name_of",
    "renewed",
]


def find(
    inputs: Sequence[str | Source], *, since: datetime | None = None, say: Say = silent
) -> list[Source | Missing]:
    """The videos that the inputs name, each once; those of a directory, prefix or glob in the order of names.

    Args:
        inputs: files, directories (searched for video files at any depth) and globs of both; s3:// objects,
            prefixes and globs; https:// files. Below those names that begin with a dot are passed over. What
            was found before is taken as it is.
        since: files last changed before it are left out of directories, prefixes and globs.
        say: is told, in a line, what is passed over: folders that cannot be read, and marey's own clips.

    Raises:
        UsageError: no input exists at all (its code is that of the first), an input is an empty text, a
            directory holds no video (code `empty`) or cannot be read (code `unreadable`), a scheme is not
            supported, or two addresses of web servers have one name.
        StorageError: a bucket cannot be reached; or none of the inputs can be had, one at least because
            its server is away.
    """
    _refuse_namesakes([item for item in inputs if isinstance(item, str)])
    found: dict[str, Source | Missing] = {}
    for item in inputs:
        for entry in [item] if isinstance(item, Source) else _expand(item, since, say):
            found.setdefault(entry.uri, entry)
    entries = list(found.values())
    errors = [entry.error for entry in entries if isinstance(entry, Missing)]
    if errors and len(errors) == len(entries):
        raise _none_at_all(errors)
    return entries


def _none_at_all(errors: Sequence[SourceError]) -> MareyError:
    """The error of a call of which no input can be had: what a server that is away has may well exist."""
    for error in errors:
        if error.code == TransientError.code:
            return TransientError(error.what, got=error.got, remedy=error.remedy)
    first = errors[0]
    return UsageError(first.what, got=first.got, remedy=first.remedy, code=first.code)


def _refuse_namesakes(inputs: Sequence[str]) -> None:
    """Refuse addresses that differ behind `?` only: one would be taken for the other, or replace it."""
    queries: dict[str, str] = {}
    for item in filter(is_web, inputs):
        uri, query = name_of(item), urlsplit(item).query
        if queries.setdefault(uri, query) != query:
            raise UsageError(
                f"{uri} is named twice, by addresses that differ behind `?`",
                remedy="that is no part of a video's name: give one, or copy them to names of their own",
            )


def look_again(uri: str) -> Source:
    """An input as it is now, by the name under which it is known.

    Raises:
        SourceError: it is gone, or cannot be read.
        StorageError: its bucket cannot be reached.
    """
    scheme, remote, _ = uri.partition("://")
    if not remote:
        found: Source | Missing = look(Path(uri))
    elif scheme == "s3":
        from pipeline.sources import bucket

        found = bucket.look(uri)
    else:
        from pipeline.sources import web

        found = web.look(uri)
    if isinstance(found, Missing):
        raise found.error
    return found


def renewed(source: Source) -> Source | Missing:
    """A file as it is now; a remote input as it was listed: reading it will tell whether it changed."""
    if source.path is None or source.is_remote:
        return source
    now = look(source.path)
    return now if isinstance(now, Missing) else replace(now, uri=source.uri)


def changed_since(source: Source) -> SourceError | None:
    """What is wrong with a file that is not what it was; None if nothing is. A copy never changes."""
    if source.path is None or source.is_remote:
        return None
    now = look(source.path)
    if isinstance(now, Missing):
        return SourceError(f"{source.uri} vanished while it was read", remedy="run again", code="changed")
    if now.etag != source.etag:
        return SourceError(f"{source.uri} changed while it was read", remedy="run again", code="changed")
    return None


def _expand(item: str, since: datetime | None, say: Say) -> Iterable[Source | Missing]:
    scheme, found, _ = item.partition("://")
    if not item:  # a variable of a script that is not set; as a path it would be this very folder
        raise UsageError("an input is empty", remedy="name a file or directory; this one is called .")
    if not found:
        return files.expand(item, since, say)
    if scheme == "s3":
        from pipeline.sources import bucket  # loads boto3, which local inputs spare

        return bucket.expand(item, since)
    if is_web(item):
        from pipeline.sources import web

        return [web.look(item)]
    raise UsageError(
        f"{scheme}:// inputs are not supported", remedy="give files, directories, globs, s3:// or https://"
    )
