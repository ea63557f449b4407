"""One video perceived by several workers gives the rows of one; a killed one costs its segment in flight."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.analyze import Options, analyze, plan
from pipeline.analyze.ranges import Range, Shared, perceive_range, share
from pipeline.errors import StorageError
from tests.analyze.build import LONG_S, ask, config, counts, rows
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


def begun(video: str, lake: Path, settings: Any, options: Options | None = None) -> Shared:
    shared = share(video, str(lake), settings, 5, options)
    assert shared is not None
    return shared


def attempts(lake: Path) -> list[tuple[str, str]]:
    """Their ids, and what became of them, in order."""
    found = ask(lake, "SELECT attempt_id, status FROM analyses ORDER BY revision")
    return [(row["attempt_id"], row["status"]) for row in found]


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
    lake = str(tmp_path / "lake")
    assert share(str(folder / "short.mp4"), lake, settings, 4) is None
    assert counts(tmp_path / "lake")["analyses"] == 0
    shared = share(str(folder / "long.mp4"), lake, settings, 4)
    assert shared is not None
    found = shared.ranges
    assert found[0].first == 0
    assert [part.end for part in found[:-1]] == [part.first for part in found[1:]]
    assert all(part.first % ticks == 0 for part in found)
    assert LONG_S * 10 <= found[-1].end <= LONG_S * 10 + 1
    assert attempts(tmp_path / "lake") == [(shared.attempt.attempt_id, "running")]


def test_two_workers_at_once_give_the_rows_of_one(folder: Path, tmp_path: Path, whole: Path) -> None:
    lake, video = tmp_path / "lake", folder / "long.mp4"
    settings = config(folder, run__segment_s=3)
    halves = begun(str(video), lake, settings).ranges[:2]
    for process in [worker(video, lake, settings, part) for part in halves]:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    before = staged(lake)
    assert len(before) == 10
    [result] = analyze([str(video)], str(lake), settings).results
    assert result.state == "ok"
    assert rows(lake) == rows(whole)
    assert share(str(video), str(lake), settings, 5) is None  # nothing is left to be decoded


def test_a_range_reads_no_segments_of_others(folder: Path, tmp_path: Path, read: list[int]) -> None:
    """But the last, which may tell where the file ends: a video of a day has hundreds of ranges."""
    lake, video = tmp_path / "lake", str(folder / "long.mp4")
    settings = config(folder, run__segment_s=1)
    parts = begun(video, lake, settings).ranges
    done = [perceive_range(video, str(lake), settings, part) for part in reversed(parts[:3])]
    assert done == [5, 5, 5]
    assert set(read) == {140}
    read.clear()
    again = [perceive_range(video, str(lake), settings, part) for part in parts[:2]]
    assert again == [0, 0]
    assert set(read) == {*range(0, 100, 10), 140}
    assert len(read) == 12
    assert len(begun(video, lake, settings).ranges) == len(parts)
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
    assert share(video, str(lake), settings, 5) is None  # nobody asked for it
    parts = begun(video, lake, settings, upgrade).ranges
    assert [perceive_range(video, str(lake), settings, part) for part in parts[:2]] == [5, 5]
    assert len(staged(lake)) == 10
    assert [result.state for result in analyze([video], str(lake), settings, upgrade).results] == ["ok"]
    analyze([video], str(tmp_path / "fresh"), settings)
    assert rows(lake) == rows(tmp_path / "fresh")
    assert [perceive_range(video, str(lake), settings, part) for part in parts] == [0] * len(parts)


def test_the_analysis_goes_on_with_the_attempt_that_its_ranges_began(folder: Path, tmp_path: Path) -> None:
    lake, video = tmp_path / "lake", str(folder / "long.mp4")
    settings = config(folder, run__segment_s=3, lake__max_attempts=1)
    first = begun(video, lake, settings).attempt.attempt_id
    [result] = analyze([video], str(lake), settings, Options(attempt_id=first)).results
    assert result.state == "ok"
    assert attempts(lake) == [(first, "running"), (first, "ok")]
    again = Options(attempt_id=first, force=True)  # as a task that is tried again: that one has ended
    settings = config(folder, run__segment_s=3, perceive__min_score=0.5)
    assert [found.state for found in analyze([video], str(lake), settings, again).results] == ["ok"]
    assert [status for _, status in attempts(lake)] == ["running", "ok"] * 2
    assert attempts(lake)[2][0] == attempts(lake)[3][0] != first


def test_an_attempt_that_no_analysis_went_on_with_is_given_up(folder: Path, tmp_path: Path) -> None:
    """As of a run that is cancelled between the two. One that has ended keeps its end."""
    lake, video = tmp_path / "lake", str(folder / "long.mp4")
    settings = config(folder, run__segment_s=3)
    left = begun(video, lake, settings)
    left.give_up()
    left.give_up()
    taken = begun(video, lake, settings)
    analyze([video], str(lake), settings, Options(attempt_id=taken.attempt.attempt_id))
    taken.give_up()
    assert attempts(lake) == [
        (left.attempt.attempt_id, "running"),
        (left.attempt.attempt_id, "abandoned"),
        (taken.attempt.attempt_id, "running"),
        (taken.attempt.attempt_id, "ok"),
    ]


def test_a_video_that_kills_its_worker_in_a_range_is_left_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that was interrupted does not count, nor the one that goes on."""
    lake, video = tmp_path / "lake", str(folder / "long.mp4")
    settings = config(folder, run__segment_s=3, lake__max_attempts=2)
    monkeypatch.setattr(plan, "_LIVELY", timedelta(0))  # they count at once
    with pytest.raises(StorageError, match="away"), begun(video, lake, settings).breaking_off():
        raise StorageError("the lake is away")
    assert [status for _, status in attempts(lake)] == ["running", "abandoned"]
    killed = [begun(video, lake, settings) for _ in range(2)]
    going_on = Options(attempt_id=killed[1].attempt.attempt_id, dry_run=True)
    assert [found.note for found in analyze([video], str(lake), settings, going_on).results] == ["perception"]
    assert share(video, str(lake), settings, 5) is None
    [result] = analyze([video], str(lake), settings).results
    assert (result.state, result.error_code) == ("failed", "quarantined")
    assert str(result.error).startswith(f"{video}: 2 attempts at it were killed")
