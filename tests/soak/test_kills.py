"""Many kills at random moments: nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

from pipeline.analyze import analyze
from tests.analyze.build import config, prepared, rows
from tests.cli.run import start, write_config

KILLS = 20


def test_killed_twenty_times_at_random_moments(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "prepared")
    video = folder / "long.mp4"
    settings = config(folder, run__segment_s=4, lake__commit_interval_s=0, lake__max_attempts=KILLS + 1)
    assert analyze([str(video)], str(tmp_path / "whole"), settings).exit_code() == 0
    site = write_config(tmp_path / "site.toml", settings)
    rng = random.Random(11)
    killed = 0
    for _ in range(KILLS):
        process = start("analyze", video, "--lake", tmp_path / "lake", "--config", site, cwd=tmp_path)
        try:
            process.communicate(timeout=rng.uniform(0.8, 4.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
    assert killed >= 5
    assert analyze([str(video)], str(tmp_path / "lake"), settings).exit_code() == 0
    assert rows(tmp_path / "lake") == rows(tmp_path / "whole")
