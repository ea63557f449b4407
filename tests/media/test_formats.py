"""Every file of the shared collection against ffprobe's times (truth.csv) and the README's sizes."""

from __future__ import annotations

import csv
import functools
import json
import os
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import MareyError
from pipeline.media.container import Limits
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Frame, Lost
from tests.helpers import ROOT, TIME_TOLERANCE_S, shared_path

NO_VIDEO = {
    "audio_only_nasa.mp3": "sound only",
    "exo_sample.text.mp4": "subtitles only",
    "exo_sample_opus.mp4": "sound only",
}

# What is lost although the frames that are there are ffprobe's own.
LOST = {
    "fate_attachment631_vfr.mp4": 331,  # the index promises 660 samples, of which half cannot be decoded
    "fate_displaymatrix_rotated.mov": 1,  # cut off within its 34th frame
    "fate_mpeg2_field_encoding.ts": 1,  # cut off within a packet of 188 bytes
}

# The README's display size is after rotation only; here after sample aspect too.
DISPLAYED = {
    "fate_attachment631_vfr.mp4": (640, 480),  # 720x480, 8:9
    "fate_displaymatrix_rotated.mov": (240, 80),  # 160x240, 1:2, turned
    "fate_hevc_hdr10.mkv": (320, 560),  # README gives the size before mirroring and turning
    "fate_moviedispmat.mp4": (768, 576),  # 540x576, 93207:65536
    "fate_mpeg2_field_encoding.ts": (768, 576),  # 720x576, 16:15
    "fate_prores_gray.mov": (768, 576),  # 720x576, 16:15
    "test_non_zero_start.mp4": (199, 112),  # 200x112, 224:225
}

# What FFmpeg 8 makes of damaged files, where that is not what truth (FFmpeg 5.1) says.
DAMAGED_FRAMES = {"fate_hevc_loewe_cut.ts": 6}  # begins in the middle of a group of pictures

REFUSED = {
    "exo_encrypted_clearkey.mp4": "media_encrypted",
    "made_cut_no_moov.mp4": "media_format",
    "made_empty.mp4": "media_empty",
    "made_text.mp4": "media_format",
}


@functools.cache
def table() -> dict[str, list[str]]:
    """README's rows by file name."""
    lines = shared_path("data", "videos", "formats", "README.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row for row in rows if len(row) >= 10 and "." in row[0]}


@functools.cache
def truth() -> dict[str, list[float | None]]:
    times: dict[str, list[float | None]] = defaultdict(list)
    with open(shared_path("data", "videos", "formats", "truth.csv"), encoding="utf-8") as file:
        for row in csv.DictReader(file):
            times[row["file"]].append(float(row["pts_s"]) if row["pts_s"] else None)
    return times


def names(damaged: bool) -> list[str]:
    """File names for parametrising; none where the shared folder is absent."""
    shared = Path(os.environ.get("MAREY_SHARED", ROOT.parent / "shared"))
    folder = shared / "data" / "videos" / "formats" / ("damaged" if damaged else "")
    skip = {"README.md", "truth.csv"}
    return sorted(p.name for p in folder.glob("*.*") if p.is_file() and p.name not in skip)


def read(path: Path) -> tuple[PyavReader, list[Frame], int]:
    with PyavReader(path, Limits()) as reader:
        events = list(reader.events())
    return reader, [e for e in events if isinstance(e, Frame)], sum(isinstance(e, Lost) for e in events)


def test_the_collection_is_whole() -> None:
    shared_path("data", "videos", "formats")
    assert len(names(damaged=False)) == 84
    assert len(names(damaged=True)) == 19


@pytest.mark.parametrize("name", names(damaged=False))
def test_whole_file(name: str) -> None:
    path = shared_path("data", "videos", "formats", name)
    if name in NO_VIDEO:
        with pytest.raises(MareyError, match="no video stream"):
            read(path)
        return
    reader, frames, lost = read(path)
    info, times = reader.info, truth()[name]
    assert len(frames) == len(times) == int(table()[name][6])
    assert lost == LOST.get(name, 0)
    assert reader.origin is not None
    for frame, time in zip(frames, times, strict=True):
        if time is not None:  # ffprobe has none for the last packed B-frame
            shown = float((reader.origin + frame.ticks) * info.time_base)
            assert shown == pytest.approx(time, abs=TIME_TOLERANCE_S)
    display = tuple(map(int, table()[name][5].split(" ")[0].split("x")))
    assert (info.width_px, info.height_px) == DISPLAYED.get(name, display)
    assert [frame.ticks for frame in frames] == sorted(frame.ticks for frame in frames)
    for frame in (frames[0], frames[-1]):
        assert frame.render(48, 32).shape == (32, 48, 3)


@pytest.mark.parametrize("name", sorted({*names(damaged=False)} - {*NO_VIDEO}))
def test_brightness_alone_is_that_of_the_picture(name: str) -> None:
    _, frames, _ = read(shared_path("data", "videos", "formats", name))
    frame = frames[len(frames) // 2]
    expected = cv2.cvtColor(frame.render(48, 32), cv2.COLOR_RGB2GRAY).astype(int)
    # One is a pattern of all levels in all planes, of which most are no colours.
    limit = 12 if name == "fate_empty_edit_5s.mp4" else 1
    assert np.abs(frame.render_grey(48, 32) - expected).mean() < limit


@pytest.mark.parametrize(
    ("name", "stream"), [("nasa_13013.mp4", 3), ("nasa_13013_rotated.mp4", 0), ("test_non_zero_start.mp4", 0)]
)
def test_times_and_durations_of_every_frame(name: str, stream: int) -> None:
    """Against what torchcodec's authors wrote down of these files, stream by stream."""
    folder = shared_path("data", "videos", "formats")
    told = json.loads((folder / "truth" / f"{name}.stream{stream}.all_frames_info.json").read_text())
    reader, frames, _ = read(folder / name)
    assert reader.info.stream_index == stream
    assert reader.origin is not None
    base = reader.info.time_base
    shown = [float((reader.origin + frame.ticks) * base) for frame in frames]
    assert shown == pytest.approx([float(row["pts_time"]) for row in told], abs=TIME_TOLERANCE_S)
    durations = [float(frame.duration * base) for frame in frames]
    assert durations == pytest.approx([float(row["duration_time"]) for row in told], abs=TIME_TOLERANCE_S)


@pytest.mark.parametrize("name", names(damaged=True))
def test_damaged_file(name: str) -> None:
    path = shared_path("data", "videos", "formats", "damaged", name)
    if name in REFUSED:
        with pytest.raises(MareyError) as caught:
            read(path)
        assert caught.value.code == REFUSED[name]
        return
    _, frames, lost = read(path)
    expected = DAMAGED_FRAMES.get(name, int(table()[f"damaged/{name}"][6]))
    assert len(frames) == expected
    assert frames or lost  # nothing is lost in silence
    assert [frame.ticks for frame in frames] == sorted(frame.ticks for frame in frames)
