"""Annotated clips: a video with its tracks, rules and events drawn over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
from av.container import OutputContainer
from av.video.stream import VideoStream

from pipeline.config import Rule
from pipeline.errors import MediaError, StorageError, os_errors_as
from pipeline.media.container import Limits, undecodable
from pipeline.media.info import VideoInfo
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Frame
from pipeline.media.scan import Scanner
from pipeline.outputs import whole
from pipeline.report.motion import HOLD_S
from pipeline.report.overlay import TRAIL_S, Overlay

CRF = "23"
"""x264's quality: 18 looks lossless, 28 is plainly coarse."""

PROGRESS_FRAMES = 25

LEAD_S = 5.0
"""A stretch that begins later is sought, where the file allows it; others are read from the file's start."""

Progress = Callable[[float], None]
"""Called with the time in seconds up to which frames are done."""


@dataclass(frozen=True)
class Annotated:
    """What was written: how many frames, and the time of the first in the video, in seconds."""

    frames: int
    t_start: float


def annotate(
    video_path: Path,
    out_path: Path,
    tracks: pa.Table,
    events: pa.Table,
    rules: Sequence[Rule] = (),
    *,
    trail_s: float = TRAIL_S,
    hold_s: float = HOLD_S,
    span: tuple[float, float] | None = None,
    progress: Progress | None = None,
    limits: Limits | None = None,
    scanner: Scanner | None = None,
) -> Annotated:
    """Write the video with boxes, trails, rules and captions over it as H.264 in MP4.

    Every frame keeps its time, counted from the first one; sound is left out. Pictures are upright
    and of the displayed size (an odd last row or column is cut off). Boxes between samples are interpolated;
    filled-in ones (`observed = false`) show their corners only.

    Args:
        video_path: a local file.
        out_path: the MP4 to write; replaced if it exists.
        tracks: TRACKS rows of the video.
        events: EVENTS rows of the video.
        rules: the rules whose lines and zones are drawn.
        trail_s: seconds of past that trails show.
        hold_s: seconds between two samples up to which a box is drawn between them.
        span: begin and end in seconds: only the frames on display in between.
        progress: called now and then.
        limits: on pixels and streams of the video.
        scanner: for many stretches of one video, whose packets it looks through once.

    Raises:
        SourceError, MediaError: the video cannot be read, or has no frame in `span`; nothing is written.
        StorageError: `out_path` cannot be written.
    """
    with PyavReader(video_path, limits or Limits()) as reader:
        if reader.origin is None:
            raise undecodable(video_path)
        size = (reader.info.width_px, reader.info.height_px)
        overlay = Overlay(tracks, events, rules, *size, trail_s, hold_s)
        if span is not None:
            _seek(video_path, reader, reader.origin, span[0], scanner or Scanner())
        frames: Iterator[Frame] = (event for event in reader.events() if isinstance(event, Frame))
        if span is not None:
            frames = _within(frames, span, reader.info.time_base)
        with os_errors_as(StorageError, f"{out_path} cannot be written"):
            return _write(out_path, reader.info, frames, overlay, progress)


def _seek(video_path: Path, reader: PyavReader, origin: int, begin_s: float, scanner: Scanner) -> None:
    """Go to a key frame before a time, if the file may be entered there."""
    if begin_s > LEAD_S and scanner.scan(str(video_path), Limits(), lambda: None).unsafe is None:
        reader.seek(origin + round((begin_s - 1) / reader.info.time_base))


def _within(frames: Iterable[Frame], span: tuple[float, float], base: Fraction) -> Iterator[Frame]:
    """Of frames those that are on display between two times."""
    shown: Frame | None = None
    for frame in frames:
        t = float(frame.ticks * base)
        if t >= span[1]:
            break
        if t > span[0] and shown is not None:
            yield shown
        shown = frame
    if shown is not None:
        yield shown


def _write(
    out_path: Path, info: VideoInfo, frames: Iterable[Frame], overlay: Overlay, progress: Progress | None
) -> Annotated:
    """Encode beside `out_path` and move it there when it is whole."""
    options = {"movflags": "+faststart"}
    with whole(out_path) as unfinished, av.open(str(unfinished), "w", "mp4", options=options) as container:
        return _encode(container, _stream(container, info), info, frames, overlay, progress)


def _stream(container: OutputContainer, info: VideoInfo) -> VideoStream:
    options = {"preset": "veryfast", "crf": CRF}
    stream = container.add_stream(
        "libx264", rate=Fraction(info.fps_mean or 25).limit_denominator(1001), options=options
    )
    stream.width, stream.height = max(info.width_px & ~1, 2), max(info.height_px & ~1, 2)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = stream.time_base = info.time_base
    return stream


def _encode(
    container: OutputContainer,
    stream: VideoStream,
    info: VideoInfo,
    frames: Iterable[Frame],
    overlay: Overlay,
    progress: Progress | None,
) -> Annotated:
    last, count, first = -1, 0, 0
    for frame in frames:
        first = frame.ticks if not count else first
        picture = np.ascontiguousarray(frame.render(info.width_px, info.height_px))
        t = float(frame.ticks * info.time_base)
        overlay.draw(picture, t)
        # H.264 in MP4 wants rising times: a frame shown together with the one before comes a tick later
        last, count = max(frame.ticks - first, last + 1), count + 1
        drawn = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(picture[: stream.height, : stream.width]), format="rgb24"
        )
        drawn.pts, drawn.time_base = last, info.time_base
        container.mux(stream.encode(drawn))
        if progress is not None and count % PROGRESS_FRAMES == 0:
            progress(t)
    if not count:
        raise MediaError("the video has no frame in that stretch")
    container.mux(stream.encode(None))
    return Annotated(count, float(first * info.time_base))
