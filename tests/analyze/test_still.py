"""Still scenes: frames that take over what was perceived before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.analyze import analyze
from pipeline.config import load
from pipeline.errors import UsageError
from pipeline.media import PERCEIVED
from tests.analyze.build import FPS, HEIGHT, TABLES, WIDTH, config, picture, rows
from tests.media.make import write_video

STILL = (4.0, 16.0)  # seconds in which nothing moves
SECONDS = 24


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    pictures = []
    for tick in range(SECONDS * FPS):
        t = tick / FPS
        shown = picture(STILL[0] if STILL[0] <= t < STILL[1] else t)
        pictures.append((shown + rng.normal(0, 2, shown.shape)).clip(0, 255).astype(np.uint8))
    path = tmp_path_factory.mktemp("clip") / "pauses.mp4"
    return write_video(
        path, [tick * 1000 // FPS for tick in range(len(pictures))], size=(WIDTH, HEIGHT), pictures=pictures
    )


def test_still_frames_take_over_detections_however_the_work_is_cut(
    folder: Path, clip: Path, tmp_path: Path
) -> None:
    lakes = []
    for name, segment_s in (("one", 60), ("three", 7)):
        settings = config(folder, perceive__still_threshold=5.0, run__segment_s=segment_s)
        analyze([str(clip)], str(tmp_path / name), settings)
        lakes.append(rows(tmp_path / name))
    found = lakes[0]
    for table in TABLES:
        assert lakes[1][table] == found[table], table
    by_sample: dict[int, list[tuple[float, ...]]] = {}
    for row in found["detections"]:
        by_sample.setdefault(row["sample"], []).append(
            (row["x1"], row["y1"], row["x2"], row["y2"], row["score"])
        )
    reused = [frame["sample"] for frame in found["frames"] if frame["reused"]]
    assert len(reused) > 0.75 * (STILL[1] - STILL[0]) * FPS
    assert all(STILL[0] * FPS < sample < STILL[1] * FPS for sample in reused)
    seen = [sample for sample in by_sample if sample not in reused]
    for sample in reused:
        last = [by_sample[s] for s in seen if s < sample][-PERCEIVED:]
        assert by_sample[sample] in last


def test_every_frame_of_a_video_cannot_be_on_the_grid(tmp_path: Path) -> None:
    path = tmp_path / "marey.toml"
    path.write_text("[video]\nsample_fps = 0\n[perceive]\nstill_threshold = 3\n")
    with pytest.raises(UsageError, match="sample_fps above 0"):
        load(path)
