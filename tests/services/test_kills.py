"""kill -9 at every moment between two writes of the lake, and within decoding, CNN, tracking and events.

Each kill meets a lake of its own; the same command after it leaves the rows of an undisturbed run, each once.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.analyze.build import config, counts, prepared, rows
from tests.cli.run import environment, marey, write_config

KILLS = 24
PATIENCE_S = 120


def dying(moment: str, number: int, when: str, *command: object, cwd: Path) -> tuple[int, str]:
    """Exit status and standard error of the command, killed at a moment."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.analyze.dying", moment, str(number), when, *map(str, command)],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, err


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the clip, site.toml, and a lake that nothing disturbed."""
    folder = tmp_path_factory.mktemp("kills")
    made = prepared(folder / "prepared")
    settings = config(made, run__segment_s=2, lake__commit_interval_s=0, lake__max_attempts=3)
    write_config(folder / "site.toml", settings)
    return folder


def command(place: Path, lake: Path) -> list[object]:
    return ["analyze", place / "prepared" / "short.mp4", "--lake", lake, "--config", place / "site.toml"]


def moments(calls: dict[str, int]) -> list[tuple[str, int, str]]:
    """Every write, before and after; of the rest some, by a seed."""
    writes = [("write", n, when) for n in range(1, calls["write"] + 1) for when in ("before", "after")]
    others = [
        (name, n, when)
        for name, count in calls.items()
        if name != "write"
        for n in range(1, count + 1)
        for when in ("before", "after")
    ]
    rng = random.Random(17)
    by_name = {name: [m for m in others if m[0] == name] for name in sorted({m[0] for m in others})}
    chosen = [rng.choice(found) for found in by_name.values()]
    rest = [moment for moment in others if moment not in chosen]
    return [*writes, *chosen, *rng.sample(rest, max(0, KILLS - len(writes) - len(chosen)))]


def test_killed_everywhere(place: Path, tmp_path: Path) -> None:
    code, err = dying("none", 0, "before", *command(place, tmp_path / "whole"), cwd=place)
    assert code == 0
    calls = json.loads(err.splitlines()[-1])
    assert set(calls) == {"item", "cnn", "stage", "clear", "track", "events", "write"}
    wanted, total = rows(tmp_path / "whole"), counts(tmp_path / "whole")
    planned = moments(calls)
    assert len(planned) >= 20
    for moment in planned:
        lake = tmp_path / "-".join(map(str, moment))
        code, err = dying(*moment, *command(place, lake), cwd=place)
        assert code == -signal.SIGKILL, (moment, err)
        assert not [p for p in psutil.process_iter(["cmdline"]) if str(lake) in (p.info["cmdline"] or [])]
        done = marey(*command(place, lake), cwd=place)
        assert done.returncode == 0, (moment, done.stderr)
        assert rows(lake) == wanted, moment
        assert counts(lake)["videos_all"] == total["videos_all"]
