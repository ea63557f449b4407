"""The small picture that is kept of each video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from pipeline.analyze.probing import open_prober, probe
from pipeline.config import VideoConfig
from pipeline.media import Feed
from pipeline.sources import Source, look
from tests.media.make import write_video


@pytest.fixture(scope="module")
def prober() -> Feed:
    with open_prober() as feed:
        yield feed


def source(path: Path) -> Source:
    found = look(path)
    assert isinstance(found, Source)
    return found


@pytest.mark.parametrize(("size", "small"), [((640, 360), (320, 180)), ((96, 384), (80, 320))])
def test_the_first_frame_fits_into_320_pixels(
    prober: Feed, tmp_path: Path, size: tuple[int, int], small: tuple[int, int]
) -> None:
    width, height = size
    picture = np.full((height, width, 3), 60, np.uint8)
    picture[: height // 2, : width // 2] = (220, 40, 40)  # upper left: red
    later = np.zeros_like(picture)
    path = write_video(tmp_path / "a.mp4", [0, 40, 80], size=size, pictures=[picture, later, later])
    found = probe(prober, source(path), VideoConfig())
    assert found.error is None
    assert found.info is not None
    assert found.thumbnail is not None
    assert len(found.thumbnail) < 20_000
    shown = cv2.imdecode(np.frombuffer(found.thumbnail, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert shown.shape[1::-1] == small
    np.testing.assert_allclose(shown[small[1] // 4, small[0] // 4], (220, 40, 40), atol=20)
    np.testing.assert_allclose(shown[-small[1] // 4, -small[0] // 4], (60, 60, 60), atol=20)


def test_what_is_no_video_has_none(prober: Feed, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("no video")
    found = probe(prober, source(path), VideoConfig())
    assert (found.info, found.thumbnail) == (None, None)
    assert found.error is not None


def test_a_file_is_not_read_to_its_end_for_its_first_frame(prober: Feed, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 240, 320, 3), np.uint8)
    path = write_video(
        tmp_path / "v.mp4",
        range(0, 2400, 40),
        size=(320, 240),
        pictures=list(noise),
        options={"preset": "ultrafast", "crf": "5"},
        container={"movflags": "faststart"},
    )
    small = write_video(tmp_path / "small.mp4", range(0, 2400, 40))
    read = []
    for one in (small, path):
        assert probe(prober, source(one), VideoConfig()).info is not None
        read.append(psutil.Process(prober.pids[0]).io_counters().read_chars)
    assert read[1] - read[0] < path.stat().st_size / 2
