"""What any reader does alike, and when PyAV reads instead of another."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import MareyError
from pipeline.media import DecodeJob, JobEnd, JobStart, SampledFrame, decode_inline
from pipeline.media.container import Limits
from pipeline.media.decord_reader import DecordReader
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Frame, Reader, ReaderFailed
from pipeline.media.scan import Scanner
from tests.helpers import shared_path
from tests.media.make import MILLI, level, write_video
from tests.media.test_formats import names

JOB = DecodeJob("job", "", width=64, height=64, sample_fps=0.0)

PICTURE_TOLERANCE = 6.0
"""Mean difference, of 255, of two readers' pictures: the FFmpeg in decord is of 2018 and knows no BT.2020."""


def open_pyav(path: Path) -> Reader:
    return PyavReader(path, Limits())


def open_decord(path: Path) -> Reader:
    return DecordReader(path, Limits(), Scanner().scan(str(path), Limits(), lambda: None))


READERS = {"pyav": open_pyav, "decord": open_decord}

KINDS: dict[str, tuple[str, Sequence[int], dict[str, str]]] = {
    "plain": ("v.mp4", range(0, 2000, 40), {"bf": "0"}),
    "B-frames": ("v.mp4", range(0, 2000, 40), {"bf": "3", "g": "12", "x264-params": "b-adapt=0:scenecut=0"}),
    "variable rate": ("v.mkv", [0, 40, 50, 400, 410, 1000, 1033, 5000, 5040, 5041], {"bf": "2"}),
    "a late start": ("v.mkv", range(7000, 9000, 40), {"bf": "2"}),
    "after a day": ("v.mkv", range(86_400_000, 86_401_000, 40), {"bf": "2"}),
    "one frame": ("v.mp4", [0], {}),
}


@pytest.fixture(params=list(READERS))
def opened(request: pytest.FixtureRequest) -> Callable[[Path], Reader]:
    return READERS[request.param]


@pytest.fixture(params=list(KINDS))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Sequence[int]]:
    """A file and the times of its frames in milliseconds."""
    name, times, options = KINDS[request.param]
    return write_video(tmp_path / name, times, options={"crf": "10", **options}), times


def frames_of(reader: Reader) -> list[Frame]:
    events = list(reader.events())
    assert all(isinstance(event, Frame) for event in events)
    return [event for event in events if isinstance(event, Frame)]


def test_each_frame_once_with_its_time_and_picture(
    opened: Callable[[Path], Reader], made: tuple[Path, Sequence[int]]
) -> None:
    path, times = made
    reader = opened(path)
    base = reader.info.time_base
    shown, brightness = [], []
    for event in reader.events():
        assert isinstance(event, Frame)
        shown.append(round(event.ticks * base / MILLI))
        brightness.append(event.render(16, 12).mean())
        assert event.pts is not None
        assert reader.origin is not None
        assert event.pts - reader.origin == event.ticks
    assert shown == [time - times[0] for time in times]
    np.testing.assert_allclose(brightness, [level(i) for i in range(len(times))], atol=3)
    assert reader.time_source == "pts"
    assert (reader.info.width_px, reader.info.height_px) == (64, 48)
    reader.close()


def test_frames_can_be_rendered_late_twice_and_in_any_order(
    opened: Callable[[Path], Reader], made: tuple[Path, Sequence[int]]
) -> None:
    reader = opened(made[0])
    frames = list(enumerate(frames_of(reader)))
    random.Random(1).shuffle(frames)
    for index, frame in frames[:6] * 2:
        picture = frame.render(20, 10)
        assert picture.shape == (10, 20, 3)
        assert picture.dtype == np.uint8
        assert picture.mean() == pytest.approx(level(index), abs=3)
    reader.close()


def test_a_closed_reader_gives_nothing_and_holds_nothing(
    opened: Callable[[Path], Reader], made: tuple[Path, Sequence[int]]
) -> None:
    before = set(os.listdir("/proc/self/fd"))
    reader = opened(made[0])
    events = reader.events()
    next(events)
    reader.close()
    reader.close()
    assert list(reader.events()) == []
    assert set(os.listdir("/proc/self/fd")) == before


