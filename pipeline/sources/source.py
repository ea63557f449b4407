"""What an input is, whatever it lies on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.config import CameraPattern
from pipeline.errors import MareyError, SourceError, UsageError
from pipeline.keys import compile_pattern

VIDEO_SUFFIXES = frozenset(
    {
        ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".dav", ".flv", ".h264", ".h265", ".hevc", ".ivf",
        ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
        ".ogv", ".ts", ".vob", ".webm", ".wmv",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One input. A remote one has a `path` and a `content_id` once it is spooled."""

    uri: str  # absolute path, s3://bucket/key, or https:// without query and user
    path: Path | None
    size_bytes: int
    changed_at: datetime  # UTC
    etag: str | None  # changes when the bytes do; null: the server does not say
    content_id: str | None = None
    # What a web server is asked for, query and all.
    address: str = field(default="", repr=False, compare=False)
    # When the name led to this version; of a copy: when its reading began.
    seen_at: datetime = field(default_factory=lambda: datetime.now(UTC), repr=False, compare=False)

    @property
    def asked(self) -> str:
        """The input by which this video is found again; its query may be a secret."""
        return self.address or self.uri

    @property
    def is_remote(self) -> bool:
        return "://" in self.uri

    def unspooled(self) -> Source:
        """The same without its copy."""
        return replace(self, path=None, content_id=None) if self.is_remote else self

    def told(self, error: MareyError) -> MareyError:
        """An error that names the copy, naming the input instead."""
        if self.path is None or not self.is_remote:
            return error
        what, remedy = (text.replace(str(self.path), self.uri) for text in (error.what, error.remedy))
        return type(error)(what, got=error.got, remedy=remedy, code=error.code)


@dataclass(frozen=True)
class Missing:
    """An input that was named but cannot be read."""

    uri: str
    error: SourceError


class ChangedError(Exception):
    """The bytes are no longer those of the version that was asked for."""


def is_web(address: str) -> bool:
    """Whether an input is on a web server."""
    return address.startswith(("https://", "http://"))


def name_of(address: str) -> str:
    """The URI of an input: of one on a web server without user, password, query and fragment.

    Raises:
        UsageError: it is no address.
    """
    if not is_web(address):
        return address
    try:
        parts = urlsplit(address)
    except ValueError as exc:  # its text may hold a password or a query
        what = f"an input with {address.partition('://')[0]}:// is no address"
        raise UsageError(what, remedy=f"check it: {exc}") from exc
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def suffix(uri: str) -> str:
    """The suffix of a name, in lower case; empty if there is none."""
    name = uri.rpartition("/")[2]
    stem, dot, end = name.rpartition(".")
    return f".{end.lower()}" if dot and stem else ""


def camera_and_time(uri: str, patterns: Iterable[CameraPattern]) -> tuple[str | None, datetime | None]:
    """Camera and recording time that the first matching pattern reads from a name, else (None, None).

    A pattern that ends with the suffix of a video, as `{camera}.mp4`, is for names with that suffix only.
    """
    end = suffix(uri)
    key = uri[: len(uri) - len(end)]
    for pattern in patterns:
        form, own = pattern.pattern, suffix(pattern.pattern)
        if own in VIDEO_SUFFIXES:
            if own != end:
                continue
            form = form[: len(form) - len(own)]
        match = compile_pattern(form, pattern.timezone).match(key)
        if match is not None:
            return match
    return None, None
