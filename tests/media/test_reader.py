from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.media.container import Limits
from pipeline.media.info import Orientation, VideoInfo
from pipeline.media.probe import probe
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Frame, Lost
from tests.helpers import shared_path
from tests.media.make import MILLI, level, write_video


def read(path: Path) -> tuple[list[Frame], list[float], VideoInfo, str]:
    """Frames, mean brightness of each, info, time source."""
    with PyavReader(path, Limits()) as reader:
        frames = [event for event in reader.events() if isinstance(event, Frame)]
        brightness = [float(frame.render(16, 16).mean()) for frame in frames]
        return frames, brightness, reader.info, reader.time_source


def assert_shown(path: Path, times: Sequence[int], tolerance: float = 3) -> None:
    """Each frame is there once, in order, with its own picture and its time from the first (milliseconds)."""
    frames, brightness, info, _ = read(path)
    shown = [round(frame.ticks * info.time_base / MILLI) for frame in frames]
    assert shown == [time - times[0] for time in times]
    np.testing.assert_allclose(brightness, [level(i) for i in range(len(times))], atol=tolerance)


VARIABLE = [0, 40, 50, 400, 410, 1000, 1033, 1066, 5000, 5040, 5041, 6000]


@pytest.mark.parametrize("start", [0, 700, 86_400_000])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_b_frames_and_variable_rate(tmp_path: Path, suffix: str, start: int) -> None:
    times = [start + time for time in VARIABLE]
    options = {"bf": "3", "g": "8", "x264-params": "b-adapt=0:scenecut=0", "crf": "10"}
    path = write_video(tmp_path / f"v{suffix}", times, options=options)
    with av.open(str(path)) as container:
        decoding = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert decoding != sorted(decoding)  # B-frames: the file's order is not the order of presentation
    assert_shown(path, times)


def test_one_frame(tmp_path: Path) -> None:
    assert_shown(write_video(tmp_path / "one.mp4", [0]), [0])


@pytest.mark.parametrize(("width", "height"), [(35, 27), (1, 1), (33, 2)])
def test_odd_sizes(tmp_path: Path, width: int, height: int) -> None:
    path = write_video(
        tmp_path / "odd.mkv", [0, 40, 80], size=(width, height), codec="ffv1", pix_fmt="yuv444p"
    )
    assert_shown(path, [0, 40, 80])
    info = probe(path)
    assert (info.width_px, info.height_px) == (width, height)


def test_raw_stream_without_times(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "v.mp4", range(0, 400, 40), options={"bf": "0"})
    raw = tmp_path / "v.h264"
    with av.open(str(whole)) as source, av.open(str(raw), "w", format="h264") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    assert_shown(raw, range(0, 400, 40))
    assert read(raw)[3] != "pts"


