"""Jobs that go on in the file that the last one left open get what a fresh start gives."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline.media.readers
from pipeline.media import DecodeJob, Gap, Item, JobEnd, JobStart, SampledFrame, joined_gaps
from pipeline.media.decode import Decoder
from pipeline.media.pyav_reader import PyavReader
from tests.helpers import shared_path
from tests.media.make import write_video

SMALL = DecodeJob("job", "", width=64, height=48, seek_after_s=0)


def make_lossy(path: Path) -> Path:
    """4 s of intra-coded frames, 40 ms each, of which 10 to 13, 49, 50 and 80 are destroyed."""
    write_video(path, range(0, 4000, 40), codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    marks = [i for i in range(len(data) - 1) if data[i : i + 3] == b"\xff\xd8\xff"]
    assert len(marks) == 100
    for frame in (10, 11, 12, 13, 49, 50, 80):
        data[marks[frame] : marks[frame] + 600] = bytes(600)
    path.write_bytes(data)
    return path


def make_variable(path: Path) -> Path:
    """B-frames at irregular times, with rests that are longer than a job."""
    times = sorted(random.Random(1).sample(range(4000), 60))
    return write_video(path, [*times, 5400, 5410, 8900], options={"bf": "3", "g": "12"})


def make_holed(path: Path) -> Path:
    """B-frames of 10 s, of which three seconds in the middle are zeros."""
    write_video(path, range(0, 10_000, 40), options={"bf": "3", "g": "12"})
    data = bytearray(path.read_bytes())
    begin, end = int(0.3 * len(data)) // 188 * 188, int(0.6 * len(data)) // 188 * 188
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    return path


MADE: dict[str, Callable[[Path], Path]] = {
    "b_frames.ts": lambda path: write_video(path, range(0, 4000, 40), options={"bf": "3", "g": "25"}),
    "b_frames.mp4": lambda path: write_video(path, range(0, 4000, 40), options={"bf": "3", "g": "10"}),
    "variable.mkv": make_variable,
    "lossy.mkv": make_lossy,
}

SHARED = (
    "exo_sample_h265.ts",
    "exo_sample.avi",
    "fate_frag_overlap.mp4",  # edit lists hide frames
    "fate_mov-1elist-1ctts.mov",
    "damaged/fate_1242_cut.mkv",
    "damaged/fate_brokensps.flv",
    "damaged/fate_ref_10.avi",
    "damaged/made_bitflips.mp4",
    "damaged/made_cut_half.ts",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("course")
    return {name: make(folder / name) for name, make in {**MADE, "holed.ts": make_holed}.items()}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[PyavReader]:
    """All readers that are opened."""
    readers: list[PyavReader] = []

    class Noting(PyavReader):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            readers.append(self)

    monkeypatch.setattr(pipeline.media.readers, "PyavReader", Noting)
    return readers


def facts(items: list[Item]) -> list[object]:
    """Items in a form that compares by content."""
    return [
        (f.sample, f.pts, f.t, f.picture.tobytes(), f.motion_grid.tobytes(), f.camera_motion)
        if isinstance(f, SampledFrame)
        else f
        for f in items
    ]


def run(decoder: Decoder, job: DecodeJob, *, fresh: bool = False) -> list[object]:
    return facts(list(decoder.items(job, lambda: None, fresh=fresh)))


def cut(job: DecodeJob, ends: list[int]) -> list[DecodeJob]:
    """Jobs that follow on each other; the last goes to the file's end."""
    firsts = [0, *ends]
    return [replace(job, first_sample=a, end_sample=b) for a, b in zip(firsts, [*ends, None], strict=True)]


lengths = st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=8)


