"""What a dry run expects."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.analyze import Options, analyze
from pipeline.analyze.estimate import estimate
from tests.analyze.build import LONG_S, SHORT_S, config, write_clip


def test_hours_bytes_and_time(folder: Path, lake: Path) -> None:
    videos = [str(folder / name) for name in ("long.mp4", "short.mp4")]
    planned = analyze(videos, str(lake), config(folder), Options(dry_run=True))
    found = estimate(planned, str(lake))
    assert (found.videos, found.unknown, found.work_s) == (2, 0, None)
    assert found.hours * 3600 == pytest.approx(LONG_S + SHORT_S, abs=0.2)
    assert found.size_bytes == sum((folder / name).stat().st_size for name in ("long.mp4", "short.mp4"))
    assert not lake.exists()

    [done] = analyze(videos[1:], str(lake), config(folder)).results
    planned = analyze(videos, str(lake), config(folder), Options(dry_run=True))
    found = estimate(planned, str(lake))
    assert found.videos == 1
    assert found.work_s is not None
    took = found.work_s * SHORT_S / LONG_S
    assert 0 < took < 120
    assert took > done.seconds["decode_and_perceive"] * 0.5


def test_videos_that_are_begun_together_count_once(folder: Path, tmp_path: Path) -> None:
    """Ten short ones are committed together, so each seems to have taken as long as all."""
    for n in range(20):
        write_clip(tmp_path / ("done" if n < 10 else "planned") / f"{n}.mp4", 1, seed=n)
    lake, began = str(tmp_path / "lake"), time.monotonic()
    analyze([str(tmp_path / "done")], lake, config(folder))
    took_s = time.monotonic() - began
    found = estimate(analyze([str(tmp_path / "planned")], lake, config(folder), Options(dry_run=True)), lake)
    assert found.videos == 10
    assert found.work_s is not None
    assert 0 < found.work_s < 1.2 * took_s
