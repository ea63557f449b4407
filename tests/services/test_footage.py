"""The command on real footage, with the shipped weights: what its README says is to be seen is found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import shared_path

CLIPS = (
    "one-by-one-person-detection.mp4",
    "person-bicycle-car-detection.mp4",
    "car-detection.mp4",
    "bottle-detection.mp4",
)


def marey(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def ask(lake: Path, sql: str) -> list[dict[str, Any]]:
    answer = marey("query", sql, "--lake", str(lake), "--json")
    assert answer.returncode == 0, answer.stderr
    rows: list[dict[str, Any]] = json.loads(answer.stdout)
    return rows


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of one run over the four clips."""
    folder = tmp_path_factory.mktemp("footage") / "lake"
    clips = [str(shared_path("data", "videos", "surveillance", name)) for name in CLIPS]
    done = marey("analyze", *clips, "--lake", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_four_clips_give_four_ok_rows(lake: Path) -> None:
    rows = ask(lake, "SELECT uri, status FROM analyses WHERE status <> 'running'")
    assert sorted(Path(row["uri"]).name for row in rows) == sorted(CLIPS)
    assert {row["status"] for row in rows} == {"ok"}


def test_six_people_walk_through_the_room_one_by_one(lake: Path) -> None:
    sql = f"""
        SELECT t_start, t_end FROM objects JOIN videos USING (video_id)
        WHERE uri LIKE '%{CLIPS[0]}' AND class = 'person' AND t_end - t_start >= 3
    """
    assert len(ask(lake, sql)) == 6


def test_every_sampled_frame_has_one_row_and_its_time(lake: Path) -> None:
    sql = "SELECT uri, count(*) AS n, max(t) AS last FROM frames JOIN videos USING (video_id) GROUP BY uri"
    found = {Path(row["uri"]).name: row for row in ask(lake, sql)}
    assert found[CLIPS[0]]["n"] == 1394  # 10 frames/s, each once
    assert abs(found[CLIPS[0]]["last"] - 139.3) <= 0.002
    assert found[CLIPS[3]]["n"] == 399  # 29.83 frames/s for 39.85 s on a grid of 10
