"""Frames that nothing refers to and no instant shows are not decoded; what is given is the same."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest

import pipeline.media.readers
from pipeline.media import DecodeJob, Item, JobEnd
from pipeline.media.decode import Decoder
from pipeline.media.reader import ReaderFailed
from pipeline.media.sampling import Display, Grid
from pipeline.media.sparse_reader import SparseReader, shown
from tests.helpers import shared_path
from tests.media.make import MILLI, write_video
from tests.media.test_course import facts

JOB = DecodeJob("job", "", width=64, height=48, sample_fps=5.0, seek_after_s=0)


@dataclass(frozen=True)
class _At:
    ticks: int


B_FRAMES = {"bf": "3", "g": "50", "b-pyramid": "normal"}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """8 s at 25 frames/s, moving, with references among the B-frames and without."""
    random_ = np.random.default_rng(0)
    ground = random_.integers(0, 255, (60, 280, 3), dtype=np.uint8)
    pictures = [np.ascontiguousarray(ground[:48, i : i + 64]) for i in range(200)]
    return write_video(tmp_path / "v.mp4", range(0, 8000, 40), pictures=pictures, options=B_FRAMES)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many files were opened sparsely, and how many were then given up."""
    met: Counter[str] = Counter()

    class Noting(SparseReader):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            met["sparse"] += 1

    monkeypatch.setattr(pipeline.media.readers, "SparseReader", Noting)
    give_up = pipeline.media.readers.Readers.give_up

    def noting(self: pipeline.media.readers.Readers, job: DecodeJob, reason: ReaderFailed) -> None:
        met["given up"] += 1
        give_up(self, job, reason)

    monkeypatch.setattr(pipeline.media.readers.Readers, "give_up", noting)
    return met


def run(job: DecodeJob, *, every: bool = False) -> list[object]:
    """The items, with every frame decoded or not."""
    decoder = Decoder()
    if every:
        decoder._readers.give_up(job, ReaderFailed("for comparison"))
    items: list[Item] = list(decoder.items(job, lambda: None))
    decoder.close()
    return [item.to_json() if isinstance(item, JobEnd) else item for item in facts(items)]


@pytest.mark.parametrize("sample_fps", [1.0, 5.0, 7.5, 10.0, 12.5])
def test_the_same_is_given(made: Path, readers: Counter[str], sample_fps: float) -> None:
    job = replace(JOB, path=str(made), sample_fps=sample_fps)
    sparse = run(replace(job, end_sample=None))
    assert readers == {"sparse": 1}
    assert sparse == run(job, every=True)
    parts = [replace(job, first_sample=2), replace(job, first_sample=5, end_sample=40)]
    assert [run(part) for part in parts] == [run(part, every=True) for part in parts]


def test_frames_are_left_out(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with av.open(str(made)) as container:
        container.streams.video[0].codec_context.skip_frame = "NONREF"
        kept = sum(1 for _ in container.decode(video=0))
    assert kept < 150  # the file has frames that nothing refers to
    given: Counter[bool] = Counter()
    events = SparseReader.events

    def counting(self: SparseReader):  # type: ignore[no-untyped-def]
        for event in events(self):
            given[event.render.__name__ == "_no_picture"] += 1  # type: ignore[union-attr]
            yield event

    monkeypatch.setattr(SparseReader, "events", counting)
    end = run(replace(JOB, path=str(made), sample_fps=2.0))[-1]
    assert isinstance(end, dict)
    assert end["frames_decoded"] == given.total() == 200
    assert given[True] > 50


@pytest.mark.parametrize("sample_fps", [1.0, 10.0])
def test_the_same_of_all_kinds_of_files(readers: Counter[str], sample_fps: float) -> None:
    folder = shared_path("data", "videos", "formats")
    for path in sorted([*folder.glob("*.*"), *folder.glob("damaged/*.*")]):
        job = replace(JOB, path=str(path), sample_fps=sample_fps)
        assert run(job) == run(job, every=True), path.name
    assert readers["sparse"] > 10


def test_a_file_with_damage_is_read_frame_by_frame(made: Path, readers: Counter[str]) -> None:
    """Frames that others refer to are destroyed, one at a time; some of it the decoder takes for pictures."""
    with av.open(str(made)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    whole, job = made.read_bytes(), replace(JOB, path=str(made))
    anchors = [p for p in packets if bytes(p)[4] >> 5 & 3 and not p.is_keyframe]  # nal_ref_idc
    failed = 0
    for number, hit in enumerate(anchors[1::9]):
        data = bytearray(whole)
        assert hit.pos is not None
        data[hit.pos + 5 : hit.pos + hit.size] = bytes([255 * (number % 2)]) * (hit.size - 5)
        made.write_bytes(data)
        found = run(job)
        assert found == run(job, every=True)
        assert isinstance(found[-1], dict)
        failed += found[-1]["frames_failed"] > 0
    assert failed
    assert readers["given up"] >= failed


@pytest.mark.parametrize(
    "more",
    [
        {"sample_fps": 0.0},
        {"sample_fps": 25.0},
        {"end_sample": 1},  # a look at the first frame is not to read the whole file
    ],
)
def test_where_it_does_not_pay_no_packets_are_scanned(
    made: Path, readers: Counter[str], more: dict[str, float]
) -> None:
    run(replace(JOB, path=str(made), **more))  # type: ignore[arg-type]
    assert not readers


@pytest.mark.parametrize("write", [lambda p: p.with_suffix(".ts"), lambda p: p.with_suffix(".flv")])
def test_files_without_an_index_are_read_frame_by_frame(
    tmp_path: Path, readers: Counter[str], write: Callable[[Path], Path]
) -> None:
    path = write_video(write(tmp_path / "v"), range(0, 4000, 40), options=B_FRAMES)
    run(replace(JOB, path=str(path)))
    assert not readers


@pytest.mark.parametrize("sample_fps", [0.7, 10.0, 29.97])
def test_what_is_shown_is_what_the_display_gives(sample_fps: float) -> None:
    random_ = random.Random(3)
    ticks = np.array([0, *sorted(random_.sample(range(1, 90_000 * 20), 300))])
    grid = Grid.of(sample_fps, MILLI)
    display = Display[_At](grid)
    given = [display.show(_At(int(t))) for t in ticks]
    expected = {item[1].ticks for item in given if item is not None} | {int(ticks[-1])}
    assert set(ticks[shown(ticks, grid)].tolist()) == expected
