"""The reader: PyAV (FFmpeg), one sequential pass, errors caught per packet."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NoReturn

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.format import Flags
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.errors import MediaError
from pipeline.media.clock import Clock
from pipeline.media.container import Limits, open_container
from pipeline.media.damage import ends_early
from pipeline.media.info import Orientation, TimeSource, VideoInfo, credible_aspect, displayed_size
from pipeline.media.packets import Ahead, packets
from pipeline.media.reader import Frame, Grey, Lost, Picture, ReaderFailed, ReaderName
from pipeline.media.sparse import Plan

_SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Of swscale's ways to shrink the one nearest to a float reference (56 dB) at 1 ms a frame; without the two
rounding flags colours come out up to 2 of 255 darker."""

_BT709, _BT601, _BT2020 = 1, 5, 9  # numbers of swscale's matrices
_NAMED_MATRICES = frozenset((0, 1, 4, 5, 6, 7, 9))  # values of AVColorSpace that swscale computes with
_CONSTANT_LUMINANCE = 10  # AVCOL_SPC_BT2020_CL
_HD_WIDTH, _SD_HEIGHT = 1280, 576

_LONGEST_CREDIBLE_S = 14 * 86400


class PyavReader:
    """One open file, read from its start. See `pipeline.media.reader.Reader`.

    Opening decodes up to the first displayed frame, which tells rotation and size. A file in which no frame
    decodes opens too: `events()` then gives its losses only. `progress` is called now and then
    while it is read.

    Raises:
        SourceError, MediaError: as `open_container` says.
    """

    name: ReaderName = "pyav"
    can_seek = True
    renders_apart = True

    def __init__(self, path: str | Path, limits: Limits, progress: Callable[[], None] = lambda: None) -> None:
        self._path, self._progress = path, progress
        self._container, self._stream = open_container(path, limits)
        self._renderer = _Renderer()
        self._waiting: deque[Frame | Lost] = deque()
        self._source: Iterator[VideoFrame | Frame | Lost] = iter(())
        self._plan: Plan | None = None
        try:
            self._time_base = self._stream.time_base or Fraction(1, 90_000)
            fps = _fps(self._container, self._stream) or self._stream.guessed_rate
            self._clock = Clock(self._time_base, float(fps) if fps else None)
            self._source = self._decode()
            self.info = self._describe(self._first_frame())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PyavReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let go of the decoder; may be called twice. `events()` gives nothing more."""
        self._container.close()
        # The generator knows the reader and the reader the generator: together they would keep the decoder's
        # pictures until the next garbage collection.
        self._source = iter(())
        self._waiting.clear()

    @property
    def time_source(self) -> TimeSource:
        """Where most of the frame times so far came from."""
        return self._clock.time_source

    @property
    def origin(self) -> int | None:
        """Time in the file of the first displayed frame, in the stream's time base."""
        return self._clock.origin

    def events(self) -> Iterator[Frame | Lost]:
        """The rest of the file: frames in order of presentation, and what was lost between them."""
        while self._waiting:
            yield self._waiting.popleft()
        for event in self._source:
            yield self._wrap(event) if isinstance(event, VideoFrame) else event

    def read_sparsely(self, plan: Plan) -> None:
        """Begin anew, and decode only what the plan feeds; the other frames cannot be rendered.

        Where the file turns out to be another than the plan was made for, or is damaged, `events()` raises
        ReaderFailed: it is to be read in full.
        """
        self._plan = plan
        self.seek(int(plan.order[0]))

    def seek(self, pts: int) -> None:
        """Go to the key frame at or before `pts`."""
        if self._plan is not None:
            pts = self._plan.start_before(pts)
        try:
            self._container.seek(pts, stream=self._stream)
        except av.FFmpegError as exc:
            raise MediaError(f"{self._path}: seeking failed", got=pts, code="media_seek") from exc
        self._waiting.clear()
        self._clock.jump()
        self._source = self._decode() if self._plan is None else self._decode_sparsely(self._plan)

    def _first_frame(self) -> VideoFrame | None:
        for event in self._source:
            if isinstance(event, VideoFrame):
                self._waiting.append(self._wrap(event))
                return event
            self._waiting.append(event)
        return None

    def _decode(self) -> Iterator[VideoFrame | Lost]:
        codec, clock = self._stream.codec_context, self._clock
        ahead = Ahead(packets(self._path, self._container, self._stream, self._progress))
        missing = 0  # losses that nothing came after yet
        for packet in ahead:
            if packet is None:
                missing += 1
                continue
            if missing:
                yield from [Lost(clock.place_before(ahead.first_shown(packet)))] * missing
            missing = 0
            try:
                frames = codec.decode(packet)
            except MemoryError:
                raise
            except av.FFmpegError:
                yield Lost(clock.place(packet.pts))
            else:
                yield from frames
                if packet.is_corrupt:
                    yield Lost(clock.place_before(ahead.after_a_step(packet)))
        yield from _drain(codec)
        if missing or ends_early(self._path, self._container.format.name):
            yield from [Lost(None)] * max(1, missing)

    def _decode_sparsely(self, plan: Plan) -> Iterator[VideoFrame | Frame]:
        """Frames in order of presentation; those not shown have no picture and come as their packets pass."""
        origin, steps = self._clock.origin or 0, self._fed(plan)
        decoded: deque[tuple[int, VideoFrame]] = deque()  # with their times

        def step() -> int:
            for place, frames in steps:
                for frame in frames:
                    if frame.pts is None or frame.is_corrupt:
                        raise ReaderFailed("a frame is damaged")
                    decoded.append((frame.pts, frame))
                return place
            raise ReaderFailed("a frame does not come out")

        at = step()
        for rank in range(int(np.searchsorted(plan.stamps, plan.order[at])), len(plan.stamps)):
            stamp, shown = int(plan.stamps[rank]), bool(plan.shown[rank])
            while at < plan.place[rank] or (shown and not (decoded and decoded[-1][0] >= stamp)):
                at = step()
            while decoded and decoded[0][0] < stamp:
                decoded.popleft()
            if not shown:
                duration = int(plan.durations[rank])
                yield Frame(stamp - origin, stamp, duration, _not_decoded, _not_decoded)
            elif decoded[0][0] == stamp:
                yield decoded.popleft()[1]
            else:
                raise ReaderFailed("a frame does not come out")

    def _fed(self, plan: Plan) -> Iterator[tuple[int, list[VideoFrame]]]:
        """Places of the packets, from where the file stands, and what came out of the decoder after each."""
        codec, place = self._stream.codec_context, None
        for packet in packets(self._path, self._container, self._stream, self._progress):
            pts = None if packet is None else packet.pts
            place = plan.start_at(pts) if place is None else place + 1
            if packet is None or place is None or place >= len(plan.order) or pts != plan.order[place]:
                raise ReaderFailed("its packets are not those that were seen before")
            try:
                yield place, codec.decode(packet) if plan.fed[place] else []
            except MemoryError:
                raise
            except av.FFmpegError as exc:
                raise ReaderFailed("a packet does not decode") from exc
        yield len(plan.order), _drain(codec)

    def _wrap(self, frame: VideoFrame) -> Frame:
        duration = frame.duration or 0
        return Frame(
            self._clock.show(frame.pts, frame.dts, duration),
            frame.pts,
            duration,
            partial(self._renderer.render, frame),
            partial(self._renderer.render_grey, frame),
        )

    def _describe(self, frame: VideoFrame | None) -> VideoInfo:
        stream, codec = self._stream, self._stream.codec_context
        width, height = (frame.width, frame.height) if frame else (codec.width, codec.height)
        aspect = credible_aspect(stream.sample_aspect_ratio)
        orientation = self._renderer.orientation(frame) if frame else Orientation()
        width_px, height_px = displayed_size(width, height, aspect, orientation)
        return VideoInfo(
            container=self._container.format.name,
            codec=codec.codec.canonical_name,
            pix_fmt=frame.format.name if frame else codec.pix_fmt,
            stream_index=stream.index,
            streams=tuple(map(_in_words, self._container.streams)),
            width_px=width_px,
            height_px=height_px,
            coded_width=width,
            coded_height=height,
            sample_aspect=aspect,
            rotation=orientation.rotation,
            mirrored=orientation.mirrored,
            time_base=self._time_base,
            fps_mean=float(fps) if (fps := _fps(self._container, stream)) else None,
            duration_s=_duration_hint(self._container, stream),
            creation_time=_creation_time(self._container.metadata, stream.metadata),
        )


