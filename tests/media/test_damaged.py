"""Files that are cut, zeroed, lying or made to do harm: what decodes is used, what is lost is told."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import MareyError, SourceError
from pipeline.media import DecodeJob, Feed, JobEnd, SampledFrame, decode_inline
from pipeline.media.container import Limits
from pipeline.media.damage import ends_early
from pipeline.media.probe import probe
from tests.helpers import shared_path
from tests.media.fuzz import small_files
from tests.media.make import write_video
from tests.media.mutate import mutated
from tests.media.test_decode import end_of, facts

SIZE = 128, 96
TIMES = range(0, 4000, 40)
KINDS: dict[str, dict[str, str]] = {
    "v.mp4": {"movflags": "faststart"},
    "fragmented.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "v.mkv": {},
    "v.ts": {},
    "v.flv": {},
    "v.avi": {},
}
EVERY = DecodeJob("job", "", sample_fps=0.0, width=64, height=48)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same 4 s in six containers: 100 frames of moving noise, B-frames, a key frame each half second."""
    folder = tmp_path_factory.mktemp("whole")
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3), np.uint8)
    pictures = [np.roll(noise, 3 * i, 1) for i in range(len(TIMES))]
    options = {"bf": "2", "g": "12", "preset": "veryfast"}
    return {
        name: write_video(
            folder / name, TIMES, size=SIZE, pictures=pictures, options=options, container=container
        ).read_bytes()
        for name, container in KINDS.items()
    }


def decode(path: Path, data: bytes | None = None) -> tuple[list[float], JobEnd]:
    """Times of the frames, and the end."""
    if data is not None:
        path.write_bytes(data)
    *items, end = decode_inline(replace(EVERY, path=str(path)))
    assert isinstance(end, JobEnd)
    return [item.t for item in items if isinstance(item, SampledFrame)], end


def cut(data: bytes, start: float, end: float, fill: bool = False) -> bytes:
    """Without the bytes between two fractions of the file, or with zeros in their place."""
    a, b = int(len(data) * start), int(len(data) * end)
    return data[:a] + (bytes(b - a) if fill else b"") + data[b:]


@pytest.mark.parametrize("name", list(KINDS))
def test_whole_files_have_no_loss(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    times, end = decode(tmp_path / name, whole[name])
    assert (len(times), end.frames_failed, end.gaps, end.error) == (100, 0, (), None)


@pytest.mark.parametrize("name", list(KINDS))
def test_a_download_that_stopped(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    times, end = decode(tmp_path / name, cut(whole[name], 0.6, 1.0))
    assert end.error is None
    assert 50 <= len(times) < 90
    # Of the last ones in an AVI the times are guesses: it has none of its own.
    assert times[:-3] == pytest.approx([k * 0.04 for k in range(len(times) - 3)], abs=0.002)
    assert end.frames_failed >= 1
    assert {gap.cause for gap in end.gaps} == {"media"}
    assert end.gaps[-1].t_end is None
    assert times[-1] - 0.2 < end.gaps[-1].t_start <= times[-1]


STAYS_SHUT = {"v.avi"}  # its times are counted by packets, so that what is lost is no gap in time


@pytest.mark.parametrize("name", list(KINDS))
def test_a_zeroed_stretch(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    times, end = decode(tmp_path / name, cut(whole[name], 0.4, 0.55, fill=True))
    assert end.error is None
    assert 30 < len(times) < 95
    assert end.frames_failed >= 1
    (gap,) = end.gaps
    assert (gap.cause, gap.frames) == ("media", end.frames_failed)
    if name in STAYS_SHUT:
        assert 1.2 < gap.t_start < 2.0
    elif name == "fragmented.mp4":  # the demuxer does not find the next fragment
        assert (gap.t_start, gap.t_end) == (times[-1], None)
    else:
        assert gap.t_end is not None
        missing = {round(t, 2) for t in np.arange(100) * 0.04} - {round(t, 2) for t in times}
        assert gap.t_start < min(missing)
        assert max(missing) < gap.t_end
        assert gap.t_end - gap.t_start < 1.2
        assert times[-1] == pytest.approx(3.96, abs=0.002)


@pytest.mark.parametrize("name", ["v.ts", "v.avi"])
def test_a_recording_that_lacks_its_start(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """Where the container can be entered in the middle, the rest is read; the first time is 0."""
    times, end = decode(tmp_path / name, cut(whole[name], 0.0, 0.3))
    assert end.error is None
    assert 40 < len(times) <= 75
    assert times[0] == 0


@pytest.mark.parametrize("name", ["v.mp4", "fragmented.mp4", "v.mkv", "v.flv"])
def test_a_file_without_its_head_is_refused(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    times, end = decode(tmp_path / name, cut(whole[name], 0.0, 0.3))
    assert times == []
    assert end.error is not None
    assert end.error.code == "media_format"


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    assert len(old) == len(new)
    return data.replace(old, new)


def matroska_duration(data: bytes, milliseconds: float) -> bytes:
    """Another Duration in a Matroska header (RFC 9559, 5.1.2.10): element 0x4489, a float of 8 bytes."""
    at = data.index(b"\x44\x89\x88") + 3
    return data[:at] + struct.pack(">d", milliseconds) + data[at + 8 :]


@pytest.mark.parametrize("seconds", [143_165.0, 0.001, -5.0, float("nan"), float("inf")])
def test_a_header_that_lies_about_the_duration(
    seconds: float, whole: dict[str, bytes], tmp_path: Path
) -> None:
    times, end = decode(tmp_path / "v.mkv", matroska_duration(whole["v.mkv"], seconds * 1000))
    assert (len(times), end.gaps, end.last_t) == (100, (), 3.96)
    assert end.info is not None
    hint = end.info.duration_s
    assert hint is None or 0 < hint <= 14 * 86400


def track_size(data: bytes, width: int, height: int) -> bytes:
    """Another size in the sample entry of an MP4 (ISO/IEC 14496-12, 8.5.2)."""
    at = data.index(b"avc1", data.index(b"stsd")) + 28
    assert struct.unpack(">HH", data[at : at + 4]) == SIZE
    return data[:at] + struct.pack(">HH", width, height) + data[at + 4 :]


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (32_768, 32_768), (65_535, 65_535)])
def test_a_header_that_lies_about_the_size(
    size: tuple[int, int], whole: dict[str, bytes], tmp_path: Path
) -> None:
    """The stream itself knows its size; a picture that would be too large is refused before decoding."""
    times, end = decode(tmp_path / "v.mp4", track_size(whole["v.mp4"], *size))
    if end.error is not None:
        assert end.error.code == "media_pixels"
        assert size[0] * size[1] > Limits.max_pixels
    else:
        assert end.info is not None
        assert (len(times), end.info.coded_width, end.info.coded_height) == (100, *SIZE)


def test_pictures_that_are_larger_than_allowed(tmp_path: Path) -> None:
    """Recipe: a one-line picture of 16,384 x 8 in MJPEG whose JPEG header says 65,500 x 65,500."""
    path = write_video(tmp_path / "v.mkv", [0, 40], size=(64, 48), codec="mjpeg", pix_fmt="yuvj420p")
    data = path.read_bytes()
    size = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 48, 64)  # a baseline frame header (ITU-T T.81, B.2.2)
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, size[:5] + struct.pack(">HH", 65_500, 65_500)))
    times, end = decode(path)
    assert times == []
    assert end.error is not None
    assert end.error.code in ("media_undecodable", "media_pixels")


