"""Inputs on this machine: files, directories and globs."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import SourceError, UsageError
from pipeline.sources.source import VIDEO_SUFFIXES, Missing, Source

Say = Callable[[str], None]

_GLOB = frozenset("*?[")
_TOLD = 5  # folders that are named in a line
_CLIP = re.compile(r"-\d{6,}\.\d\d-[0-9a-f]{12}\.(mp4|mkv)")
"""The end of the names that `marey clip` gives; beside each lies a file of the same name, .json."""


def silent(text: str) -> None:
    """Say nothing."""


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


def expand(item: str, since: datetime | None, say: Say) -> Iterable[Source | Missing]:
    """The files that an input names; folders that cannot be read, and own clips, are told and passed over.

    Raises:
        UsageError: a directory holds no video, or cannot be read.
    """
    path = Path(os.path.expanduser(item))  # unlike Path's it leaves an unknown ~user alone
    if os.path.isdir(path):  # unlike Path's it is no error where a folder cannot be read
        files, unread = _videos_below(path)
        for exc in unread:
            if exc.filename == str(path):
                reason = exc.strerror or str(exc)
                raise UsageError(f"directory {item} cannot be read", remedy=reason, code="unreadable")
        if unread:
            say(f"passed over below {item}: {_named(unread)}")
        files = _without_clips(files, item, say)
        if not files:
            remedy = "name the files, or another directory"
            raise UsageError(f"directory {item} holds no video", remedy=remedy, code="empty")
        return _recent(files, since)
    if not os.path.exists(path) and _GLOB & set(item):
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        files, unread = [], []
        for match in matches:
            videos, errors = _videos_below(match) if match.is_dir() else ([match], [])
            files += videos
            unread += errors
        if unread:
            say(f"passed over below {item}: {_named(unread)}")
        files = _without_clips(files, item, say)
        if not files:
            error = SourceError(f"no file matches {item}", remedy="check the pattern", code="missing")
            return [Missing(item, error)]
        return _recent(dict.fromkeys(files), since)  # ** matches folders within each other, too
    return [look(path)]


def _videos_below(folder: Path) -> tuple[list[Path], list[OSError]]:
    """The video files at any depth, and the errors of folders that cannot be read.

    Names that begin with a dot are passed over: attributes that macOS keeps beside files (._gate.mp4), what
    was thrown away (.Trashes, .Trash-1000), snapshots.
    """
    errors: list[OSError] = []
    below: list[Path] = []
    for at, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below += [Path(at, name) for name in names if not name.startswith(".")]
    videos = sorted(p for p in below if p.suffix.lower() in VIDEO_SUFFIXES and os.path.isfile(p))
    return videos, [exc for exc in errors if not isinstance(exc, FileNotFoundError)]  # gone since it was met


def _without_clips(files: Sequence[Path], item: str, say: Say) -> list[Path]:
    """The files but what marey cut from them itself, whose events would be there twice."""
    clips = {path for path in files if _CLIP.search(path.name) and path.with_suffix(".json").is_file()}
    if clips:
        say(f"passed over below {item}: what `marey clip` wrote, as in {min(clips).parent}")
    return [path for path in files if path not in clips]


def _named(errors: Sequence[OSError]) -> str:
    """Folders and why they cannot be read, in a line of bearable length."""
    told = "; ".join(f"{exc.filename}: {exc.strerror}" for exc in errors[:_TOLD])
    more = len(errors) - _TOLD
    return f"{told}; and {more} more folders" if more > 0 else told


def _recent(files: Iterable[Path], since: datetime | None) -> list[Source | Missing]:
    entries = [look(path) for path in files]
    return [e for e in entries if isinstance(e, Missing) or since is None or e.changed_at >= since]