def test_what_cannot_be_opened_is_refused_alike(opened: Callable[[Path], Reader], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("ffconcat version 1.0\nfile v.mp4\n")
    for name, code in (("text.mp4", "media_format"), ("none.mp4", "source")):
        with pytest.raises(MareyError) as caught:
            opened(tmp_path / name)
        assert caught.value.code == code


def test_a_long_stretch_that_nobody_looks_at(opened: Callable[[Path], Reader], tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", range(0, 60_000, 40), options={"bf": "2", "preset": "ultrafast"})
    reader = opened(path)
    for number, event in enumerate(reader.events()):
        if number == 1400:
            assert isinstance(event, Frame)
            assert event.render(16, 12).mean() == pytest.approx(level(1400), abs=4)
    assert number == 1499
    reader.close()


def items_of(path: Path, reader: str, **values: object) -> tuple[list[SampledFrame], JobEnd]:
    job = replace(JOB, path=str(path), reader=reader, **values)  # type: ignore[arg-type]
    items = list(decode_inline(job))
    end = items[-1]
    assert isinstance(end, JobEnd)
    assert sum(isinstance(item, JobStart) for item in items) == (end.error is None)
    return [item for item in items if isinstance(item, SampledFrame)], end


def assert_equal(path: Path, **values: object) -> JobEnd:
    """What comes with reader = "decord" is what PyAV gives; returns its end."""
    wanted, wanted_end = items_of(path, "pyav", **values)
    found, end = items_of(path, "decord", **values)
    assert [(f.sample, f.pts, f.t) for f in found] == [(f.sample, f.pts, f.t) for f in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        difference = np.abs(ours.picture.astype(int) - theirs.picture).mean()
        assert difference < PICTURE_TOLERANCE
    assert (end.error is None) == (wanted_end.error is None)
    if end.error is None:
        assert replace(end, reader="pyav", reader_note=None) == wanted_end
    assert (end.reader == "decord") == (end.reader_note is None and end.error is None)
    return end


DECORD_READS = {
    "bt2020_10bit.mp4",
    "bt601_full_range.mp4",
    "bt709_full_range.mp4",
    "decord_unordered.mov",
    "decord_video_0.mov",
    "exo_preroll-5s.mp4",
    "exo_sample_android_slow_motion.mp4",
    "exo_sample_fragmented.mp4",
    "exo_sample_with_htc_rotation_track_name.mkv",
    "exo_sample_with_increasing_timestamps.mp4",
    "exo_testvid_1022ms.mp4",
    "fate_interlaced_crop.mp4",
    "fate_mov-1elist-1ctts.mov",
    "fate_moviedispmat.mp4",
    "fate_two_sizes_multi_stsd.mov",
    "flipping_a_pancake.mkv",
    "h264_10bits.mp4",
    "h265_10bits.mp4",
    "h265_video.mp4",
    "imageio_realshort.mp4",
    "nasa_13013.mp4",
    "nasa_13013_hdr.mp4",
    "psd_counter.mp4",
    "smpte-2997.mp4",
    "test_non_zero_start.mp4",
    "testsrc2_444_8bit_hevc.mp4",
    "video_with_failing_audio.mp4",
    "damaged/exo_sample_mdat_too_long.mp4",
    "damaged/made_bitflips.mp4",
}

UNSTEADY = {"damaged/fate_hevc_two_first_slice.mp4"}  # PyAV alone does not decode it the same twice


@pytest.mark.parametrize("name", [*names(damaged=False), *(f"damaged/{n}" for n in names(damaged=True))])
def test_all_files_by_decord(name: str) -> None:
    path = shared_path("data", "videos", "formats", *name.split("/"))
    if name in UNSTEADY:
        assert items_of(path, "decord")[1].reader == "pyav"
        return
    end = assert_equal(path)
    assert (end.error is None and end.reader == "decord") == (name in DECORD_READS)


@pytest.mark.parametrize("values", [{"sample_fps": 2.0}, {"first_sample": 100, "end_sample": 130}])
def test_parts_by_decord(values: dict[str, object]) -> None:
    end = assert_equal(shared_path("data", "videos", "formats", "flipping_a_pancake.mkv"), **values)
    assert end.reader == "decord"


def test_pyav_reads_again_where_decord_fails_in_mid_file(tmp_path: Path) -> None:
    """Frames that were given stay as they are, later ones and the counts are PyAV's."""
    path = write_video(tmp_path / "v.mp4", range(0, 16_000, 40), options={"bf": "0", "g": "10"})
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][350]
        start, size = packet.pos, packet.size
    assert start is not None
    data = bytearray(path.read_bytes())
    data[start + 4 : start + size] = b"\xff" * (size - 4)
    path.write_bytes(data)
    end = assert_equal(path)
    assert (end.reader, end.frames_failed, end.frames_decoded) == ("pyav", 1, 399)
    assert end.reader_note is not None
    # It decodes ahead, so how early it says so is its own affair.
    assert re.fullmatch("decord: decord cannot decode what comes at frame [0-9]+", end.reader_note)


def test_decord_never_passes_a_copy_for_a_lost_frame(tmp_path: Path) -> None:
    """Whatever becomes of damaged packets: times are PyAV's, and pictures too, or PyAV has read."""
    rng = random.Random(3)
    path = write_video(tmp_path / "v.mp4", range(0, 2000, 40), options={"bf": "2", "g": "10"})
    whole = path.read_bytes()
    readers = set()
    for number in range(12):
        data = bytearray(whole)
        at = rng.randrange(100, len(data) * 2 // 3)
        for _ in range(20):
            data[at + rng.randrange(40)] ^= 1 << rng.randrange(8)
        changed = tmp_path / f"{number}.mp4"
        changed.write_bytes(data)
        readers.add(assert_equal(changed).reader)
    assert "pyav" in readers


def test_decord_does_not_seek(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", range(0, 8000, 40), options={"g": "25"})
    reader = open_decord(path)
    assert not reader.can_seek
    with pytest.raises(MareyError, match="in order only"):
        reader.seek(0)
    reader.close()
    late = {"sample_fps": 10.0, "first_sample": 60, "seek_after_s": 0.0}
    assert assert_equal(path, **late).reader == "decord"


def test_a_turned_picture_is_not_for_decord(tmp_path: Path) -> None:
    matrix = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    path = write_video(tmp_path / "v.mp4", [0, 40], matrix=matrix)
    with pytest.raises(ReaderFailed, match="turned"):
        open_decord(path)
    assert assert_equal(path).reader_note == "decord: its pictures are turned or mirrored"
