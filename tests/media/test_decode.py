from __future__ import annotations

import contextlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import pipeline.media
from pipeline.media import DecodeJob, Item, JobEnd, JobStart, SampledFrame, decode_inline
from pipeline.media.decode import Decoder
from pipeline.media.pyav_reader import PyavReader
from tests.helpers import shared_path
from tests.media.make import flat, level, write_video

SMALL = DecodeJob("job", "", width=64, height=48, seek_after_s=0)


def frames_of(items: list[Item]) -> list[SampledFrame]:
    return [item for item in items if isinstance(item, SampledFrame)]


def end_of(items: list[Item]) -> JobEnd:
    assert isinstance(items[-1], JobEnd)
    return items[-1]


def facts(items: list[Item]) -> list[tuple[object, ...]]:
    """All that a frame says, comparable."""
    return [
        (f.sample, f.pts, f.t, f.picture.tobytes(), f.motion_grid.tobytes(), f.camera_motion)
        for f in frames_of(items)
    ]


def test_public_names_exist() -> None:
    assert all(hasattr(pipeline.media, name) for name in pipeline.media.__all__)


def test_items_of_one_job(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", range(1000, 3000, 40), size=(64, 36))
    items = list(decode_inline(replace(SMALL, path=str(path), sample_fps=5.0)))
    start, frames, end = items[0], frames_of(items), end_of(items)
    assert isinstance(start, JobStart)
    assert len(items) == len(frames) + 2
    # 50 frames 40 ms apart: at 0, 200, 400, ... 1800 ms that is each fifth.
    assert [f.sample for f in frames] == list(range(10))
    assert [f.t for f in frames] == [k / 5 for k in range(10)]
    box = start.letterbox
    assert (box.content_width, box.content_height, box.top) == (64, 36, 6)
    for k, frame in enumerate(frames):
        assert frame.picture.shape == (48, 64, 3)
        assert frame.picture.dtype == np.uint8
        assert frame.picture[6:42].mean() == pytest.approx(level(5 * k), abs=3)
        assert (frame.picture[:6] == 114).all()
    assert end.info == start.info
    assert (end.frames_decoded, end.frames_failed, end.gaps) == (50, 0, ())
    assert (end.last_t, end.end_of_file, end.time_source, end.reader) == (1.96, True, "pts", "pyav")
    assert end.end_t == pytest.approx(2.0, abs=0.041)
    assert end.error is None


def test_a_slow_stream_gives_each_frame_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", [0, 950, 2000, 2001, 7300])
    items = list(decode_inline(replace(SMALL, path=str(path))))
    assert [(f.sample, f.t) for f in frames_of(items)] == [
        (0, 0.0),
        (10, 0.95),
        (20, 2.0),
        (21, 2.001),
        (73, 7.3),
    ]


def test_progress_is_told_while_no_picture_comes(tmp_path: Path) -> None:
    """Recipe: a camera that fails after four pictures, while its microphone goes on."""
    path, told = tmp_path / "v.mkv", []
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for index in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(flat(index, 64, 48), format="rgb24")))
        container.mux(stream.encode(None))
        for index in range(5000):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 32), np.int16), format="s16", layout="mono")
            silence.sample_rate, silence.pts = 8000, 32 * index
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    with contextlib.closing(Decoder()) as decoder:
        items = list(decoder.items(replace(SMALL, path=str(path), sparse=False), lambda: told.append(None)))
    assert end_of(items).frames_decoded == 4
    assert len(told) > 4 + 3


def test_every_frame(tmp_path: Path) -> None:
    times = [0, 7, 9, 300, 301]
    path = write_video(tmp_path / "v.mkv", times)
    job = replace(SMALL, path=str(path), sample_fps=0.0)
    whole = list(decode_inline(job))
    assert [(f.sample, f.t) for f in frames_of(whole)] == [(i, t / 1000) for i, t in enumerate(times)]
    part = list(decode_inline(replace(job, first_sample=1, end_sample=3)))
    assert facts(part) == facts(whole)[1:3]
    assert end_of(part).frames_decoded == 2


def test_a_job_past_the_end_is_empty(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [0, 40])
    items = list(decode_inline(replace(SMALL, path=str(path), first_sample=100)))
    assert [type(item) for item in items] == [JobStart, JobEnd]
    assert end_of(items).end_of_file
    assert end_of(items).last_t is None


SPLIT = {
    "fate_interlaced_crop.mp4": True,
    "fate_mov-1elist-1ctts.mov": True,
    "flipping_a_pancake.mkv": True,
    "fate_frag_overlap.mp4": False,  # edit lists hide frames
    "exo_sample_sef_slow_motion.mp4": False,
    "fate_empty_edit_5s.mp4": False,  # 4:4:4
    "exo_sample_h265.ts": False,
    "exo_sample.avi": False,
    "exo_roadtrip-vp92-10bit.webm": False,  # hidden frames, too short to seek in
}


