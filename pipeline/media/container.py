"""Opening a file that may be hostile: allow-lists of formats and protocols, limits before any decoding."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import Flags, InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from pipeline.errors import MediaError, SourceError, os_errors_as
from pipeline.media.damage import check_readable

ALLOWED_FORMATS = (
    "mov,mp4,matroska,webm,mpegts,mpeg,avi,flv,ivf,ogg,asf,mxf,dhav,h264,hevc,mpegvideo,m4v,"
    "mjpeg,jpeg_pipe,mpjpeg,"  # JPEGs in one file, with parts of MIME around them or without
    "mp3,aac,flac,wav"  # opened only to say that there is no video stream in them
)
"""Container formats that hold pictures and sound themselves. Play lists and scripts that make FFmpeg open
other files (concat, hls, dash, sdp, image2, ...) are not among them."""

ALLOWED_PROTOCOLS = "file"

_NO_RECORDING = Disposition.attached_pic | Disposition.timed_thumbnails

_ENCRYPTION_MARKS = (b"encv", b"pssh", b"sinf")
_PEEK_BYTES = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What is refused before decoding: pictures of more pixels, files of more streams."""

    max_pixels: int = 64_000_000
    max_streams: int = 64


def file_identity(path: str | Path) -> tuple[object, ...] | None:
    """What changes when a path leads to another or a changed file; None if it leads nowhere."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return os.path.abspath(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_container(path: str | Path, limits: Limits) -> tuple[InputContainer, VideoStream]:
    """Open a file and choose its best (largest) video stream; nothing is decoded for the caller yet.

    The caller closes the container. Packet times are left as the file has them (FFmpeg is told not to make
    up missing ones).

    Raises:
        SourceError: the file is missing or cannot be read.
        MediaError: `code` says why: `media_empty`, `media_format` (no allowed container format),
            `media_encrypted`, `media_no_video`, `media_codec` (no decoder), `media_streams`, `media_pixels`.
    """
    _check_file(path)
    # "file:" and an absolute path: a name such as "concat:a|b" or "http://..." stays a file name.
    url = "file:" + os.path.abspath(path)
    options = {
        "format_whitelist": ALLOWED_FORMATS,
        "protocol_whitelist": ALLOWED_PROTOCOLS,
        "max_streams": str(limits.max_streams + 1),
        "max_pixels": str(limits.max_pixels),
        "merge_pmt_versions": "1",  # MPEG-TS whose recorder moved the picture to another PID: one stream
    }
    try:
        container = av.open(url, mode="r", options=options, metadata_errors="replace")
    except av.FFmpegError as exc:
        raise _refusal(path, exc, limits) from exc
    try:
        container.flags &= ~Flags.gen_pts.value  # type: ignore[operator]  # a plain number
        return container, _choose_stream(container, path, limits)
    except BaseException:
        container.close()
        raise


def _check_file(path: str | Path) -> None:
    with os_errors_as(SourceError, f"{path} cannot be read"):
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path} is not a regular file")
    if status.st_size == 0:
        raise MediaError(f"{path} is empty", remedy="upload or copy it again", code="media_empty")


def _refusal(path: str | Path, exc: av.FFmpegError, limits: Limits) -> MediaError | SourceError:
    if isinstance(exc, PermissionError):
        return SourceError(f"{path} cannot be read", remedy="permission denied")
    if isinstance(exc, MemoryError):
        # What the MOV demuxer answers when it may not add another stream.
        return _too_many_streams(path, f"more than {limits.max_streams}", limits)
    check_readable(path, 0)
    if _looks_encrypted(path):
        return MediaError(f"{path} is encrypted", remedy="decrypt it first", code="media_encrypted")
    return MediaError(
        f"{path} is not a video file that can be read",
        remedy="no allowed container format with a whole header was found in it",
        code="media_format",
    )


def _looks_encrypted(path: str | Path) -> bool:
    """Whether boxes of common encryption (ISO/IEC 23001-7) stand at the file's start or end."""
    with open(path, "rb") as file:
        head = file.read(_PEEK_BYTES)
        file.seek(max(0, os.path.getsize(path) - _PEEK_BYTES))
        tail = file.read(_PEEK_BYTES)
    return head[4:8] == b"ftyp" and any(mark in part for mark in _ENCRYPTION_MARKS for part in (head, tail))


def _largest(container: InputContainer) -> Stream | None:
    """The largest video stream that can be decoded; of equal ones, and of none, what FFmpeg takes.

    FFmpeg by itself prefers the stream of which it saw most frames: a small preview beside the recording.
    The picture on the cover of a piece of music is none.
    """
    best = container.streams.best("video")
    if best is not None and best.disposition & _NO_RECORDING:
        best = None
    moving = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & _NO_RECORDING
    ]
    size = {s.index: s.codec_context.width * s.codec_context.height for s in moving}
    return max(moving, key=lambda s: (size[s.index], s is best), default=best)


def _choose_stream(container: InputContainer, path: str | Path, limits: Limits) -> VideoStream:
    if len(container.streams) > limits.max_streams:
        raise _too_many_streams(path, len(container.streams), limits)
    stream = _largest(container)
    if stream is None:
        kinds = ", ".join(sorted({s.type for s in container.streams}))
        raise MediaError(f"{path} has no video stream", got=kinds or "no stream", code="media_no_video")
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        raise MediaError(f"{path}: there is no decoder for its video stream", code="media_codec")
    codec = stream.codec_context
    if codec.width * codec.height > limits.max_pixels:
        raise MediaError(
            f"{path}: its pictures are larger than max_pixels = {limits.max_pixels}",
            got=f"{codec.width}x{codec.height}",
            remedy="raise video.max_pixels if this is meant",
            code="media_pixels",
        )
    codec.options = {"max_pixels": str(limits.max_pixels)}
    # One decoding process per core: threads would only add latency, and change what damaged frames look like.
    codec.thread_type = "NONE"
    codec.thread_count = 1
    return stream


def _too_many_streams(path: str | Path, got: object, limits: Limits) -> MediaError:
    return MediaError(
        f"{path} has more streams than max_streams = {limits.max_streams}",
        got=got,
        remedy="raise video.max_streams if this is meant",
        code="media_streams",
    )


def undecodable(path: str | Path) -> MediaError:
    """The error of a file that opens, but of which not one frame decodes."""
    if _looks_encrypted(path):
        return MediaError(f"{path} is encrypted", remedy="decrypt it first", code="media_encrypted")
    return MediaError(f"{path}: no frame could be decoded", code="media_undecodable")
