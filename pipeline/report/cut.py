"""A stretch of a video as a file of its own: its packets copied where that can be done, else encoded anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from pipeline.errors import StorageError
from pipeline.lake.schema import EVENTS, TRACKS
from pipeline.media.container import Limits, open_container
from pipeline.media.packets import VideoPacket
from pipeline.media.scan import PacketScan, Scanner
from pipeline.outputs import whole
from pipeline.report.clip import annotate

IN_MP4 = ("h264", "hevc", "av1", "vp9", "mpeg4")
"""Codecs that go into MP4; others go into Matroska, which takes nearly all."""


@dataclass(frozen=True)
class Cut:
    """A file made from a video: `t_start` is the time of its first frame in the video, in seconds."""

    path: Path
    t_start: float
    method: str  # copied, encoded or annotated


def cut(video: Path, stem: Path, span: tuple[float, float], scanner: Scanner | None = None) -> Cut:
    """Write a stretch of a video, without sound.

    Packets are copied, without loss, from the key frame at or before its begin, where the file may be
    entered in its middle (`pipeline.media.scan`); else the stretch is encoded anew, from its first frame.

    Args:
        video: a local file.
        stem: path of the file to write, without suffix.
        span: begin and end in seconds from the first displayed frame.
        scanner: for many stretches of one video, whose packets it looks through once.

    Raises:
        SourceError, MediaError: the video cannot be read, or has no frame there.
        StorageError: the file cannot be written.
    """
    scanner = scanner or Scanner()
    packets = scanner.scan(str(video), Limits(), lambda: None)
    if packets.unsafe is None and (made := _copy(video, stem, span, packets)) is not None:
        return made
    path = stem.with_name(stem.name + ".mp4")
    written = annotate(video, path, TRACKS.empty_table(), EVENTS.empty_table(), span=span, scanner=scanner)
    return Cut(path, written.t_start, "encoded")


def _copy(video: Path, stem: Path, span: tuple[float, float], packets: PacketScan) -> Cut | None:
    """Copy packets; None where the new container does not take them, or nothing lies there."""
    container, stream = open_container(video, Limits())
    with container:
        base = stream.time_base or Fraction(1, 90_000)
        origin = int(packets.stamps[0])
        begin, end = (origin + round(t / base) for t in span)
        early = packets.keys[packets.keys <= begin]
        if not len(early) or begin > packets.stamps[-1]:
            return None
        key = int(early[-1])
        suffix = ".mp4" if stream.codec_context.codec.canonical_name in IN_MP4 else ".mkv"
        path = stem.with_name(stem.name + suffix)
        try:
            if key != packets.keys[0]:
                container.seek(key, stream=stream)
            chosen = list(_between(container.demux(stream), key, end))
            if not chosen:
                return None
            _fill_dts(chosen)
            _write(path, stream, chosen, key)
        except av.FFmpegError:
            path.unlink(missing_ok=True)
            return None
        return Cut(path, float((key - origin) * base), "copied")


def _between(found: Iterator[VideoPacket], key: int, end: int) -> Iterator[VideoPacket]:
    """Packets from a key frame on, in the order of decoding, up to the last that is shown before `end`."""
    begun = False
    for packet in found:
        if packet.pts is None:  # the end of the file
            continue
        if begun and packet.dts is not None and packet.dts >= end:
            return
        begun = begun or packet.pts == key
        if begun and packet.pts >= key:  # pictures shown before the key frame need others
            yield packet


def _fill_dts(packets: Sequence[VideoPacket]) -> None:
    """Matroska has no times of decoding: FFmpeg guesses them, but for the first packets."""
    known = next((n for n, packet in enumerate(packets) if packet.dts is not None), len(packets))
    after = packets[known].dts if known < len(packets) else packets[0].pts
    step = max(1, packets[0].duration or 1)
    for n, packet in enumerate(packets[:known]):
        packet.dts = (after or 0) - (known - n) * step


def _write(path: Path, like: av.VideoStream, packets: Sequence[VideoPacket], first: int) -> None:
    kind = "mp4" if path.suffix == ".mp4" else "matroska"
    try:
        with whole(path) as unfinished, av.open(str(unfinished), "w", format=kind) as out:
            stream = out.add_stream_from_template(like, opaque=True)  # no encoder is asked for
            for packet in packets:
                packet.pts, packet.dts = (packet.pts or 0) - first, (packet.dts or 0) - first
                packet.stream = stream
                out.mux(packet)
    except OSError as exc:
        raise StorageError(f"{path} cannot be written", remedy=exc.strerror or str(exc)) from exc