@pytest.mark.parametrize("sample_fps", [0.0, 10.0])
@pytest.mark.parametrize("name", list(MADE))
@settings(max_examples=6, derandomize=True)
@given(lengths)
def test_going_on_equals_a_fresh_start(
    made: dict[str, Path], name: str, sample_fps: float, parts: list[tuple[int, bool]]
) -> None:
    whole = replace(SMALL, path=str(made[name]), sample_fps=sample_fps)
    ends = [sum(n for n, _ in parts[: i + 1]) for i in range(len(parts))]
    asked = [job for job, (_, wanted) in zip(cut(whole, ends), [*parts, (0, True)], strict=True) if wanted]
    decoder = Decoder()
    for job in asked:
        assert run(decoder, job) == run(Decoder(), job, fresh=True)
    decoder.close()


@pytest.mark.parametrize("sample_fps", [0.0, 10.0])
@pytest.mark.parametrize("name", SHARED)
def test_going_on_in_all_kinds_of_files(name: str, sample_fps: float, opened: list[PyavReader]) -> None:
    path = shared_path("data", "videos", "formats", *name.split("/"))
    whole = replace(SMALL, path=str(path), sample_fps=sample_fps)
    length = len(run(Decoder(), whole)) - 2
    ends = sorted(random.Random(name).sample(range(1, max(length, 4) + 4), 3))
    jobs = cut(whole, ends)
    opened.clear()
    decoder = Decoder()
    got = [run(decoder, job) for job in jobs]
    assert len(opened) == 1
    # Sought or not: in these files both are the same.
    assert got == [run(Decoder(), job, fresh=True) for job in jobs]
    assert got == [run(Decoder(), replace(job, seek_after_s=None), fresh=True) for job in jobs]


def test_each_frame_is_decoded_once(made: dict[str, Path]) -> None:
    decoder, steps = Decoder(), 0

    def count() -> None:
        nonlocal steps
        steps += 1

    for job in cut(replace(SMALL, path=str(made["b_frames.ts"])), [5, 10, 15, 20, 25, 30, 35]):
        list(decoder.items(job, count))
    assert steps == 100


def test_a_job_past_the_end_costs_nothing(made: dict[str, Path], opened: list[PyavReader]) -> None:
    decoder, steps = Decoder(), []
    job = replace(SMALL, path=str(made["b_frames.ts"]), end_sample=60)
    assert isinstance(last := list(decoder.items(job, lambda: None))[-1], JobEnd)
    assert last.end_of_file
    after = replace(job, first_sample=60, end_sample=120)
    start, end = decoder.items(after, lambda: steps.append(1))
    assert isinstance(start, JobStart)
    assert isinstance(end, JobEnd)
    assert (end.end_of_file, end.error, end.frames_decoded, end.info) == (True, None, 0, last.info)
    assert steps == []
    assert len(opened) == 1
    assert facts([start, end]) == run(Decoder(), after, fresh=True)


@pytest.mark.parametrize(
    "other",
    [
        {"sample_fps": 5.0, "first_sample": 10},
        {"width": 128, "first_sample": 20},
        {"max_pixels": 10_000, "first_sample": 20},
        {"first_sample": 19},
        {"first_sample": 0},
    ],
)
def test_what_does_not_follow_opens_the_file_anew(
    made: dict[str, Path], opened: list[PyavReader], other: dict[str, float]
) -> None:
    job = replace(SMALL, path=str(made["b_frames.ts"]), end_sample=20)
    decoder = Decoder()
    run(decoder, job)
    following = replace(job, end_sample=40, **other)  # type: ignore[arg-type]
    assert run(decoder, following) == run(Decoder(), following, fresh=True)
    assert len(opened) == 3
    assert list(opened[0].events()) == []  # closed


def test_a_seek_is_better_than_reading_on(made: dict[str, Path], opened: list[PyavReader]) -> None:
    job = replace(SMALL, path=str(made["b_frames.mp4"]), end_sample=5)
    later = replace(job, first_sample=35, end_sample=None)
    decoder, steps = Decoder(), []
    run(decoder, job)
    assert facts(list(decoder.items(later, lambda: steps.append(1)))) == run(Decoder(), later, fresh=True)
    assert len(opened) == 3
    assert len(steps) < 50  # of 100 frames


