"""Frames that look like the one before: which they are, wherever decoding began."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.media import DecodeJob, SampledFrame, decode_inline
from pipeline.media.still import StillGate
from tests.media.make import write_video

FPS, SECONDS = 5, 30


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Still but for noise, except from 12 s to 14 s, when something small crosses."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 180, (12, 16, 3)).repeat(20, axis=0).repeat(20, axis=1)
    pictures = []
    for tick in range(FPS * SECONDS):
        picture = ground + rng.normal(0, 3, ground.shape)
        t = tick / FPS
        if 12 <= t < 14:
            left = int(100 * (t - 12)) + 20
            picture[100:140, left : left + 16] = 250
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    path = tmp_path_factory.mktemp("still") / "still.mp4"
    times = [tick * 1000 // FPS for tick in range(len(pictures))]
    return write_video(path, times, size=(320, 240), pictures=pictures, options={"crf": "20"})


def stills(video: Path, threshold: float, first: int = 0, end: int | None = None) -> list[bool]:
    job = DecodeJob("k", str(video), first, end, sample_fps=FPS, still_threshold=threshold)
    return [item.still for item in decode_inline(job) if isinstance(item, SampledFrame)]


def test_what_moves_is_perceived_and_noise_is_not(video: Path) -> None:
    found = stills(video, 4)
    perceived = [tick / FPS for tick, still in enumerate(found) if not still]
    assert {0.0, 10.0, 20.0} <= set(perceived)  # a block begins
    moving = [t for t in perceived if 12 <= t < 14]
    assert len(moving) >= 9  # of ten
    assert any(14 <= t < 14.5 for t in perceived)  # it is gone
    assert len(perceived) < 50  # of 150
    assert not any(stills(video, 0))


@pytest.mark.parametrize("cuts", [(0, 50, 100, 150), (0, 100, 150)])
def test_it_does_not_matter_where_decoding_begins(video: Path, cuts: tuple[int, ...]) -> None:
    parts = [still for first, end in pairwise(cuts) for still in stills(video, 4, first, end)]
    assert parts == stills(video, 4)


def test_pictures_of_still_frames_are_left_out_and_the_others_are_what_they_are_without(video: Path) -> None:
    job = DecodeJob("k", str(video), 0, None, sample_fps=FPS, still_threshold=4)
    saving, full = (
        [item for item in decode_inline(one) if isinstance(item, SampledFrame)]
        for one in (job, replace(job, still_threshold=0))
    )
    for frame, expected in zip(saving, full, strict=True):
        if frame.still:
            assert frame.picture.size == 0
            assert frame.camera_motion == (0, 0, 1, 0)
            continue
        np.testing.assert_array_equal(frame.picture, expected.picture)
        if 12 <= frame.t < 14:  # what moved is measured against the frame before, still or not
            np.testing.assert_array_equal(frame.motion_grid, expected.motion_grid)
            assert frame.camera_motion == expected.camera_motion


def test_slow_changes_add_up() -> None:
    gate = StillGate(4, 10)
    steps = [0, 0, 0, 0, 1, 2, 3, 3, 4, 4, 4, 4, 4]
    greys = [np.full((40, 64), 100 + step, np.uint8) for step in steps]
    found = [gate.takes_over(tick, grey) for tick, grey in enumerate(greys)]
    assert found == [None, 0, 0, 0, 4, 3, 2, 1, None, 0, 0, 0, 4]


def test_still_frames_take_over_from_each_perceived_one_in_turn() -> None:
    gate = StillGate(4, 10)
    grey = np.full((40, 64), 100, np.uint8)
    perceived: list[int] = []
    taken = []
    for tick in range(29):
        if back := gate.takes_over(tick, grey):
            taken.append(perceived[-back])
        else:
            perceived.append(tick)
    assert perceived == [0, 1, 2, 3, 23]
    assert taken == [0, 1, 2, 3] * 4 + [0, 1, 2] + [1, 2, 3, 23, 1]
