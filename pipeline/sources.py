"""Where videos come from: files, directories and globs, and what their names tell."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.config import CameraPattern
from pipeline.errors import SourceError, UsageError
from pipeline.keys import compile_pattern

VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .dav .flv .h264 .h265 .hevc .ivf .m2ts .m4v .mjpeg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv "
    ".ts .vob .webm .wmv".split()
)
_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class Source:
    """One input file."""

    uri: str  # absolute path
    path: Path
    size_bytes: int
    changed_at: datetime  # UTC
    etag: str  # changes when the file does

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class Missing:
    """An input that was named but cannot be read."""

    uri: str
    error: SourceError


def find(inputs: Sequence[str], *, since: datetime | None = None) -> list[Source | Missing]:
    """The files that the inputs name, each once, directories and globs in the order of names.

    Args:
        inputs: files, directories (searched for video files at any depth) and globs.
        since: files last changed before it are left out of directories and globs.

    Raises:
        UsageError: no input exists at all, a directory holds no video, or a scheme is not supported.
    """
    found: dict[str, Source | Missing] = {}
    for item in inputs:
        for entry in _expand(item, since):
            found.setdefault(entry.uri, entry)
    entries = list(found.values())
    if entries and all(isinstance(entry, Missing) for entry in entries):
        first = entries[0]
        assert isinstance(first, Missing)
        raise UsageError(first.error.what, got=first.error.got, remedy=first.error.remedy)
    return entries


def _expand(item: str, since: datetime | None) -> Iterable[Source | Missing]:
    if "://" in item:
        scheme = item.split("://", 1)[0]
        raise UsageError(f"{scheme}:// inputs are not supported", remedy="give files, directories or globs")
    path = Path(item).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
        if not files:
            raise UsageError(f"directory {item} holds no video", remedy="name the files, or another directory")
        return _recent(files, since)
    if not path.exists() and _GLOB & set(item):
        files = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        if not files:
            error = SourceError(f"no file matches {item}", remedy="check the pattern", code="missing")
            return [Missing(item, error)]
        return _recent(files, since)
    return [_stat(path)]


def _recent(files: Iterable[Path], since: datetime | None) -> list[Source | Missing]:
    entries = [_stat(path) for path in files]
    return [e for e in entries if isinstance(e, Missing) or since is None or e.changed_at >= since]


def _stat(path: Path) -> Source | Missing:
    uri = str(path.absolute())
    try:
        info = path.stat()
        with path.open("rb"):
            pass
    except FileNotFoundError:
        return Missing(uri, SourceError(f"{path} does not exist", remedy="check the name", code="missing"))
    except OSError as exc:
        reason = exc.strerror or str(exc)
        return Missing(uri, SourceError(f"{path} cannot be read", remedy=reason, code="unreadable"))
    changed = datetime.fromtimestamp(info.st_mtime, UTC)
    return Source(uri, path.absolute(), info.st_size, changed, f"{info.st_size}-{info.st_mtime_ns}")


def camera_and_time(uri: str, patterns: Iterable[CameraPattern]) -> tuple[str | None, datetime | None]:
    """Camera and recording time that the first matching pattern reads from a path, else (None, None)."""
    key = Path(uri).with_suffix("").as_posix()
    for pattern in patterns:
        match = compile_pattern(pattern.pattern, pattern.timezone).match(key)
        if match is not None:
            return match
    return None, None
