"""Whole files of rare structure: none is called damaged, and the right stream is read."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from pipeline.analyze import analyze
from pipeline.config import load
from pipeline.errors import MediaError
from pipeline.media import DecodeJob, JobEnd, decode_inline
from pipeline.media.probe import probe
from pipeline.sources.source import VIDEO_SUFFIXES
from tests.media.make import write_video

SIZE = 64, 48


def noise(index: int) -> np.ndarray:
    """Pictures that take more bytes than what may lie between two packets without a look."""
    return np.random.default_rng(index).integers(0, 255, (*SIZE[::-1], 3), np.uint8)


def end_of(path: Path) -> JobEnd:
    *_, end = decode_inline(DecodeJob("job", str(path), sample_fps=0.0, width=64, height=48))
    assert isinstance(end, JobEnd)
    return end


def element(name: str, content: bytes | int) -> bytes:
    """An EBML element (RFC 8794): its ID in hex, the length of its content in 8 bytes, the content."""
    if isinstance(content, int):
        content = content.to_bytes(4, "big")
    return bytes.fromhex(name) + (1 << 56 | len(content)).to_bytes(8, "big") + content


def laced(path: Path, num_frames: int = 50, lace: int = 8) -> Path:
    """Matroska (RFC 9559) of JPEGs at 25 frames/s and PCM, of which a block holds several frames."""
    clusters: list[bytes] = []
    for n in range(num_frames):
        if n % 10 == 0:
            clusters.append(element("E7", 40 * n))
        at = struct.pack(">h", 40 * (n % 10))
        jpeg = cv2.imencode(".jpg", noise(n))[1].tobytes()
        clusters[-1] += element("A3", b"\x81" + at + b"\x80" + jpeg)
        if n % lace == 0:  # 0x84: key frame, all of one size
            clusters[-1] += element("A3", b"\x82" + at + b"\x84" + bytes([lace - 1]) + bytes(640 * lace))
    picture = element("E0", element("B0", SIZE[0]) + element("BA", SIZE[1]))
    sound = element("E1", element("B5", struct.pack(">d", 8000.0)) + element("9F", 1) + element("6264", 16))
    tracks = [
        element("D7", 1) + element("73C5", 1) + element("83", 1) + element("86", b"V_MJPEG") + picture,
        element("D7", 2) + element("73C5", 2) + element("83", 2) + element("86", b"A_PCM/INT/LIT") + sound,
    ]
    segment = [
        element("1549A966", element("2AD7B1", 1_000_000)),
        element("1654AE6B", b"".join(element("AE", track) for track in tracks)),
        *(element("1F43B675", cluster) for cluster in clusters),
    ]
    path.write_bytes(
        element("1A45DFA3", element("4282", b"matroska")) + element("18538067", b"".join(segment))
    )
    return path


def transparent(path: Path, num_frames: int = 50) -> Path:
    """WebM with an alpha channel, which lies in BlockAdditions behind each block."""
    with av.open(str(path), "w", container_options={"cluster_time_limit": "400"}) as container:
        stream: Any = container.add_stream("libvpx-vp9", rate=25, options={"crf": "10", "b": "0"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuva420p"
        for n in range(num_frames):
            rgba = np.concatenate([noise(n), noise(n + 1000)[..., :1]], axis=-1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format="yuva420p")))
        container.mux(stream.encode(None))
    return path


def apart(path: Path, num_frames: int = 50) -> Path:
    """AVI with all pictures before all sound, as editors write it."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        sound: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for n in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise(n))))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), format="s16", layout="mono")
            silence.sample_rate, silence.pts = 8000, n * 320
            container.mux(sound.encode(silence))
        container.mux([*stream.encode(None), *sound.encode(None)])
    data = path.read_bytes()
    at = data.index(b"movi") - 8
    end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    chunks, begin = [], at + 12
    while begin < end:
        length = int.from_bytes(data[begin + 4 : begin + 8], "little")
        chunks.append(data[begin : begin + 8 + length + length % 2])
        begin += len(chunks[-1])
    chunks.sort(key=lambda chunk: chunk[:4])  # 00dc, 01wb
    index, place = b"", 4
    for chunk in chunks:
        index += chunk[:4] + struct.pack("<II", 16, place) + chunk[4:8]
        place += len(chunk)
    moved = data[:at] + b"LIST" + struct.pack("<I", place) + b"movi" + b"".join(chunks)
    moved += b"idx1" + struct.pack("<I", len(index)) + index
    path.write_bytes(moved[:4] + struct.pack("<I", len(moved) - 8) + moved[8:])
    return path