@pytest.mark.parametrize("name", list(SPLIT))
def test_splitting_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seeks: list[int] = []
    seek = PyavReader.seek
    monkeypatch.setattr(PyavReader, "seek", lambda self, pts: (seeks.append(pts), seek(self, pts))[1])
    job = replace(SMALL, path=str(shared_path("data", "videos", "formats", name)))
    whole = list(decode_inline(job))
    length = frames_of(whole)[-1].sample + 1
    for parts in (3, 7):
        cuts = sorted({length * i // parts for i in range(1, parts)} - {0})
        jobs = [
            replace(job, first_sample=a, end_sample=b) for a, b in zip([0, *cuts], [*cuts, None], strict=True)
        ]
        runs = [list(decode_inline(part)) for part in jobs]
        assert [fact for run in runs for fact in facts(run)] == facts(whole)
        ends = [end_of(run) for run in runs]
        assert sum(end.frames_decoded for end in ends) == end_of(whole).frames_decoded
        assert sum(end.frames_failed for end in ends) == end_of(whole).frames_failed
        assert [end.end_of_file for end in ends] == [False] * (len(jobs) - 1) + [True]
        assert (ends[-1].last_t, ends[-1].end_t) == (end_of(whole).last_t, end_of(whole).end_t)
    assert bool(seeks) == SPLIT[name]


def test_a_wrong_seek_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.mp4", range(0, 10_000, 100), options={"g": "10", "bf": "2"})
    job = replace(SMALL, path=str(path), first_sample=60)
    right = list(decode_inline(job))
    seek = PyavReader.seek
    late = Fraction(8)  # seconds: past the job's first sample
    monkeypatch.setattr(PyavReader, "seek", lambda self, pts: seek(self, int(late / self.info.time_base)))
    assert facts(list(decode_inline(job))) == facts(right)


def test_losses_are_gaps(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", range(0, 4000, 40), codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    marks = [i for i in range(len(data) - 1) if data[i : i + 3] == b"\xff\xd8\xff"]
    assert len(marks) == 100
    for frame in (10, 11, 12, 13, 80):
        data[marks[frame] : marks[frame] + 600] = bytes(600)
    path.write_bytes(data)
    job = replace(SMALL, path=str(path), sample_fps=25.0)
    end = end_of(list(decode_inline(job)))
    assert (end.frames_decoded, end.frames_failed) == (95, 5)
    assert [(g.t_start, g.t_end, g.frames, g.cause) for g in end.gaps] == [
        (0.36, 0.56, 4, "media"),
        (3.16, 3.24, 1, "media"),
    ]
    parts = [replace(job, first_sample=a, end_sample=b) for a, b in ((0, 12), (12, 50), (50, None))]
    ends = [end_of(list(decode_inline(part))) for part in parts]
    assert [e.frames_failed for e in ends] == [2, 2, 1]


def test_a_file_that_cannot_be_used_ends_with_its_error(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("no video\n" * 20)
    (end,) = decode_inline(replace(SMALL, path=str(path)))
    assert isinstance(end, JobEnd)
    assert end.error is not None
    assert (end.error.code, end.info) == ("media_format", None)
    (gone,) = decode_inline(replace(SMALL, path=str(tmp_path / "gone.mp4")))
    assert isinstance(gone, JobEnd)
    assert gone.error is not None
    assert gone.error.code == "source"


def test_nothing_decodable_says_so() -> None:
    path = shared_path("data", "videos", "formats", "damaged", "exo_invalid-bitstream.webm")
    (end,) = decode_inline(replace(SMALL, path=str(path)))
    assert isinstance(end, JobEnd)
    assert end.error is not None
    assert (end.error.code, end.frames_decoded) == ("media_undecodable", 0)
    assert end.frames_failed >= 50


@pytest.mark.parametrize(
    "values", [{"sample_fps": -1.0}, {"sample_fps": float("nan")}, {"first_sample": -1}, {"end_sample": 0}]
)
def test_a_job_checks_itself(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        replace(SMALL, **values)


def test_jobs_and_ends_survive_json(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [0, 40])
    job = replace(SMALL, path=str(path))
    assert DecodeJob.from_json(job.to_json()) == job
    items = list(decode_inline(job))
    assert JobEnd.from_json(end_of(items).to_json()) == end_of(items)
    assert isinstance(items[0], JobStart)
    assert JobStart.from_json(items[0].to_json()) == items[0]
