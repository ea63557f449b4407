"""What the pictures of H.264 and HEVC need of each other, read from the headers of their NAL units.

ITU-T H.264, 7.3.1 and table 7-1; ITU-T H.265, 7.3.1.2 and table 7-1. Packets as MP4 and Matroska store them:
each unit behind its length (ISO/IEC 14496-15).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

REFERENCE, START, DISPOSABLE = 0, 1, 2
"""Kinds of packets: one that others may need; an IDR picture, after which nothing before it is needed; one
that no picture of its temporal layer needs."""

CODECS = {"h264": 4, "hevc": 21}
"""Codecs that are known, and where their configuration records say how long the units' lengths are."""

_H264_SLICE, _H264_IDR, _H264_VCL = 1, 5, range(1, 6)
_H264_PARAMETERS, _H264_HARMLESS = (7, 8, 13, 15), (6, 9, 12)  # SEI, access unit delimiter, filler
_HEVC_IDR, _HEVC_VCL, _HEVC_LEAST_IRAP = (19, 20), range(32), 16
_HEVC_PARAMETERS, _HEVC_HARMLESS = (32, 33, 34), (35, 38, 39, 40)  # delimiter, filler, SEI


@dataclass(frozen=True)
class Unit:
    """Kind of a NAL unit, the layer of its picture if it is part of one, itself if it is a parameter set."""

    kind: int
    layer: int | None = None  # temporal, of a part of a picture
    parameters: bytes = b""


class UnknownStructure(ValueError):
    """A packet is not of the kind that is known here; its message says why."""


class PacketKinds:
    """Tells packets of one stream apart.

    Parameter sets may come in the packets; where they do, each IDR picture must bring the same ones, since
    packets are to be left out.

    Args:
        codec: canonical name, h264 or hevc.
        extradata: the codec's configuration in the container.

    Raises:
        UnknownStructure: another codec, or packets of another layout.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        at = CODECS.get(codec)
        if at is None:
            raise UnknownStructure(f"codec {codec}")
        if len(extradata) <= at or extradata[0] != 1:  # the version of avcC and hvcC
            raise UnknownStructure("no configuration record")
        self._length = (extradata[at] & 3) + 1
        self._read = _h264 if codec == "h264" else _hevc
        self._parameters: bytes | None = None
        self.highest_layer = 0
        """Of the packets so far. What is disposable in it, no picture needs."""

    def kind(self, packet: bytes | memoryview) -> tuple[int, int]:
        """Kind and temporal layer of a packet's picture.

        Raises:
            UnknownStructure: the packet's layout is broken, or it changes parameter sets.
        """
        units = list(self._units(packet))
        pictures = {unit.kind for unit in units if unit.layer is not None}
        layer = max((unit.layer for unit in units if unit.layer is not None), default=0)
        self.highest_layer = max(self.highest_layer, layer)
        parameters = b"".join(unit.parameters for unit in units)
        if pictures == {START}:
            if self._parameters is None:
                self._parameters = parameters
            if parameters != self._parameters:
                raise UnknownStructure("parameter sets change")
            return START, layer
        if parameters:
            raise UnknownStructure("parameter sets away from IDR pictures")
        only = all(unit.kind == DISPOSABLE for unit in units)
        return (DISPOSABLE if only and pictures else REFERENCE), layer

    def _units(self, packet: bytes | memoryview) -> Iterator[Unit]:
        at, size = 0, len(packet)
        while at < size:
            begin = at + self._length
            at = begin + int.from_bytes(packet[at:begin], "big")
            if at > size or at < begin + 2:
                raise UnknownStructure("NAL units do not fill their packet")
            yield self._read(packet[begin:at])


def _h264(unit: bytes | memoryview) -> Unit:
    kind, is_needed = unit[0] & 31, bool(unit[0] & 0x60)
    if kind in _H264_VCL:
        if kind == _H264_IDR:
            return Unit(START, 0)
        return Unit(DISPOSABLE if kind == _H264_SLICE and not is_needed else REFERENCE, 0)
    return _other(unit, kind, _H264_PARAMETERS, _H264_HARMLESS)


def _hevc(unit: bytes | memoryview) -> Unit:
    kind, layer = unit[0] >> 1 & 63, max((unit[1] & 7) - 1, 0)
    if kind in _HEVC_VCL:
        if kind in _HEVC_IDR:
            return Unit(START, layer)
        is_needed = kind >= _HEVC_LEAST_IRAP or kind % 2 == 1
        return Unit(REFERENCE if is_needed else DISPOSABLE, layer)
    return _other(unit, kind, _HEVC_PARAMETERS, _HEVC_HARMLESS)


def _other(
    unit: bytes | memoryview, kind: int, parameters: tuple[int, ...], harmless: tuple[int, ...]
) -> Unit:
    if kind in parameters:
        return Unit(REFERENCE, parameters=bytes(unit))
    return Unit(DISPOSABLE if kind in harmless else REFERENCE)
