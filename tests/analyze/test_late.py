"""Workers that come late: one that slept until it was given up, and one whose perception was replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.analyze import Options, analyze, reinterpret, run
from pipeline.config import LakeConfig
from pipeline.lake.compact import compact
from tests.analyze.build import ask, config, rows
from tests.cli.run import environment, write_config
from tests.helpers import ROOT

SLEEPER = """
import os, signal, sys
from pathlib import Path
from pipeline.analyze import analyze
from pipeline.config import load
from pipeline.lake.tables import Lake
append = Lake.append

def tired(self, name, rows):
    append(self, name, rows)
    if name == "objects" and not Path(sys.argv[4]).exists():
        Path(sys.argv[4]).touch()
        os.kill(os.getpid(), signal.SIGSTOP)

Lake.append = tired
sys.exit(analyze([sys.argv[1]], sys.argv[2], load(Path(sys.argv[3]))).exit_code())
"""


def test_a_worker_suspended_until_it_is_given_up(
    folder: Path, lake: Path, whole: Path, tmp_path: Path
) -> None:
    """It stops between rows and commit; the rows are dropped, it wakes up, and its analysis is whole."""
    site = write_config(tmp_path / "site.toml", config(folder))
    arguments = [folder / "long.mp4", lake, site, tmp_path / "slept"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, *map(str, arguments)], cwd=ROOT, env=environment()
    )
    try:
        end = time.monotonic() + 120
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.05)
        assert ask(lake, "SELECT count(*) AS n FROM tracks_all")[0]["n"] > 0
        dropped = compact(str(lake), LakeConfig(grace_h=0, history_days=0))
        assert all(result.rows_dropped == result.rows for result in dropped)
        assert ask(lake, "SELECT count(*) AS n FROM tracks_all") == [{"n": 0}]
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
    assert rows(lake) == rows(whole)
    ended = [row["status"] for row in ask(lake, "SELECT status FROM analyses ORDER BY revision")]
    assert ended == ["running", "abandoned", "running", "ok"]


def test_a_reinterpretation_does_not_bring_an_old_perception_back(
    folder: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, first = str(folder / "short.mp4"), config(folder)
    second = config(folder, perceive__min_score=0.9)
    other = config(folder, rules=[])
    assert analyze([video], str(lake), first).exit_code() == 0
    [old] = ask(lake, "SELECT perception_id FROM analyses_current")
    original, met = run.find_events, []

    def late(*arguments: Any) -> None:
        """Once the reinterpretation has read what it needs, a new perception is committed."""
        original(*arguments)
        if not met:
            met.append(1)
            assert analyze([video], str(lake), second, Options(upgrade=True)).exit_code() == 0

    monkeypatch.setattr(run, "find_events", late)
    summary = reinterpret(str(lake), other)
    [new] = ask(lake, "SELECT perception_id, perception_run_id, config_id FROM analyses_current")
    assert new["perception_id"] != old["perception_id"]
    [shown] = ask(lake, "SELECT DISTINCT run_id FROM detections")
    assert shown["run_id"] == new["perception_run_id"]
    assert [result.state for result in summary.results] == ["other_config"]
    assert met
