"""What a file's container says, and its first frame as a small picture, read by a process that may crash."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.config import VideoConfig
from pipeline.errors import MareyError
from pipeline.media import DecodeJob, Feed, JobEnd, JobStart, Letterbox, SampledFrame, VideoInfo
from pipeline.sources import Source

THUMBNAIL_PX = 320
"""Longest side of a thumbnail: enough to know the scene by, some 10 kB."""

_QUALITY = 70


@dataclass(frozen=True)
class Probed:
    """`thumbnail` is a JPEG, upright; `error` says why the file is no video that can be read."""

    info: VideoInfo | None = None
    thumbnail: bytes | None = None
    error: MareyError | None = None


def open_prober() -> Feed:
    """The process that `probe` asks; a context manager."""
    return Feed(num_processes=1, ring_size=2, max_pixels=THUMBNAIL_PX**2)


def probe(prober: Feed, source: Source, settings: VideoConfig) -> Probed:
    """Open a file and decode its first frame."""
    job = DecodeJob(
        key=source.uri,
        path=str(source.path),
        end_sample=1,
        width=THUMBNAIL_PX,
        height=THUMBNAIL_PX,
        max_pixels=settings.max_pixels,
        max_streams=settings.max_streams,
        stall_s=settings.stall_s,
        max_memory_bytes=settings.max_memory_mb << 20,
        sparse=False,  # one frame does not repay a look at all packets
    )
    info, letterbox, thumbnail, error = None, None, None, None
    for item in prober.run([job]):
        if isinstance(item, JobStart):
            info, letterbox = item.info, item.letterbox
        elif isinstance(item, SampledFrame) and letterbox is not None:
            thumbnail = _jpeg(item, letterbox)
        elif isinstance(item, JobEnd):
            info, error = item.info or info, item.error
    return Probed(info, thumbnail, error and source.told(error))


def _jpeg(frame: SampledFrame, letterbox: Letterbox) -> bytes:
    bottom, right = letterbox.top + letterbox.content_height, letterbox.left + letterbox.content_width
    content = frame.picture[letterbox.top : bottom, letterbox.left : right, ::-1]
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(content), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return encoded.tobytes()