def test_a_raw_stream_has_the_rate_of_its_codec(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.h264", range(20), time_base=Fraction(1, 10), format="h264")
    frames, _, info, _ = read(path)
    assert info.fps_mean == 10
    assert frames[-1].ticks * info.time_base == Fraction(19, 10)


def test_sample_aspect_widens(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [0], size=(48, 48), aspect=Fraction(4, 3))
    info = probe(path)
    assert (info.width_px, info.height_px) == (64, 48)
    assert (info.coded_width, info.coded_height, info.sample_aspect) == (48, 48, Fraction(4, 3))


@pytest.mark.parametrize("name", ["fate_two_sizes_multi_stsd.mov", "fate_av1_sizeup.ivf"])
def test_a_change_of_size_in_mid_stream(name: str) -> None:
    frames, _, _, _ = read(shared_path("data", "videos", "formats", name))
    assert {frame.render(40, 20).shape for frame in frames} == {(20, 40, 3)}


ONE = 1 << 16
# By ISO/IEC 14496-12 a point (x, y), y down, is shown at (a x + c y, b x + d y). Where the corners of the
# stored picture (1 2 over 3 4) are seen then, worked out by hand.
MATRICES = {
    (ONE, 0, 0, ONE): ("12/34", Orientation(0)),
    (0, ONE, -ONE, 0): ("31/42", Orientation(270)),  # x -> down, y -> left: a quarter clockwise
    (-ONE, 0, 0, -ONE): ("43/21", Orientation(180)),
    (0, -ONE, ONE, 0): ("24/13", Orientation(90)),
    (-ONE, 0, 0, ONE): ("21/43", Orientation(0, mirrored=True)),
    (ONE, 0, 0, -ONE): ("34/12", Orientation(180, mirrored=True)),
    (0, ONE, ONE, 0): ("13/24", Orientation(90, mirrored=True)),
    (0, -ONE, -ONE, 0): ("42/31", Orientation(270, mirrored=True)),
    (0, 0, 0, 0): ("12/34 ", Orientation(0)),  # nonsense
}


@pytest.mark.parametrize("matrix", list(MATRICES), ids=lambda m: MATRICES[m][0])
def test_display_matrices(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    seen, orientation = MATRICES[matrix]
    levels = {"1": 40, "2": 100, "3": 160, "4": 220}
    stored = np.zeros((48, 64, 3), np.uint8)
    for corner, (y, x) in zip("1234", [(0, 0), (0, 32), (24, 0), (24, 32)], strict=True):
        stored[y : y + 24, x : x + 32] = levels[corner]
    a, b, c, d = matrix
    path = write_video(tmp_path / "m.mp4", [0], pictures=[stored], matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    frames, _, info, _ = read(path)
    assert (info.rotation, info.mirrored) == (orientation.rotation, orientation.mirrored)
    assert (info.width_px, info.height_px) == ((48, 64) if orientation.swaps_sides else (64, 48))
    with PyavReader(path, Limits()) as reader:
        picture = next(e for e in reader.events() if isinstance(e, Frame)).render(40, 40)
    corners = [float(picture[y : y + 10, x : x + 10].mean()) for y, x in [(5, 5), (5, 25), (25, 5), (25, 25)]]
    np.testing.assert_allclose(corners, [levels[corner] for corner in seen.strip().replace("/", "")], atol=4)
    assert len(frames) == 1


@pytest.mark.parametrize(
    ("name", "kr", "kb"), [("bt601_full_range.mp4", 0.299, 0.114), ("bt709_full_range.mp4", 0.2126, 0.0722)]
)
def test_colours_follow_matrix_and_range(name: str, kr: float, kb: float) -> None:
    path = shared_path("data", "videos", "formats", name)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    planes = [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    ]
    y, u, v = planes[0] / 255.0, *((np.kron(p, np.ones((2, 2))) - 128) / 255.0 for p in planes[1:])
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    expected = [255 * plane.clip(0, 1).mean() for plane in (red, green, blue)]
    with PyavReader(path, Limits()) as reader:
        shown = next(e for e in reader.events() if isinstance(e, Frame)).render(frame.width, frame.height)
    np.testing.assert_allclose(shown.mean((0, 1)), expected, atol=0.6)


@pytest.mark.parametrize("matrix", ["bt2020c", "ycgco", "ictcp", "chroma-derived-nc", "smpte2085"])
def test_a_matrix_that_ffmpeg_cannot_compute_with(matrix: str, tmp_path: Path) -> None:
    times = range(0, 200, 40)
    path = write_video(tmp_path / "v.mp4", times, options={"x264-params": f"colormatrix={matrix}"})
    assert_shown(path, times)


def test_a_broken_packet_costs_itself(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", range(0, 800, 40), codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    with av.open(io.BytesIO(bytes(data))) as container:
        packet = [p for p in container.demux(video=0) if p.size][7]
        start = data.find(bytes(packet))
    data[start : start + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    with PyavReader(path, Limits()) as reader:
        events = list(reader.events())
        kinds = [type(event) for event in events]
        assert kinds == [Frame] * 7 + [Lost] + [Frame] * 12
        assert isinstance(events[7], Lost)
        assert events[7].ticks is not None
        assert round(events[7].ticks * reader.info.time_base / MILLI) == 280


def test_info_survives_json() -> None:
    info = probe(shared_path("data", "videos", "formats", "exo_dolbyVision-hdr.MOV"))
    assert info.creation_time is not None
    assert VideoInfo.from_json(info.to_json()) == info


def test_opening_and_closing_leaves_nothing_open(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [0, 40])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        probe(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
