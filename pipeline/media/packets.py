"""A stream's packets in the order of the file, with what was lost between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import TypeAlias, cast

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.media.damage import Skipped, check_readable

_MAX_DEMUX_ERRORS = 8
"""In a row: after so many the rest of the file is given up."""

_PACKETS_PER_REPORT = 1000

_DEEPEST_REORDERING = 16
"""Packets by which a picture may come after one that is shown later (H.264 and HEVC, annexes A)."""

VideoPacket: TypeAlias = "av.Packet[VideoStream]"


def packets(
    path: str | Path, container: InputContainer, stream: VideoStream, progress: Callable[[], None]
) -> Iterator[VideoPacket | None]:
    """The stream's packets with bytes in them; None for each error and each loss between packets.

    `progress` is called now and then, at packets of whatever stream: of this one none may come for long.

    Raises:
        SourceError: what is missing is so because the system does not give it (`check_readable`).
    """
    errors, skipped, late = 0, Skipped(path, container.format.name), _Late(container.format.name)
    at = 0  # where the newest packet ends in the file
    while errors <= _MAX_DEMUX_ERRORS:
        try:
            for number, packet in enumerate(container.demux(), 1):
                if number % _PACKETS_PER_REPORT == 0:
                    progress()
                # An empty packet would tell the decoder that the file ends: recorders write them for
                # dropped frames, PyAV at the end.
                if not packet.size:
                    continue
                errors, at = 0, (packet.pos or at) + packet.size
                if packet.is_corrupt:
                    check_readable(path, at)
                if skipped.before(packet):
                    yield None
                if packet.stream_index == stream.index:
                    yield None if late.has_come(packet) else cast(VideoPacket, packet)
            break
        except IndexError:  # PyAV at the end of a file: it did not expect a stream that began after opening
            break
        except MemoryError:
            raise
        except av.FFmpegError:
            check_readable(path, at)
            errors += 1
            yield None
    check_readable(path, at)


class _Late:
    """Notices what the demuxer of MPEG-TS gives at the end of a file only: the last of a PID left before."""

    def __init__(self, format_name: str) -> None:
        self._in_order = "mpegts" in format_name
        self._farthest = -1  # place in the file

    def has_come(self, packet: av.Packet[av.stream.Stream]) -> bool:
        """Whether the stream's packet, which is told next, lies before one that was told already."""
        if not self._in_order or packet.pos is None:
            return False
        late, self._farthest = packet.pos < self._farthest, max(packet.pos, self._farthest)
        return late


class Ahead:
    """Packets and losses one by one, with a look at those that come next."""

    def __init__(self, source: Iterator[VideoPacket | None]) -> None:
        self._source = source
        self._waiting: deque[VideoPacket | None] = deque()

    def __iter__(self) -> Ahead:
        return self

    def __next__(self) -> VideoPacket | None:
        return self._waiting.popleft() if self._waiting else next(self._source)

    def first_shown(self, packet: VideoPacket) -> int | None:
        """The earliest time at which the packet or one soon after it is shown."""
        return min(self._times(packet), default=None)

    def after_a_step(self, packet: VideoPacket) -> int | None:
        """The time after the largest step between the packet and those soon after it, where data is missing.

        The demuxer of MPEG-TS marks a packet as damaged when the data of the one after it breaks off.
        """
        times = sorted(self._times(packet))
        steps = [(later - earlier, later) for earlier, later in pairwise(times)]
        return max(steps)[1] if steps else None

    def _times(self, packet: VideoPacket) -> list[int]:
        self._waiting.extend(islice(self._source, _DEEPEST_REORDERING - len(self._waiting)))
        times = [p.pts if p.pts is not None else p.dts for p in (packet, *self._waiting) if p is not None]
        return [time for time in times if time is not None]
