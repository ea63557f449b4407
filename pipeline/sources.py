"""Where videos come from: files, directories and globs, and what their names tell."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.config import CameraPattern
from pipeline.errors import SourceError, UsageError
from pipeline.keys import compile_pattern

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp", ".asf", ".avi", ".dav", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m4v", ".mjpeg",
        ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv",
    }
)  # fmt: skip
_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class Source:
    """One input file."""

    uri: str  # absolute path
    path: Path
    size_bytes: int
    changed_at: datetime  # UTC
    etag: str  # changes when the file does


@dataclass(frozen=True)
class Missing:
    """An input that was named but cannot be read."""

    uri: str
    error: SourceError


def find(inputs: Sequence[str], *, since: datetime | None = None) -> list[Source | Missing]:
    """The files that the inputs name, each once, directories and globs in the order of names.

    Args:
        inputs: files, directories (searched for video files at any depth) and globs of both.
        since: files last changed before it are left out of directories and globs.

    Raises:
        UsageError: no input exists at all, a directory holds no video, or a scheme is not supported.
    """
    found: dict[str, Source | Missing] = {}
    for item in inputs:
        for entry in _expand(item, since):
            found.setdefault(entry.uri, entry)
    entries = list(found.values())
    errors = [entry.error for entry in entries if isinstance(entry, Missing)]
    if errors and len(errors) == len(entries):
        raise UsageError(errors[0].what, got=errors[0].got, remedy=errors[0].remedy)
    return entries


def look(path: Path) -> Source | Missing:
    """A file as it is now."""
    # `..` is the parent of where a link leads, so such paths alone are resolved; others keep their names.
    path = path.resolve() if ".." in path.parts else path.absolute()
    uri = os.fsencode(path).decode("utf-8", "backslashreplace")
    if uri != str(path):
        error = SourceError(f"the name of {uri} is not UTF-8", remedy="rename the file", code="unreadable")
        return Missing(uri, error)
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            error = SourceError(f"{path} is not a regular file", remedy="give a file", code="unreadable")
            return Missing(uri, error)
        with path.open("rb"):
            pass
    except FileNotFoundError:
        return Missing(uri, SourceError(f"{path} does not exist", remedy="check the name", code="missing"))
    except OSError as exc:
        reason = exc.strerror or str(exc)
        return Missing(uri, SourceError(f"{path} cannot be read", remedy=reason, code="unreadable"))
    changed = datetime.fromtimestamp(info.st_mtime, UTC)
    return Source(uri, path, info.st_size, changed, f"{info.st_size}-{info.st_mtime_ns}")


def changed_since(source: Source) -> SourceError | None:
    """What is wrong with a source that is no longer the file it was; None if nothing is."""
    now = look(source.path)
    if isinstance(now, Missing):
        return SourceError(f"{source.uri} vanished while it was read", remedy="run again", code="changed")
    if now.etag != source.etag:
        return SourceError(f"{source.uri} changed while it was read", remedy="run again", code="changed")
    return None


def camera_and_time(uri: str, patterns: Iterable[CameraPattern]) -> tuple[str | None, datetime | None]:
    """Camera and recording time that the first matching pattern reads from a path, else (None, None)."""
    key = Path(uri).with_suffix("").as_posix()
    for pattern in patterns:
        match = compile_pattern(pattern.pattern, pattern.timezone).match(key)
        if match is not None:
            return match
    return None, None


def _expand(item: str, since: datetime | None) -> Iterable[Source | Missing]:
    if "://" in item:
        scheme = item.split("://", 1)[0]
        raise UsageError(f"{scheme}:// inputs are not supported", remedy="give files, directories or globs")
    path = Path(os.path.expanduser(item))  # unlike Path's it leaves an unknown ~user alone
    if os.path.isdir(path):  # unlike Path's it is no error where a folder cannot be read
        files = _videos_below(path)
        if not files:
            raise UsageError(
                f"directory {item} holds no video", remedy="name the files, or another directory"
            )
        return _recent(files, since)
    if not os.path.exists(path) and _GLOB & set(item):
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        files = [file for match in matches for file in (_videos_below(match) if match.is_dir() else [match])]
        if not files:
            error = SourceError(f"no file matches {item}", remedy="check the pattern", code="missing")
            return [Missing(item, error)]
        return _recent(files, since)
    return [look(path)]


def _videos_below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and os.path.isfile(p))


def _recent(files: Iterable[Path], since: datetime | None) -> list[Source | Missing]:
    entries = [look(path) for path in files]
    return [e for e in entries if isinstance(e, Missing) or since is None or e.changed_at >= since]