def jpegs(num_frames: int) -> list[bytes]:
    return [cv2.imencode(".jpg", noise(n))[1].tobytes() for n in range(num_frames)]


def dahua(path: Path, num_frames: int = 50) -> Path:
    """DHAV, as Dahua's recorders export it, of JPEGs: a clock of seconds in bit fields, and milliseconds."""
    parts = []
    for n, jpeg in enumerate(jpegs(num_frames)):
        ms = 1000 + 40 * n
        date = 24 << 26 | 6 << 22 | 5 << 17 | 12 << 12 | 30 << 6 | ms // 1000
        more = bytes([0x80, 0, SIZE[0] // 8, SIZE[1] // 8, 0x81, 0, 3, 25])  # the size; JPEG, frames/s
        length = 24 + len(more) + len(jpeg) + 8
        head = b"DHAV\xfd\0\0\0" + struct.pack("<IIIHBB", n, length, date, ms, len(more), 0)
        parts.append(head + more + jpeg + b"dhav" + struct.pack("<I", length))
    path.write_bytes(b"".join(parts))
    return path


def joined_jpegs(path: Path, num_frames: int = 50) -> Path:
    path.write_bytes(b"".join(jpegs(num_frames)))
    return path


def multipart(path: Path, num_frames: int = 50) -> Path:
    """What an IP camera sends to a browser, saved as it came."""
    head = "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n"
    parts = [head.format(len(jpeg)).encode() + jpeg + b"\r\n" for jpeg in jpegs(num_frames)]
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        (dahua, ".dav"),
        (joined_jpegs, ".mjpeg"),
        (joined_jpegs, ".mjpg"),
        (multipart, ".mjpeg"),
        (multipart, ".mjpg"),
    ],
)
def test_what_cameras_export_is_read(make: Any, suffix: str, tmp_path: Path) -> None:
    assert suffix in VIDEO_SUFFIXES
    end = end_of(make(tmp_path / f"v{suffix}"))
    assert (end.frames_decoded, end.frames_failed, end.error) == (50, 0, None)
    assert end.last_t == pytest.approx(49 / 25)


@pytest.mark.parametrize(("make", "suffix"), [(laced, ".mkv"), (transparent, ".webm"), (apart, ".avi")])
def test_nothing_is_missing(make: Any, suffix: str, tmp_path: Path) -> None:
    end = end_of(make(tmp_path / f"v{suffix}"))
    assert (end.frames_decoded, end.frames_failed, end.gaps, end.error) == (50, 0, (), None)


@pytest.mark.parametrize(("make", "suffix"), [(laced, ".mkv"), (transparent, ".webm"), (apart, ".avi")])
def test_a_lost_stretch_is_still_seen(make: Any, suffix: str, tmp_path: Path) -> None:
    path = make(tmp_path / f"v{suffix}")
    data = bytearray(path.read_bytes())
    begin, end = len(data) * 40 // 100, len(data) * 55 // 100
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    found = end_of(path)
    assert found.frames_failed > 0
    assert found.gaps


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
@pytest.mark.parametrize("sizes", [((64, 48), (128, 96)), ((128, 96), (64, 48))])
def test_the_largest_video_stream_is_read(
    suffix: str, sizes: tuple[tuple[int, int], ...], tmp_path: Path
) -> None:
    """The small one has three times as many frames, which FFmpeg would rather have."""
    path = tmp_path / f"v{suffix}"
    with av.open(str(path), "w") as container:
        streams: list[Any] = []
        for width, height in sizes:
            stream: Any = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 25)
            streams.append(stream)
        for n in range(50):
            for stream in streams:
                if stream.width == 64 or n % 3 == 0:
                    frame = av.VideoFrame.from_ndarray(np.full((stream.height, stream.width, 3), n, np.uint8))
                    frame.pts, frame.time_base = n, Fraction(1, 25)
                    container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    info = probe(path)
    assert (info.width_px, info.height_px) == (128, 96)
    assert end_of(path).frames_decoded == 17