def _not_decoded(width: int, height: int) -> NoReturn:
    raise RuntimeError("this frame is on display at no tick and was not decoded")


def _drain(codec: VideoCodecContext) -> list[VideoFrame]:
    """The frames that the decoder still holds back at the end."""
    try:
        return codec.decode(None)
    except av.FFmpegError:
        return []


class _Renderer:
    """Makes upright RGB pictures of the frames of one file."""

    def __init__(self) -> None:
        # One for all frames saves setting it up each time; it notices by itself when they change.
        self._reformatter, self._to_grey = VideoReformatter(), VideoReformatter()
        self._orientations: dict[int, Orientation] = {}

    def orientation(self, frame: VideoFrame) -> Orientation:
        """How the frame is to be turned, by the display matrix that came with it.

        Frames of the same rotation count as mirrored like the first of them. A frame whose side data is
        looked at has a reference to itself and lives on, with its picture, until the next garbage collection.
        """
        if frame.rotation not in self._orientations:
            self._orientations[frame.rotation] = _orientation_of(frame)
        return self._orientations[frame.rotation]

    def render(self, frame: VideoFrame, width: int, height: int) -> Picture:
        """RGB picture of `width` x `height` after mirroring and rotation: shrunk first, turned afterwards.

        Colours follow the frame's matrix and range; a frame that names no matrix, or one that FFmpeg cannot
        compute with (YCgCo, ICtCp), counts as BT.709 if it is HD, else as BT.601. High dynamic range is not
        tone-mapped.
        """
        # As planes: swscale has no fast way to pixels, and needs half as long again for them.
        green, blue, red = self._planes(self._reformatter, frame, width, height, "gbrp")
        return self._upright(frame, np.asarray(cv2.merge([red, green, blue]), np.uint8))

    def render_grey(self, frame: VideoFrame, width: int, height: int) -> Grey:
        """Its brightness in the same size: for small pictures a quarter of the work."""
        [grey] = self._planes(self._to_grey, frame, width, height, "gray")
        return self._upright(frame, grey)

    def _planes(
        self, reformatter: VideoReformatter, frame: VideoFrame, width: int, height: int, pix_fmt: str
    ) -> list[NDArray[np.uint8]]:
        """The frame as it is stored, in the size of an upright picture of `width` x `height`."""
        stored = (height, width) if self.orientation(frame).swaps_sides else (width, height)
        planes = reformatter.reformat(
            frame,
            *stored,
            format=pix_fmt,
            interpolation=_SCALING,
            src_colorspace=_matrix(frame),
            dst_color_range="JPEG",
            threads=1,
        ).planes
        return [
            np.frombuffer(memoryview(p), np.uint8).reshape(-1, p.line_size)[:, : stored[0]] for p in planes
        ]

    def _upright(self, frame: VideoFrame, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        orientation = self.orientation(frame)
        if orientation.mirrored:
            stored = stored[:, ::-1]
        return np.rot90(stored, orientation.rotation // 90).astype(np.uint8, copy=False)


def _orientation_of(frame: VideoFrame) -> Orientation:
    try:
        matrix = frame.side_data[SideDataType.DISPLAYMATRIX]  # type: ignore[typeddict-item]  # a mapping
    except KeyError:
        return Orientation()
    return Orientation.of_matrix(bytes(matrix))


def _matrix(frame: VideoFrame) -> int | None:
    if frame.colorspace in _NAMED_MATRICES:
        return None  # the frame's own
    if frame.colorspace == _CONSTANT_LUMINANCE:
        return _BT2020
    return _BT709 if frame.width >= _HD_WIDTH or frame.height > _SD_HEIGHT else _BT601


def _in_words(stream: Stream) -> str:
    """Kind, codec, size and rate of a stream, as far as the header tells them."""
    codec = stream.codec_context
    words = [stream.type or "unknown", codec.name if codec is not None else "unknown codec"]
    if isinstance(stream, VideoStream) and codec is not None:
        words.append(f"{stream.width}x{stream.height}")
        if stream.average_rate:
            words.append(f"{float(stream.average_rate):.6g} fps")
    return " ".join(words)


def _fps(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Frames per second; of a raw stream what the codec says, since FFmpeg's average is its own default."""
    is_raw = container.format.flags & Flags.no_timestamps.value  # type: ignore[operator]  # a plain number
    return (stream.guessed_rate if is_raw else None) or stream.average_rate


def _duration_hint(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / av.time_base
    else:
        return None
    return seconds if 0 < seconds <= _LONGEST_CREDIBLE_S else None


def _creation_time(*metadata: dict[str, str]) -> datetime | None:
    """The first creation time that is one: clocks that were never set say 1904 or 1970."""
    for tags in metadata:
        with contextlib.suppress(KeyError, ValueError, OverflowError):
            created = datetime.fromisoformat(tags["creation_time"])
            created = created.replace(tzinfo=created.tzinfo or UTC).astimezone(UTC)
            if created.year > 1970:
                return created
    return None
