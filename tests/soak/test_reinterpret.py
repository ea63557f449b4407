"""A new zone over a lake of a hundred videos: far cheaper than to perceive them, and the same events."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from pipeline.analyze import analyze, reinterpret
from pipeline.config import Config, PerceiveConfig, load
from pipeline.event_data import perceived_by
from tests.analyze.build import ask
from tests.helpers import shared_path

NUM_VIDEOS = 100
MAX_SHARE = 0.02
LINE = {"name": "door", "kind": "appear", "zone": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]}
ZONE = {"name": "left", "kind": "occupancy", "zone": [[0.0, 0.0], [0.9, 0.0], [0.9, 1.0], [0.0, 1.0]]}
EVENTS = """SELECT camera, event_id, source, label, t_start, t_end, t_peak, score, track_ids, zone, direction,
    details FROM events ORDER BY camera, event_id"""


def settings(*rules: dict[str, object]) -> Config:
    return load(None, {"rules": list(rules)})


def cpu_s() -> float:
    """Of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def test_a_new_zone_over_a_hundred_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All cameras show the same clip, which is perceived once; perceiving is counted a hundred times."""
    clip = shared_path("data", "videos", "surveillance", "person-bicycle-car-detection.mp4")
    names = [tmp_path / f"footage/camera-{n:02}/2026/03/01/120000.mp4" for n in range(NUM_VIDEOS)]
    for name in names:
        name.parent.mkdir(parents=True)
        shutil.copy(clip, name)
    embed = perceived_by(PerceiveConfig())
    embed(shared_path("data", "fights", "val", "fight", "fi013.mp4"))  # loads the CNN
    began = cpu_s()
    num_frames = len(embed(clip)[0])
    perceiving = NUM_VIDEOS * (cpu_s() - began)

    inputs, lake, fresh = [str(tmp_path / "footage")], tmp_path / "lake", tmp_path / "fresh"
    assert analyze(inputs, str(lake), settings(LINE)).exit_code() == 0
    shutil.move(tmp_path / "footage", tmp_path / "away")  # nothing is to open a video
    began, started = cpu_s(), time.monotonic()
    summary = reinterpret(str(lake), settings(LINE, ZONE))
    spent, elapsed = cpu_s() - began, time.monotonic() - started
    assert summary.count("ok") == NUM_VIDEOS
    with capsys.disabled():
        print(
            f"\n{NUM_VIDEOS} videos of {num_frames} frames: perceiving {perceiving:.0f} s of CPU, "
            f"reinterpreting {spent:.1f} s ({spent / perceiving:.2%}; {elapsed:.1f} s by the clock); "
            f"{summary.changes}"
        )
    shutil.move(tmp_path / "away", tmp_path / "footage")
    assert analyze(inputs, str(fresh), settings(LINE, ZONE)).exit_code() == 0
    found = ask(lake, EVENTS)
    assert found == ask(fresh, EVENTS)
    assert {row["label"] for row in found} >= {"door", "left"}
    assert spent <= MAX_SHARE * perceiving
