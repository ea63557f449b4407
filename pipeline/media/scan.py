"""A look through all packets of a file, without decoding: may a job begin in the middle of it?"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.media.container import Limits, file_identity, open_container
from pipeline.media.damage import ends_early
from pipeline.media.nal import DISPOSABLE, REFERENCE, START, PacketKinds, UnknownStructure
from pipeline.media.packets import VideoPacket, packets

_SEEKABLE_FORMATS = frozenset({"mov", "mp4", "matroska", "webm"})


@dataclass(frozen=True, eq=False)
class PacketScan:
    """Presentation times of a stream's packets, in its time base.

    `unsafe` says why the file has to be read from its start; None if it need not. `stamps` are the times of
    all packets, `keys` those of key frames, both sorted. `durations` go with `stamps`; 0 is unknown.

    `order` are the times in the order of the packets. `dependent` says why it is not known what the pictures
    need of each other; where it is None, `kinds` tells it for each of `order` (`pipeline.media.nal`).
    """

    unsafe: str | None
    stamps: NDArray[np.int64]
    keys: NDArray[np.int64]
    durations: NDArray[np.int64]
    order: NDArray[np.int64]
    dependent: str | None
    kinds: NDArray[np.uint8]


class Scanner:
    """Scans files and remembers the last one, since jobs on one file follow each other."""

    def __init__(self) -> None:
        self._last: tuple[object, PacketScan] | None = None

    def scan(self, path: str, limits: Limits, progress: Callable[[], None]) -> PacketScan:
        """Read all packets of a file; `progress` is called now and then.

        Raises:
            SourceError, MediaError: as `open_container` says.
        """
        name = file_identity(path), limits
        if self._last is None or self._last[0] != name:
            self._last = name, _scan(path, limits, progress)
        return self._last[1]


def _scan(path: str, limits: Limits, progress: Callable[[], None]) -> PacketScan:
    container, stream = open_container(path, limits)
    with container:
        unsafe = _unsafe_kind(container, stream)
        seen = _Seen(_Kinds(stream))
        if unsafe is None:
            unsafe = _read_packets(path, container, stream, seen, progress)
    stamps = np.array(seen.stamps, np.int64)
    order = np.argsort(stamps, kind="stable")
    durations = np.array(seen.durations, np.int64)
    keys = np.sort(np.array(seen.keys, np.int64))
    kinds = seen.kinds
    return PacketScan(unsafe, stamps[order], keys, durations[order], stamps, kinds.unknown, kinds.found())


class _Kinds:
    """Kinds of packets one after the other, until one is met that is not understood."""

    def __init__(self, stream: VideoStream) -> None:
        codec = stream.codec_context
        self.unknown: str | None = None
        self._found, self._layers = array("B"), array("B")
        try:
            self._kinds = PacketKinds(codec.codec.canonical_name, bytes(codec.extradata or b""))
        except UnknownStructure as exc:
            self.unknown = str(exc)

    def note(self, packet: VideoPacket) -> None:
        if self.unknown is not None:
            return
        try:
            kind, layer = self._kinds.kind(memoryview(packet))
            if packet.has_sidedata("new_extradata"):
                raise UnknownStructure("the codec's configuration changes")
            if kind == START and not packet.is_keyframe:
                raise UnknownStructure("an IDR picture is not marked as a key frame")
            self._found.append(kind)
            self._layers.append(layer)
        except UnknownStructure as exc:
            self.unknown = str(exc)

    def found(self) -> NDArray[np.uint8]:
        """The kinds, disposable only in the highest layer: what its own layer does not need one above may."""
        found, layers = np.array(self._found, np.uint8), np.array(self._layers, np.uint8)
        if self.unknown is None:
            found[(found == DISPOSABLE) & (layers < self._kinds.highest_layer)] = REFERENCE
        return found


@dataclass
class _Seen:
    kinds: _Kinds
    stamps: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))


def _unsafe_kind(container: InputContainer, stream: VideoStream) -> str | None:
    codec = stream.codec_context
    if _SEEKABLE_FORMATS.isdisjoint(container.format.name.split(",")):
        return f"container {container.format.name} has no reliable index"
    if codec.name == "h264" and (codec.pix_fmt or "").startswith("yuv444"):
        # Old x264 wrote 4:4:4 in a way of its own and says so in the first packet only.
        return "H.264 4:4:4 may depend on the first packet"
    return None


def _read_packets(
    path: str,
    container: InputContainer,
    stream: VideoStream,
    seen: _Seen,
    progress: Callable[[], None],
) -> str | None:
    """Note all packets; the reason if something speaks against beginning in the middle."""
    for number, packet in enumerate(packets(path, container, stream, progress)):
        if packet is None or packet.is_corrupt:
            return "it is damaged"
        if packet.pts is None:
            return "presentation times are missing"
        if packet.is_discard:
            return "an edit list hides frames"
        if number == 0 and not packet.is_keyframe:
            return "it does not begin with a key frame"
        seen.stamps.append(packet.pts)
        if packet.is_keyframe:
            seen.keys.append(packet.pts)
        seen.durations.append(packet.duration or 0)
        seen.kinds.note(packet)
    if ends_early(path, container.format.name):
        return "it is cut short"
    if len(set(seen.stamps)) < len(seen.stamps):
        return "presentation times repeat"
    return None