def test_ten_thousand_streams(tmp_path: Path) -> None:
    """Recipe: an MP4 whose only track stands in its index 10,000 times."""
    data = write_video(tmp_path / "v.mp4", [0, 40]).read_bytes()
    at = data.index(b"trak") - 4
    (length,) = struct.unpack(">I", data[at : at + 4])
    track, moov = data[at : at + length], data.index(b"moov") - 4
    (moov_length,) = struct.unpack(">I", data[moov : moov + 4])
    grown = struct.pack(">I", moov_length + 9_999 * length)
    bomb = data[:moov] + grown + data[moov + 4 : at] + track * 10_000 + data[at + length :]
    (tmp_path / "bomb.mp4").write_bytes(bomb)
    with pytest.raises(MareyError, match="more streams than max_streams = 64") as caught:
        probe(tmp_path / "bomb.mp4")
    assert caught.value.code == "media_streams"


def test_a_file_that_never_ends_costs_its_time_limit_only(whole: dict[str, bytes], tmp_path: Path) -> None:
    """Recipe: 60 GB of nothing behind an MPEG-TS, in a file with a hole, so that it takes no disk."""
    path = tmp_path / "endless.ts"
    path.write_bytes(whole["v.ts"])
    os.truncate(path, 60 << 30)
    good = tmp_path / "good.mp4"
    good.write_bytes(whole["v.mp4"])
    job = replace(EVERY, path=str(path), stall_s=2.0)
    ends: dict[str, JobEnd] = {}
    samples = 0
    with Feed(1, ring_size=4, max_pixels=64 * 48) as feed:
        for item in feed.run([replace(job, key="endless"), replace(job, key="good", path=str(good))]):
            samples += isinstance(item, SampledFrame) and item.job_key == "endless"
            if isinstance(item, JobEnd):
                ends[item.job_key] = item
    assert samples >= 98  # the last ones may still be in the decoder
    (gap,) = ends["endless"].gaps
    assert gap.cause in ("timeout", "media")
    assert ends["good"].frames_decoded == 100


def spliced(whole: dict[str, bytes]) -> bytes:
    return whole["v.mkv"] + whole["v.mp4"]


def twice(whole: dict[str, bytes]) -> bytes:
    return whole["v.ts"] * 2


