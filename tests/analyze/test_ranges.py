"""One video perceived by several workers gives the rows of one; a killed one costs its segment in flight."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.analyze import Options, analyze
from pipeline.analyze.ranges import Range, perceive_range, ranges
from pipeline.lake.staging import Segment, Staging
from tests.analyze.build import LONG_S, config, counts, rows
from tests.analyze.test_kills import staged, wait_for
from tests.cli.run import environment
from tests.helpers import ROOT

WORKER = """
import json, sys
from pipeline.analyze.ranges import Range, perceive_range
from pipeline.config import Config
video, lake, settings, first, end = sys.argv[1:]
perceive_range(video, lake, Config.model_validate_json(settings), Range(int(first), int(end)))
"""


def worker(video: Path, lake: Path, settings: Any, part: Range) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(video), str(lake), settings.model_dump_json()]
    return subprocess.Popen(
        [*command, str(part.first), str(part.end)],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ranges_cover_the_video_and_short_ones_have_none(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, run__segment_s=3)
    ticks = 3 * 10
    found = ranges(str(folder / "long.mp4"), str(tmp_path / "lake"), settings, 4)
    assert found[0].first == 0
    assert [part.end for part in found[:-1]] == [part.first for part in found[1:]]
    assert all(part.first % ticks == 0 for part in found)
    assert LONG_S * 10 <= found[-1].end <= LONG_S * 10 + 1
    assert ranges(str(folder / "short.mp4"), str(tmp_path / "lake"), settings, 4) == []
    assert counts(tmp_path / "lake")["analyses"] == 0


def test_two_workers_at_once_give_the_rows_of_one(folder: Path, tmp_path: Path, whole: Path) -> None:
    lake, video = tmp_path / "lake", folder / "long.mp4"
    settings = config(folder, run__segment_s=3)
    halves = ranges(str(video), str(lake), settings, 5)[:2]
    for process in [worker(video, lake, settings, part) for part in halves]:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    before = staged(lake)
    assert len(before) == 10
    [result] = analyze([str(video)], str(lake), settings).results
    assert result.state == "ok"
    assert rows(lake) == rows(whole)
    assert ranges(str(video), str(lake), settings, 5) == []  # nothing is left to be decoded


def test_a_range_reads_no_segments_of_others(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But the last, which may tell where the file ends: a video of a day has hundreds of ranges."""
    lake, video = tmp_path / "lake", str(folder / "long.mp4")
    settings = config(folder, run__segment_s=1)
    read: list[int] = []

    def get(self: Staging, first: int, last: int) -> Segment | None:
        read.append(first)
        return really(self, first, last)

    really = Staging.get
    monkeypatch.setattr(Staging, "get", get)
    parts = ranges(video, str(lake), settings, 5)
    done = [perceive_range(video, str(lake), settings, part) for part in reversed(parts[:3])]
    assert done == [5, 5, 5]
    assert set(read) == {140}
    read.clear()
    again = [perceive_range(video, str(lake), settings, part) for part in parts[:2]]
    assert again == [0, 0]
    assert set(read) == {*range(0, 100, 10), 140}
    assert len(read) == 12
    assert len(ranges(video, str(lake), settings, 5)) == len(parts)
    assert len(read) == 12


def test_killed_worker_costs_its_segment_in_flight(folder: Path, tmp_path: Path, whole: Path) -> None:
    lake, video = tmp_path / "lake", folder / "long.mp4"
    settings = config(folder, run__segment_s=3)
    part = Range(150, 300)
    process = worker(video, lake, settings, part)
    assert wait_for(lambda: len(staged(lake)) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = staged(lake)
    assert 2 <= len(before) < 5
    assert perceive_range(str(video), str(lake), settings, part) == 5 - len(before)
    after = staged(lake)
    assert {name: after[name] for name in before} == before
    assert set(after) == {f"{n}-{n + 29}.parquet" for n in range(150, 300, 30)}
    [result] = analyze([str(video)], str(lake), settings).results
    assert result.state == "ok"
    assert rows(lake) == rows(whole)


def test_an_upgrade_is_shared_too(folder: Path, tmp_path: Path) -> None:
    lake, video = tmp_path / "lake", str(folder / "long.mp4")
    analyze([video], str(lake), config(folder))
    settings, upgrade = config(folder, run__segment_s=3, perceive__min_score=0.5), Options(upgrade=True)
    assert ranges(video, str(lake), settings, 5) == []  # nobody asked for it
    parts = ranges(video, str(lake), settings, 5, upgrade)
    assert [perceive_range(video, str(lake), settings, part) for part in parts[:2]] == [5, 5]
    assert len(staged(lake)) == 10
    assert [result.state for result in analyze([video], str(lake), settings, upgrade).results] == ["ok"]
    analyze([video], str(tmp_path / "fresh"), settings)
    assert rows(lake) == rows(tmp_path / "fresh")
    assert [perceive_range(video, str(lake), settings, part) for part in parts] == [0] * len(parts)
