"""The other reader: decord, for plain footage that was checked to be plain."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.errors import MediaError
from pipeline.media.container import Limits
from pipeline.media.info import TimeSource, VideoInfo
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Frame, Grey, Lost, Picture, ReaderFailed, ReaderName
from pipeline.media.sampling import seconds
from pipeline.media.scan import PacketScan

_CODECS = frozenset({"h264", "hevc"})
_TIME_TOLERANCE_S = 0.002
_MAX_RECOVERED = 1e-9
"""Share of frames that decord may replace by their neighbours: not one. It takes 0 for any number."""

_MAX_BEHIND = 128
"""Frames that are decoded at once to catch up; the longest silence between two signs of progress."""


class DecordReader:
    """A file read in order by decord; times, count and size come from PyAV's look at the packets.

    decord 0.6 counts packets as frames, starts every file at 0 and fills what it cannot decode with copies,
    so it is let only at files for which each of these makes no difference. A frame is decoded when its
    picture is asked for. There are no losses: where a frame does not decode, this reader fails.

    Args:
        path: the file.
        limits: as for `PyavReader`, which opens the file first.
        packets: what the scan of all packets found.

    Raises:
        ReaderFailed: the file is not plain, or decord sees it otherwise than the scan.
        SourceError, MediaError: as `open_container` says.
    """

    name: ReaderName = "decord"
    can_seek = False
    renders_apart = False  # a picture is decoded when it is rendered
    time_source: TimeSource = "pts"

    def __init__(self, path: str | Path, limits: Limits, packets: PacketScan) -> None:
        with PyavReader(path, limits) as first:
            self.info, self.origin = first.info, first.origin
        if (reason := _unsuitable(self.info, self.origin, packets)) is not None:
            raise ReaderFailed(reason)
        import decord
        from decord._ffi.base import DECORDError, DECORDLimitReachedError

        decord.logging.set_level(decord.logging.QUIET)
        self._errors = DECORDError, DECORDLimitReachedError
        self._video_reader = decord.VideoReader
        self._path, self._packets = path, packets
        self._size = self.info.coded_height, self.info.coded_width
        self._frames = self._open()
        self._next = 0  # index of the frame that decord gives next
        self._index = 0  # of the event that comes next
        self._shown: tuple[int, Picture] | None = None

    def close(self) -> None:
        self._frames, self._shown = None, None
        self._index = len(self._packets.stamps)

    def seek(self, pts: int) -> None:
        """Not offered: decord's random reads are not exact in all plain files."""
        raise MediaError(f"{self._path}: decord reads in order only", got=pts, code="media_seek")

    def events(self) -> Iterator[Frame | Lost]:
        """The rest of the file's frames."""
        stamps, origin = self._packets.stamps, int(self._packets.stamps[0])
        while self._index < len(stamps):
            index, self._index = self._index, self._index + 1
            if index - self._next > 2 * _MAX_BEHIND:
                self._skip(_MAX_BEHIND)
            pts = int(stamps[index])
            duration = int(self._packets.durations[index])
            render, render_grey = partial(self._render, index), partial(self._render_grey, index)
            yield Frame(pts - origin, pts, duration, render, render_grey)

    def _open(self) -> Any:
        """The view that decord has of the file, compared with the scan.

        Raises:
            ReaderFailed: they differ.
        """
        try:
            frames = self._video_reader(str(self._path), num_threads=1, fault_tol=_MAX_RECOVERED)
            times = frames.get_frame_timestamp(range(len(frames)))[:, 0]
        except self._errors as exc:
            raise ReaderFailed("decord cannot open it") from exc
        stamps = self._packets.stamps
        if len(times) != len(stamps):
            raise ReaderFailed(f"decord counts {len(times)} frames, the container holds {len(stamps)}")
        expected = (stamps - stamps[0]) * seconds(1, self.info.time_base)
        if np.abs(times - times[0] - expected).max() > _TIME_TOLERANCE_S:
            raise ReaderFailed("decord gives other times than the container")
        return frames

    def _render(self, index: int, width: int, height: int) -> Picture:
        if self._frames is None:
            raise ValueError("the reader is closed")
        if self._shown is None or self._shown[0] != index:
            self._shown = index, self._decode(index)
        return np.asarray(cv2.resize(self._shown[1], (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    def _render_grey(self, index: int, width: int, height: int) -> Grey:
        return np.asarray(cv2.cvtColor(self._render(index, width, height), cv2.COLOR_RGB2GRAY), np.uint8)

    def _decode(self, index: int) -> Picture:
        """(coded height, coded width, 3) RGB uint8 of a frame."""
        if index < self._next:
            self._frames, self._next = self._open(), 0
        self._skip(index - self._next)
        try:
            picture: Picture = self._frames.next().asnumpy()
        except (StopIteration, *self._errors) as exc:
            raise self._failure(index) from exc
        self._next = index + 1
        if picture.shape[:2] != self._size:
            raise ReaderFailed(f"decord gives pictures of another size (frame {index})")
        return picture

    def _skip(self, count: int) -> None:
        if count > 0:
            try:
                self._frames.skip_frames(count)
            except self._errors as exc:
                raise self._failure(self._next) from exc
            self._next += count

    def _failure(self, index: int) -> ReaderFailed:
        return ReaderFailed(f"decord cannot decode what comes at frame {index}")


def _unsuitable(info: VideoInfo, origin: int | None, packets: PacketScan) -> str | None:
    """Why decord is not let at a file; None if it may read it."""
    if importlib.util.find_spec("decord") is None:
        return "decord is not installed"
    if packets.unsafe is not None:
        return packets.unsafe
    if info.codec not in _CODECS:
        return f"codec {info.codec} is not one of {', '.join(sorted(_CODECS))}"
    if info.rotation or info.mirrored:
        return "its pictures are turned or mirrored"
    if origin is None or len(packets.stamps) == 0 or int(packets.stamps[0]) != origin:
        return "its first packet is not its first frame"
    return None