@pytest.mark.parametrize(
    ("moved", "decoded", "failed"),
    [
        ({"mpegts_start_pid": "0x111"}, 99, 1),
        ({"mpegts_start_pid": "0x111", "mpegts_pmt_start_pid": "0x1010"}, 50, 0),
    ],
)
def test_a_recorder_that_begins_anew_under_other_pids(
    moved: dict[str, str], decoded: int, failed: int, tmp_path: Path
) -> None:
    """The last packet under the old one comes at the file's end; another program is another stream."""
    parts = [
        write_video(tmp_path / f"{n}.ts", range(0, 2000, 40), size=SIZE, container=options)
        for n, options in enumerate(({}, moved))
    ]
    path = tmp_path / "v.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    end = end_of(path)
    assert (end.frames_decoded, end.frames_failed, end.error) == (decoded, failed, None)
    assert end.last_t == pytest.approx((decoded - 1) / 25)


def add_cover(container: av.container.OutputContainer) -> None:
    cover = cv2.imencode(".jpg", np.zeros((480, 640, 3), np.uint8))[1].tobytes()
    container.add_attachment("cover.jpg", "image/jpeg", cover)


def test_a_picture_that_is_attached_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        add_cover(container)
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for n in range(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise(n))))
        container.mux(stream.encode(None))
    assert (probe(path).width_px, end_of(path).frames_decoded) == (64, 25)


def test_music_with_a_cover_is_no_video(tmp_path: Path) -> None:
    """FFmpeg takes the picture for a stream of one frame."""
    path = tmp_path / "song.mkv"
    with av.open(str(path), "w") as container:
        add_cover(container)
        stream: Any = container.add_stream("aac", rate=48_000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 48_000
        container.mux([*stream.encode(sound), *stream.encode(None)])
    with pytest.raises(MediaError, match=r"song\.mkv has no video stream") as caught:
        probe(path)
    assert caught.value.code == "media_no_video"


def test_a_creation_time_beyond_the_calendar_is_none_at_all(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["creation_time"] = "0001-01-01T00:00:00+01:00"
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        container.mux([*stream.encode(av.VideoFrame.from_ndarray(noise(0))), *stream.encode(None)])
    created = probe(path).creation_time  # the track's, which the muxer made up
    assert created is None or created.year > 1970


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(4, 3), 85), (Fraction(32_767), 64)])
def test_pixels_that_no_camera_makes_are_square(aspect: Fraction, width: int, tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "v.mp4", range(0, 400, 40), size=SIZE, aspect=aspect))
    assert (info.width_px, info.height_px) == (width, SIZE[1])


@pytest.mark.parametrize("sample_fps", [10.0, 0.0])
def test_times_beyond_counting_cost_their_video_only(sample_fps: float, tmp_path: Path) -> None:
    """Recipe: an IVF whose clock counts seconds and leaps from 9 to 2 to the 61st."""
    path = write_video(tmp_path / "v.ivf", range(20), size=SIZE, time_base=Fraction(1, 25), codec="libvpx")
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack("<II", 1, 1)
    at = 32
    for n in range(20):
        data[at + 4 : at + 12] = (n if n < 10 else (1 << 61) + n).to_bytes(8, "little")
        at += 12 + int.from_bytes(data[at : at + 4], "little")
    path.write_bytes(data)
    found = analyze([str(path)], str(tmp_path / "lake"), load(None, {"video.sample_fps": sample_fps})).results
    assert [result.state for result in found] == ["failed"]
    assert "cannot be counted" in str(found[0].error)