@pytest.mark.parametrize(("join", "frames"), [(spliced, 100), (twice, 200)])
def test_files_joined_like_text(
    join: Callable[[dict[str, bytes]], bytes], frames: int, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """MPEG-TS may be joined, its clock then begins anew; what follows a Matroska file is not looked at."""
    times, end = decode(tmp_path / "v.bin", join(whole))
    assert end.error is None
    assert frames - 2 <= len(times) <= frames
    assert times == sorted(times)


@pytest.mark.parametrize("name", list(KINDS))
def test_ends_early_knows_whole_files(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / name
    formats = {"mp4": "mov,mp4", "mkv": "matroska,webm", "ts": "mpegts", "flv": "flv", "avi": "avi"}
    kind = formats[name.split(".")[1]]
    path.write_bytes(whole[name])
    assert not ends_early(path, kind)
    path.write_bytes(whole[name][:-10])
    assert ends_early(path, kind) == (name not in ("v.flv", "v.mp4"))


def test_whole_shared_files_do_not_end_early() -> None:
    folder = shared_path("data", "videos", "formats")
    early = []
    for path in sorted(folder.glob("*.*")):
        if path.suffix not in (".md", ".csv"):
            try:
                info = probe(path)
            except MareyError:
                continue
            if ends_early(path, info.container):
                early.append(path.name)
    assert early == ["fate_mpeg2_field_encoding.ts"]  # it is cut within a packet


@pytest.mark.parametrize("name", list(KINDS))
def test_a_file_that_vanishes_while_it_is_read(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """What is open is read to its end."""
    path = tmp_path / name
    path.write_bytes(cut(whole[name], 0.4, 0.45, fill=True))
    items = decode_inline(replace(EVERY, path=str(path)))
    next(items)
    path.unlink()
    *_, end = items
    assert isinstance(end, JobEnd)
    assert (end.error, end.end_of_file) == (None, True)
    assert end.frames_decoded > 30


def test_losses_are_the_same_in_any_segments(tmp_path: Path) -> None:
    """Counts and frames of 60 mutants in 1, 3 and 20 jobs, each of which opens the file anew and may seek."""
    whole = small_files(tmp_path / "whole")
    names, worst = list(whole), 0
    for seed in range(60):
        name = names[seed % len(names)]
        path = tmp_path / f"{seed}-{name}"
        path.write_bytes(mutated(seed + 40, whole[name], whole["v.mkv"]))
        job = replace(EVERY, path=str(path), sample_fps=25.0, seek_after_s=0.0, max_pixels=2_000_000)
        try:
            *items, end = decode_inline(job)
        except MemoryError:  # a box that says it is huge; a decoding process ends with cause `memory`
            continue
        assert isinstance(end, JobEnd)
        if end.error is not None:
            continue
        worst = max(worst, end.frames_failed)
        frames = facts([item for item in items if isinstance(item, SampledFrame)])
        length = frames[-1][0] + 1 if frames else 1
        for parts in (3, 20):
            cuts = sorted({length * i // parts for i in range(1, parts)} - {0})
            jobs = [replace(job, first_sample=a, end_sample=b) for a, b in pairwise([0, *cuts, None])]
            runs = [list(decode_inline(part)) for part in jobs]
            assert [fact for run in runs for fact in facts(run)] == frames, (path.name, parts)
            assert sum(end_of(run).frames_failed for run in runs) == end.frames_failed, (path.name, parts)
    assert worst > 3


def test_random_damage_is_told(whole: dict[str, bytes], tmp_path: Path) -> None:
    """Where frames are missing, the job says so: a hundred stretches of 2,000 zeros at random places."""
    rng = random.Random(5)
    silent: list[Any] = []
    for number in range(100):
        name = ["v.mp4", "v.mkv", "v.ts"][number % 3]
        at = rng.uniform(0.1, 0.9)
        data = whole[name]
        (tmp_path / name).write_bytes(cut(data, at, at + 2000 / len(data), fill=True))
        # All are decoded and counted, few are rendered and looked at for motion.
        end = end_of(
            list(decode_inline(replace(EVERY, path=str(tmp_path / name), sample_fps=1.0, sparse=False)))
        )
        if end.error is None and end.frames_decoded < 99 and not end.gaps:
            silent.append((name, at, end.frames_decoded))
    assert silent == []


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_a_disk_that_fails_is_no_damage(whole: dict[str, bytes], tmp_path: Path, name: str) -> None:
    """What it gives no more may be whole: the file fails, and not for good. To the reader that looks alike.

    The lowest addresses of this process are never mapped, so reading its memory there is an error of I/O.
    """
    path = tmp_path / name
    path.write_bytes(whole[name])
    items = decode_inline(replace(EVERY, path=str(path)))
    for _ in range(5):
        next(items)
    broken = os.open("/proc/self/mem", os.O_RDONLY)
    for number in os.listdir("/proc/self/fd"):
        if os.path.realpath(f"/proc/self/fd/{number}") == str(path):
            os.dup2(broken, int(number))
    os.close(broken)
    path.unlink()
    path.symlink_to("/proc/self/mem")
    *_, end = items
    assert isinstance(end, JobEnd) and isinstance(end.error, SourceError)
    assert end.error.code == "unreadable" and "Input/output error" in str(end.error)
