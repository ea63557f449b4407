"""What is in a file: `probe`."""

from __future__ import annotations

from pathlib import Path

from pipeline.media.container import Limits, undecodable
from pipeline.media.info import VideoInfo
from pipeline.media.pyav_reader import PyavReader

__all__ = ["VideoInfo", "probe"]


def probe(
    path: str | Path,
    *,
    max_pixels: int = Limits.max_pixels,
    max_streams: int = Limits.max_streams,
) -> VideoInfo:
    """Headers and first frame of a file's best video stream.

    This parses the file in the calling process; for files from strangers let a decoding process do it
    (`Feed` gives the same `VideoInfo` with `JobStart`).

    Raises:
        SourceError: the file is missing or cannot be read.
        MediaError: it is not a video that can be decoded; `code` says why (see `open_container`), and
            `media_undecodable` that not one frame could be decoded.
    """
    with PyavReader(path, Limits(max_pixels, max_streams)) as reader:
        if reader.origin is None:
            raise undecodable(path)
        return reader.info
