"""Footage of ten minutes and more, made from the real clips: `python -m bench.speed.footage FOLDER`.

Each frame of the clips once, one after the other, at 25 frames/s, scaled up, with a sensor's noise, encoded
as H.264 with B-frames, key frames every 2 s and at every fifth second. Two and a quarter minutes are encoded;
the rest are the same packets again, so that an hour is made in seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType

from tests.helpers import shared_path

FPS = 25
PIECE_S = 5
GOP_S = 2
CLIPS = ("one-by-one-person", "person-bicycle-car", "car", "bottle")
SIZES = (1280, 720), (1920, 1080)
KBITS = {(640, 360): 500, (1280, 720): 2000, (1920, 1080): 4000}
"""What cameras of these sizes are commonly set to."""

_NOISE_LEVELS, _NOISE_FIELDS = 2.0, 8


@dataclass(frozen=True)
class Packet:
    """An encoded picture; times in frames from the start of its piece."""

    data: bytes
    pts: int
    dts: int
    key: bool


def encoded(folder: Path, size: tuple[int, int]) -> Path:
    """The clips one after the other in one file, made unless it is there."""
    path = folder / f"{size[1]}p-once.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.mp4")
    with av.open(str(unfinished), "w") as target:
        rate = KBITS[size] * 1000
        options = {
            "preset": "veryfast",
            "g": str(GOP_S * FPS),
            "maxrate": str(2 * rate),
            "bufsize": str(4 * rate),
        }
        stream: Any = target.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *size, "yuv420p", rate
        for number, frame in enumerate(_noisy(size)):
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            frame.pict_type = PictureType.I if number % (PIECE_S * FPS) == 0 else PictureType.NONE
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return unfinished.rename(path)


def _noisy(size: tuple[int, int]) -> Iterator[av.VideoFrame]:
    """The clips' frames, scaled up, with noise in brightness that differs from frame to frame."""
    width, height = size
    random = np.random.default_rng(1)
    fields = random.normal(0, _NOISE_LEVELS, (_NOISE_FIELDS, height, width)).round().astype(np.int16)
    for name in CLIPS:
        with av.open(str(shared_path("data", "videos", "surveillance", f"{name}-detection.mp4"))) as source:
            for frame in source.decode(video=0):
                planes = frame.reformat(width, height, format="yuv420p").to_ndarray()  # (3/2 height, width)
                field = np.roll(fields[random.integers(_NOISE_FIELDS)], int(random.integers(width)), axis=1)
                planes[:height] = (planes[:height] + field).clip(0, 255)
                yield av.VideoFrame.from_ndarray(planes, format="yuv420p")


def pieces(path: Path) -> list[list[Packet]]:
    """The whole pieces of `PIECE_S` seconds of a file of `encoded`, each beginning with a key frame."""
    length = PIECE_S * FPS
    cut: list[list[Packet]] = []
    with av.open(str(path)) as source:
        step = 1 / (FPS * source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.size:
                pts, dts = (round(value / step) for value in (packet.pts, packet.dts))
                if packet.is_keyframe and pts % length == 0:
                    cut.append([])
                begin = (len(cut) - 1) * length
                cut[-1].append(Packet(bytes(packet), pts - begin, dts - begin, packet.is_keyframe))
    return [piece for piece in cut if len(piece) == length]


def write(path: Path, template: Path, parts: Sequence[Sequence[Packet]], comment: str = "") -> Path:
    """An MP4 file of pieces one after the other; files with another comment are other contents."""
    base = Fraction(1, FPS)
    with av.open(str(template)) as source, av.open(str(path), "w") as target:
        target.metadata["comment"] = comment
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, part in enumerate(parts):
            begin = number * PIECE_S * FPS
            for one in part:
                packet = av.Packet(one.data)
                packet.pts, packet.dts, packet.time_base = begin + one.pts, begin + one.dts, base
                packet.is_keyframe, packet.stream = one.key, stream
                target.mux(packet)
    return path


def long_file(folder: Path, size: tuple[int, int], seconds: int) -> Path:
    """One file of so many seconds, made unless it is there."""
    path = folder / f"{size[1]}p-{seconds}s.mp4"
    if not path.exists():
        once = encoded(folder, size)
        parts = pieces(once)
        write(path, once, [parts[i % len(parts)] for i in range(seconds // PIECE_S)])
    return path


def short_files(folder: Path, size: tuple[int, int], count: int, seconds: int = PIECE_S) -> Path:
    """A folder of `count` files of so many seconds: what `long_file` of the same length holds."""
    files = folder / f"{size[1]}p-{count}x{seconds}s"
    if not files.exists():
        once = encoded(folder, size)
        parts = pieces(once)
        files.mkdir()
        each = seconds // PIECE_S
        for number in range(count):
            some = [parts[(number * each + i) % len(parts)] for i in range(each)]
            write(files / f"{number:05}.mp4", once, some, f"piece {number}")
    return files


if __name__ == "__main__":
    for wanted in SIZES:
        sys.stdout.write(f"{long_file(Path(sys.argv[1]), wanted, 600)}\n")