@pytest.mark.parametrize("how", ["touched", "replaced", "longer"])
def test_a_changed_file_is_opened_anew(tmp_path: Path, opened: list[PyavReader], how: str) -> None:
    path = write_video(tmp_path / "v.mp4", range(0, 3000, 40))
    other = write_video(tmp_path / "o.mp4", range(0, 6000, 40), size=(32, 48))
    times = path.stat().st_mtime_ns
    decoder = Decoder()
    run(decoder, replace(SMALL, path=str(path), end_sample=10))
    if how == "touched":
        os.utime(path, ns=(times, times + 1))
    elif how == "replaced":
        other.replace(path)
        os.utime(path, ns=(times, times))
    else:
        path.write_bytes(other.read_bytes())
    following = replace(SMALL, path=str(path), first_sample=10)
    assert run(decoder, following) == run(Decoder(), following, fresh=True)
    assert len(opened) == 3


def test_a_vanished_file_is_an_error_even_if_it_is_open(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", range(0, 3000, 40))
    decoder = Decoder()
    run(decoder, replace(SMALL, path=str(path), end_sample=10))
    path.unlink()
    (end,) = decoder.items(replace(SMALL, path=str(path), first_sample=10), lambda: None)
    assert isinstance(end, JobEnd)
    assert end.error is not None
    assert end.error.code == "source"


def test_a_job_that_was_broken_off_leaves_nothing_to_go_on_with(
    made: dict[str, Path], opened: list[PyavReader]
) -> None:
    job = replace(SMALL, path=str(made["b_frames.ts"]), end_sample=20)
    decoder = Decoder()
    items = decoder.items(job, lambda: None)
    next(item for item in items if isinstance(item, SampledFrame) and item.sample == 10)
    following = replace(job, first_sample=20, end_sample=30)
    assert run(decoder, following) == run(Decoder(), following, fresh=True)
    assert len(opened) == 3


def test_losses_just_after_a_job_are_the_next_ones(made: dict[str, Path]) -> None:
    # Packets 10 to 13 are lost one after the other, before the first good frame past the cut is seen.
    decoder = Decoder()
    jobs = cut(replace(SMALL, path=str(made["lossy.mkv"]), sample_fps=25.0), [12, 50])
    ends = [list(decoder.items(job, lambda: None))[-1] for job in jobs]
    assert [end.frames_failed for end in ends if isinstance(end, JobEnd)] == [2, 3, 2]
    assert [end.frames_decoded for end in ends if isinstance(end, JobEnd)] == [10, 35, 48]
    assert [end.next_sample for end in ends if isinstance(end, JobEnd)] == [12, 50, None]


def test_losses_that_a_job_was_told_of_are_forgotten(made: dict[str, Path]) -> None:
    # Frame n is sample 4 n; of the packets lost at 40, 44, 48 and 52 the last two are the second job's.
    decoder = Decoder()
    jobs = cut(replace(SMALL, path=str(made["lossy.mkv"]), sample_fps=100.0), [45, 61])[:2]
    ends = [list(decoder.items(job, lambda: None))[-1] for job in jobs]
    decoder.close()
    assert [(end.frames_failed, end.next_sample) for end in ends if isinstance(end, JobEnd)] == [
        (2, 48),
        (2, 64),
    ]


@pytest.mark.parametrize("name", ["lossy.mkv", "holed.ts"])
@pytest.mark.parametrize("ends", [[5, 20], [35, 45, 55], [*range(4, 100, 4)]])
def test_gaps_do_not_depend_on_where_jobs_end(made: dict[str, Path], name: str, ends: list[int]) -> None:
    job = replace(SMALL, path=str(made[name]))
    [whole], told = gaps(Decoder(), [job]), gaps(Decoder(), cut(job, ends))
    assert whole
    assert joined_gaps(gap for part in told for gap in part) == joined_gaps(whole)


def gaps(decoder: Decoder, jobs: list[DecodeJob]) -> list[tuple[Gap, ...]]:
    items = [item for job in jobs for item in decoder.items(job, lambda: None)]
    return [item.gaps for item in items if isinstance(item, JobEnd)]
