"""Damage that FFmpeg passes over in silence: bytes skipped between packets, files that end too early."""

from __future__ import annotations

import contextlib
import os
import re
import string
from pathlib import Path
from typing import BinaryIO

import av

from pipeline.errors import SourceError

_MOST_BETWEEN_BYTES = 512
"""What may lie between two packets of a whole file without being looked at: headers. In the 13 whole files of
these formats that were measured it never was above 400."""

_BETWEEN = {
    # By format: what larger parts of the container may begin with, where a packet ends.
    # Parts of a RIFF file begin at even places; chunks of one stream may lie together, read by turns.
    "avi": re.compile(rb".?(?:ix|idx1|JUNK|LIST|RIFF|[0-9]{2}(?:d[bc]|wb|pc|tx))", re.DOTALL),
    "flv": re.compile(rb".{4,5}\x12", re.DOTALL),  # script data, after the size of the tag before
    # A block's head of 4 bytes is not counted in its packet. Void, CRC-32, BlockAdditions, SeekHead, Info,
    # Tracks, Cues, Tags, Chapters, Attachments, another EBML header; Segment and Cluster hold what follows.
    "matroska": re.compile(
        rb"(?:.{4})?(?:\xec|\xbf|\x75\xa1|\x11\x4d\x9b\x74|\x15\x49\xa9\x66|\x16\x54\xae\x6b|\x1c\x53\xbb\x6b"
        rb"|\x12\x54\xc3\x67|\x10\x43\xa7\x70|\x19\x41\xa4\x69|\x1a\x45\xdf\xa3"
        rb"|(?P<holds>\x18\x53\x80\x67|\x1f\x43\xb6\x75))",
        re.DOTALL,
    ),
}

_HEAD_BYTES = 24
"""Enough for the head of any of these parts."""

_TRIED_BYTES = 256 << 10
"""More than FFmpeg reads ahead."""

_TS_PACKET_BYTES = (188, 192, 204)
_BOX_NAME = frozenset((string.ascii_letters + string.digits + " -_").encode() + b"\xa9")
_SEGMENT, _EBML = b"\x18\x53\x80\x67", b"\x1a\x45\xdf\xa3"


class Skipped:
    """Notices where a demuxer has skipped bytes to find its way again."""

    def __init__(self, path: str | Path, format_name: str) -> None:
        self._path = path
        self._between = next((_BETWEEN[name] for name in format_name.split(",") if name in _BETWEEN), None)
        self._in_ebml = "matroska" in format_name
        self._begin, self._end = -1, -1  # where the packet before begins and ends in the file

    def before(self, packet: av.Packet[av.stream.Stream]) -> bool:
        """Whether bytes were skipped before the packet; all packets have to be told, of every stream."""
        if self._between is None or packet.pos is None:
            return False
        if packet.pos == self._begin:  # laced: frames of one block all have the block's place
            self._end += packet.size
            return False
        at, self._begin, self._end = self._end, packet.pos, packet.pos + packet.size
        if at < 0 or packet.pos - at <= _MOST_BETWEEN_BYTES:
            return False
        try:
            with open(self._path, "rb") as file:
                return packet.pos - self._known_until(file, at, packet.pos) > _MOST_BETWEEN_BYTES
        except OSError:  # it has vanished; whoever asked for it will notice
            return False

    def _known_until(self, file: BinaryIO, at: int, end: int) -> int:
        """Where the parts of the container end that follow each other from `at` on."""
        while at < end:
            file.seek(at)
            head = file.read(_HEAD_BYTES)
            found = self._between.match(head) if self._between else None
            if found is None:
                return at
            if not self._in_ebml:
                return end  # their lengths are not looked at
            length, size = _sized(head[found.end() :])
            at += found.end() + length + (0 if found["holds"] else size or 0)
        return at


def check_readable(path: str | Path, at: int) -> None:
    """See whether the system still gives a file's bytes, where FFmpeg found none or too few.

    To FFmpeg a disk or share that fails looks like damage, which would be final. A file that has vanished
    is none of this: whoever asked for it will notice.

    Args:
        path: the file.
        at: byte behind which something is lost; the file's end is tried, too.

    Raises:
        SourceError: it does not; its code is `unreadable`.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            for place in (at, max(0, os.fstat(file.fileno()).st_size - _TRIED_BYTES)):
                file.seek(place)
                file.read(_TRIED_BYTES)
    except FileNotFoundError:
        return
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise SourceError(
            f"{path} could not be read to its end", got=reason, remedy="see to its disk and run again",
            code="unreadable",
        ) from exc  # fmt: skip


def ends_early(path: str | Path, format_name: str) -> bool:
    """Whether a file, by its container's structure, ends or breaks off before all of it is there.

    Knows Matroska (RFC 9559), AVI (RIFF), MPEG-TS (whole packets; ISO/IEC 13818-1) and fragmented MP4
    (ISO/IEC 14496-12). The demuxer itself tells of MP4 and MOV with an index and of FLV. A file that has
    vanished meanwhile does not end early.
    """
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return _breaks_off(file, os.fstat(file.fileno()).st_size, format_name.split(","))
    return False


def _breaks_off(file: BinaryIO, size: int, names: list[str]) -> bool:
    if "matroska" in names:
        return _matroska_bytes(file.read(1 << 12)) > size
    if "avi" in names:
        head = file.read(8)
        return head[:4] == b"RIFF" and int.from_bytes(head[4:8], "little") + 8 > size + 1
    if "mpegts" in names:
        return all(size % length for length in _TS_PACKET_BYTES)
    return "mov" in names and _fragments_break_off(file, size)


def _matroska_bytes(head: bytes) -> int:
    """Bytes that a Matroska file promises; 0 if it does not say."""
    if head[:4] != _EBML or (at := head.find(_SEGMENT)) < 0 or at + 5 > len(head):
        return 0
    length, size = _sized(head[at + 4 :])
    return 0 if size is None else at + 4 + length + size


def _sized(head: bytes) -> tuple[int, int | None]:
    """Bytes of the length of an EBML element, with which `head` begins, and of its content if it says."""
    length = 9 - head[0].bit_length() if head else 9  # told by its first bit that is set
    if length > 8:
        return 0, None
    size = int.from_bytes(head[:length], "big") & ((1 << 7 * length) - 1)
    return length, None if size == (1 << 7 * length) - 1 else size


def _fragments_break_off(file: BinaryIO, size: int) -> bool:
    """Whether the chain of a fragmented MP4's boxes is broken or cut; False if it has no fragments."""
    at, fragmented = 0, False
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0 and any(name):
            return False  # the last box, to the file's end
        fragmented |= name == b"moof"
        if length < 8 or not _BOX_NAME.issuperset(name):
            return fragmented
        at += length
    return fragmented and at != size
