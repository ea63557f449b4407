"""`marey bench` measures what it says, on a clip that is analysed for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli.speed import table
from pipeline.config import load
from pipeline.speed import STAGES, Measured, Speed, _in_process
from tests.cli.conftest import Site
from tests.cli.run import is_one_line, marey, within


def test_all_stages_are_measured_and_nothing_is_left(site: Site, tmp_path: Path) -> None:
    asked = ["bench", site.video, "--config", site.toml, "--rounds", "1", "--json"]
    done = marey(*asked, cwd=tmp_path, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["stages"]) == list(STAGES)
    for stage in found["stages"].values():
        assert stage["frames"] == 60  # 6 s
        assert stage["video_s"] == pytest.approx(6.0, abs=0.11)  # the last frame may count
        assert stage["frames_per_s"] == pytest.approx(60 / stage["wall_s"])
        assert stage["times_real_time"] == pytest.approx(stage["video_s"] / stage["wall_s"])
        assert stage["cpu_s"] > 0
    whole = found["stages"]["whole"]
    assert 0 < whole["start_s"] < whole["wall_s"]
    assert whole["peak_bytes"] > found["stages"]["decode"]["peak_bytes"] > 0
    assert found["bound_s"] >= max(found["stages"][name]["cpu_s"] for name in ("decode", "cnn"))
    assert found["near"] == pytest.approx(whole["wall_s"] / found["bound_s"])
    assert "torch" in found["runtime"]
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["whole", *STAGES[:-1]]
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_measured_is_refused(site: Site, tmp_path: Path) -> None:
    done = within("bench", "absent.mp4", cwd=tmp_path)
    assert done.returncode == 2
    assert is_one_line(done)
    assert "absent.mp4 is not a file" in done.stderr
    (tmp_path / "text.mp4").write_text("no video")
    done = within("bench", "text.mp4", "--config", site.toml, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "text.mp4" in done.stderr
    assert "Traceback" not in done.stderr


def test_modules_of_the_working_directory_are_not_ours(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a checkout of somebody's own networks, where `models` is a common name."""
    for name in ("models", "pipeline", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    _, found = _in_process("decode", [site.video], load(site.toml), "lake")
    assert found.frames == 60


def one(frames: int, wall_s: float, cpu: float, start_s: float = 0.0) -> Measured:
    return Measured(frames, frames / 10, wall_s, cpu, start_s, 50_000_000)


def test_the_limit_is_what_takes_most() -> None:
    stages = {
        "decode": one(1000, 5, 5.0),
        "cnn": one(100, 0.5, 0.8),  # of all frames 8 s
        "track": one(1000, 1, 1.0),
        "write": one(1000, 1, 1.0),
        "whole": one(1000, 10.0, 16.0, 2.0),
    }
    speed = Speed.of([stages], "a runtime")
    assert speed.bound_s == pytest.approx(8 if speed.cores > 1 else 13)
    assert speed.limit == ("the CNN" if speed.cores > 1 else "the cores")
    assert speed.near == pytest.approx(10 / speed.bound_s)
    assert speed.near_started == pytest.approx(8 / speed.bound_s)
    text = table(speed)
    assert "| cnn | 200.0 | 20.0 | 8.00 | 50 |" in text  # CPU seconds of all frames, too
    assert "| whole | 100.0 | 10.0 | 16.00 | 50 |" in text
    assert f"The limit is {speed.limit}" in text
