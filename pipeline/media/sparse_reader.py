"""PyAV without the frames that nobody asks for: what no other frame refers to and no instant shows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.media.info import TimeSource
from pipeline.media.pyav_reader import PyavReader, VideoPacket
from pipeline.media.reader import Frame, Lost, Picture, ReaderFailed, ReaderName
from pipeline.media.sampling import Grid
from pipeline.media.scan import PacketScan

CODECS = ("h264",)

_SLICES = range(1, 6)
"""Types of NAL units that hold a picture or a part of it (H.264, table 7-1)."""


class SparseReader:
    """Gives the events of a `PyavReader`; pictures of frames that no instant of the grid shows cannot be had.

    The times of the frames that were not decoded come from the scan of the packets. Where what is decoded is
    not what the scan promises, or a packet does not decode, the file is to be read frame by frame.

    Raises:
        ReaderFailed: the file does not allow it.
    """

    name: ReaderName = "pyav"
    can_seek = True
    renders_apart = True

    def __init__(self, reader: PyavReader, packets: PacketScan, sample_fps: float) -> None:
        self._reader, self.info = reader, reader.info
        if packets.unsafe is not None:
            raise ReaderFailed(packets.unsafe)
        if reader.origin is None or reader.origin != packets.stamps[0]:
            raise ReaderFailed("its first packet is not its first frame")
        self._stamps, self._durations = packets.stamps, packets.durations
        self._shown = shown(packets.stamps - reader.origin, Grid.of(sample_fps, reader.info.time_base))
        self._next: int | None = 0  # index of the frame that comes next; None after a seek
        unseen = frozenset(self._stamps[~self._shown].tolist())
        extradata = reader.extradata or b""
        if len(extradata) < 7 or extradata[0] != 1:  # of an AVCDecoderConfigurationRecord
            raise ReaderFailed("its packets are not as MP4 and Matroska have them")
        length_bytes = 1 + (extradata[4] & 3)

        def may_skip(packet: VideoPacket) -> bool:
            return packet.pts in unseen and not is_referred_to(memoryview(packet), length_bytes)

        reader.may_skip = may_skip

    @property
    def time_source(self) -> TimeSource:
        return self._reader.time_source

    @property
    def origin(self) -> int | None:
        return self._reader.origin

    def close(self) -> None:
        self._reader.close()
        self._next = len(self._stamps)

    def seek(self, pts: int) -> None:
        """Go to the key frame at or before `pts`."""
        self._reader.seek(pts)
        self._next = None

    def events(self) -> Iterator[Frame | Lost]:
        """The rest of the file: all frames in order of presentation."""
        for event in self._reader.events():
            if isinstance(event, Lost):
                raise ReaderFailed("a packet does not decode")
            index = int(np.searchsorted(self._stamps, event.pts)) if event.pts is not None else -1
            if not 0 <= index < len(self._stamps) or self._stamps[index] != event.pts:
                raise ReaderFailed("a frame has a time that no packet has")
            yield from self._skipped(index)
            self._next = index + 1
            yield event
        yield from self._skipped(len(self._stamps))

    def _skipped(self, end: int) -> Iterator[Frame]:
        """The frames that were left out before the one of index `end`."""
        begin = end if self._next is None else self._next
        if begin > end:
            raise ReaderFailed("frames do not come in order")
        if self._shown[begin:end].any():
            raise ReaderFailed("a frame is missing")
        for pts, duration in zip(self._stamps[begin:end], self._durations[begin:end], strict=True):
            yield Frame(int(pts) - int(self._stamps[0]), int(pts), int(duration), _no_picture)


def is_referred_to(data: memoryview, length_bytes: int) -> bool:
    """Whether other pictures may refer to the picture in an H.264 packet, by its first slice.

    Args:
        data: NAL units, each after its length.
        length_bytes: of these lengths.
    """
    at = 0
    while at + length_bytes < len(data):
        head = data[at + length_bytes]
        if head & 31 in _SLICES:
            return head >> 5 & 3 != 0  # nal_ref_idc, the same in all slices of a picture
        at += length_bytes + int.from_bytes(data[at : at + length_bytes])
    return True


def shown(ticks: NDArray[np.int64], grid: Grid) -> NDArray[np.bool_]:
    """Which of the frames at these times, in order, are on display at an instant; the last one may be."""
    rate = grid.time_base * grid.sample_fps
    first = -(-ticks * rate.numerator // rate.denominator)  # `Grid.first_sample`
    return np.append(first[:-1] < first[1:], True)


def _no_picture(width: int, height: int) -> Picture:
    raise ReaderFailed("a frame is wanted that was not decoded")
