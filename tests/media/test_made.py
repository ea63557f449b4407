"""Media of every kind that cameras and phones write, made here: frames, times and pictures are known.

Each recipe is its encoder's options; `tests/media/make.py` writes one flat grey frame for each time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.media.container import Limits
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Frame, Lost
from tests.media.make import MILLI, flat, level, write_video

STEADY = range(0, 2000, 40)
B_FRAMES = {"bf": "3", "g": "12", "x264-params": "b-adapt=0:scenecut=0", "crf": "10"}
TS_WRAP_MS = (1 << 33) // 90
"""Milliseconds after which the 33 bits of an MPEG-TS clock of 90 kHz begin anew (ISO/IEC 13818-1)."""

KINDS: dict[str, tuple[str, Sequence[int], dict[str, Any]]] = {
    "MPEG-TS": ("v.ts", range(1400, 3400, 40), {"options": B_FRAMES}),
    "MPEG-TS whose clock wraps": (
        "v.ts",
        range(TS_WRAP_MS - 1000, TS_WRAP_MS + 1000, 40),
        {"options": B_FRAMES},
    ),
    "a day of time stamps": ("v.mkv", [*range(0, 400, 40), *range(86_400_000, 86_400_400, 40)], {}),
    "interlaced H.264": ("v.mp4", STEADY, {"options": {"x264-params": "interlaced=1", "crf": "10"}}),
    "interlaced MPEG-2": (
        "v.ts",
        range(50),
        {
            "codec": "mpeg2video",
            "time_base": Fraction(1, 25),
            "options": {"flags": "+ilme+ildct", "qmax": "4"},
        },
    ),
    "4:2:2, 10 bit": ("v.mov", STEADY, {"pix_fmt": "yuv422p10le", "options": {"crf": "10"}}),
    "HEVC, 10 bit": (
        "v.mp4",
        STEADY,
        {
            "codec": "libx265",
            "pix_fmt": "yuv420p10le",
            "options": {"x265-params": "log-level=none:qp=12:scenecut=0"},
        },
    ),
    "ProRes": ("v.mov", STEADY, {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
    "VP8": ("v.webm", STEADY, {"codec": "libvpx", "options": {"qmin": "2", "qmax": "8", "b": "2M"}}),
    "MPEG-4 in AVI": (
        "v.avi",
        range(50),
        {"codec": "mpeg4", "time_base": Fraction(1, 25), "options": {"qmax": "4"}},
    ),
    "FLV": ("v.flv", STEADY, {"codec": "flv", "options": {"qmax": "4"}}),
    "fragmented MP4": (
        "v.mp4",
        STEADY,
        {"options": B_FRAMES, "container": {"movflags": "frag_keyframe+empty_moov"}},
    ),
    "odd size": ("v.mkv", STEADY, {"size": (67, 51), "pix_fmt": "yuv444p", "options": {"crf": "10"}}),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_frame_once_with_its_time_and_picture(tmp_path: Path, kind: str) -> None:
    name, times, more = KINDS[kind]
    path = write_video(tmp_path / name, times, **more)
    frames, brightness, base = read(path)
    unit = more.get("time_base", MILLI)
    assert [round(frame.ticks * base / unit) for frame in frames] == [time - times[0] for time in times]
    np.testing.assert_allclose(brightness, [level(i) for i in range(len(times))], atol=4)


def read(path: Path) -> tuple[list[Frame], list[float], Fraction]:
    """All frames, the brightness of each, the time base. Nothing may be lost."""
    with PyavReader(path, Limits()) as reader:
        events = list(reader.events())
        frames = [event for event in events if isinstance(event, Frame)]
        assert not [event for event in events if isinstance(event, Lost)]
        return frames, [float(f.render(16, 16).mean()) for f in frames], reader.info.time_base


def joined(path: Path, *sizes: tuple[int, int]) -> Path:
    """Recipe: H.264 streams of several sizes, one after the other in one MPEG-TS, as `cat` joins them."""
    with av.open(str(path), "w", format="mpegts") as container:
        target: Any = None
        for number, size in enumerate(sizes):
            part = io.BytesIO()
            with av.open(part, "w", format="mpegts") as small:
                encoder: Any = small.add_stream("libx264", rate=25, options={"bf": "0", "crf": "10"})
                encoder.width, encoder.height, encoder.pix_fmt = *size, "yuv420p"
                for index in range(10):
                    frame = av.VideoFrame.from_ndarray(flat(10 * number + index, *size), format="rgb24")
                    frame.pts, frame.time_base = 10 * number + index, Fraction(1, 25)
                    small.mux(encoder.encode(frame))
                small.mux(encoder.encode(None))
            part.seek(0)
            with av.open(part) as source:
                target = target or container.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream = target
                        container.mux(packet)
    return path


def test_a_change_of_size_in_mid_stream(tmp_path: Path) -> None:
    frames, brightness, base = read(joined(tmp_path / "v.ts", (64, 48), (96, 64), (32, 32)))
    assert [round(frame.ticks * base * 25) for frame in frames] == list(range(30))
    np.testing.assert_allclose(brightness, [level(i) for i in range(30)], atol=4)


def test_of_two_video_streams_the_larger(tmp_path: Path) -> None:
    """Recipe: a small stream of black pictures comes first, at another rate."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        streams: list[Any] = []
        for size in ((32, 32), (64, 48)):
            stream: Any = container.add_stream("libx264", rate=25, options={"crf": "10"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = MILLI
            streams.append(stream)
        for index in range(20):
            for stream, step in zip(streams, (100, 40), strict=True):
                size = stream.width, stream.height
                picture = flat(index, *size) if stream is streams[1] else np.zeros((*size, 3), np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index * step, MILLI
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    frames, brightness, base = read(path)
    assert [round(frame.ticks * base / MILLI) for frame in frames] == list(range(0, 800, 40))
    np.testing.assert_allclose(brightness, [level(i) for i in range(20)], atol=4)
    with PyavReader(path, Limits()) as reader:
        assert (reader.info.width_px, reader.info.height_px, reader.info.stream_index) == (64, 48, 1)
        assert reader.info.streams[0].startswith("video h264 32x32")


def test_an_edit_list_hides_frames(tmp_path: Path) -> None:
    """Recipe: packets before time 0 in an MP4; the muxer's edit list says that they are not shown."""
    path = write_video(tmp_path / "v.mp4", range(-400, 1600, 40), options={"bf": "0", "g": "5", "crf": "10"})
    frames, brightness, base = read(path)
    assert [round(frame.ticks * base / MILLI) for frame in frames] == list(range(0, 1600, 40))
    np.testing.assert_allclose(brightness, [level(i + 10) for i in range(40)], atol=4)


CLOCKS: dict[str, Callable[[int], int]] = {
    "one frame late": lambda i: 40 * i - (60 if i == 20 else 0),
    "begun anew": lambda i: 40 * (i % 30),
    "an hour back": lambda i: 40 * i + (3_600_000 if i < 25 else 0),
}


@pytest.mark.parametrize("kind", list(CLOCKS))
def test_clocks_that_go_back(tmp_path: Path, kind: str) -> None:
    """Recipe: a Matroska file of one cluster for each frame, whose time stamps are overwritten in place."""
    times = [4_000_000 + 40 * i for i in range(50)]  # three bytes each, like what comes in their place
    path = write_video(
        tmp_path / "v.mkv", times, codec="mjpeg", pix_fmt="yuvj420p", container={"cluster_time_limit": "1"}
    )
    data = path.read_bytes()
    for i, time in enumerate(times):
        old, new = (CLUSTER_TIME + t.to_bytes(3, "big") for t in (time, 4_000_000 + CLOCKS[kind](i)))
        assert data.count(old) == 1
        data = data.replace(old, new)
    path.write_bytes(data)
    frames, brightness, base = read(path)
    shown = [round(frame.ticks * base / MILLI) for frame in frames]
    assert shown == sorted(shown)
    assert shown[-1] == 49 * 40
    np.testing.assert_allclose(brightness, [level(i) for i in range(50)], atol=4)


CLUSTER_TIME = b"\xe7\x83"
"""Head of a cluster's Timestamp element of three bytes (RFC 9559, 5.1.3.1)."""
