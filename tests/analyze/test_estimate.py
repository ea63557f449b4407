"""What a dry run expects."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.analyze import Options, analyze
from pipeline.analyze.estimate import estimate
from tests.analyze.build import LONG_S, SHORT_S, config


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
