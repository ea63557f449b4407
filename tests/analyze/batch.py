"""A batch that is killed again and again, and what it must come to."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from pipeline.config import LakeConfig
from pipeline.lake.compact import compact
from tests.analyze import noting
from tests.analyze.build import config, rows, write_clip
from tests.cli.run import start, write_config

DECODERS = 2


def whole_after_kills(folder: Path, home: Path, videos: int, kills: int, seed: int) -> int:
    """Kill a batch at random moments, restarted each time; its end is an undisturbed run's.

    The moments lie between the end of its start and twice what an equal share of the undisturbed run's
    work took, so that on a machine of any speed all the kills together come to about one batch.
    """
    clips = [write_clip(home / "in" / f"{n:02}.mp4", 3 + n % 4, seed=n) for n in range(videos)]
    settings = config(
        folder,
        run__segment_s=1,
        run__decoders=DECODERS,
        lake__commit_interval_s=0.5,
        lake__max_attempts=kills + 1,
    )
    file = write_config(home / "site.toml", settings)

    def begin(lake: str, notes: Path) -> subprocess.Popen[str]:
        command = ("analyze", home / "in", "--lake", home / lake, "--config", file)
        return start(*command, cwd=home, module=("tests.analyze.noting", notes))

    starting_s, working_s = _undisturbed(begin("whole", home / "undisturbed"), home / "undisturbed")
    rng, killed = random.Random(seed), 0
    for number in range(kills):
        process = begin("lake", home / f"run-{number:02}")
        try:
            latest = starting_s + 2 * working_s / kills
            process.communicate(timeout=rng.uniform(0.8 * starting_s, latest))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
    process = begin("lake", home / "run-last")
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert len(clips) == videos
    little_is_repeated(home)
    expected = rows(home / "whole")
    assert rows(home / "lake") == expected
    compact(str(home / "lake"), LakeConfig(grace_h=0, history_days=0))
    assert rows(home / "lake") == expected
    assert rows(home / "lake", "_all") == expected, "after compaction nothing else is left"
    return killed


def _undisturbed(process: subprocess.Popen[str], notes: Path) -> tuple[float, float]:
    """Seconds until a run begins its first segment, and from there to its end."""
    began = time.monotonic()
    while not (notes.exists() and notes.stat().st_size) and process.poll() is None:
        time.sleep(0.02)
    working = time.monotonic()
    _, said = process.communicate()
    assert process.returncode == 0, said
    return working - began, time.monotonic() - working


def little_is_repeated(home: Path) -> None:
    """What a run finished is not begun again; of what it had not, each decoding worker was at one segment.

    Decoded segments whose last frames wait for their batch to fill are not finished either.
    """
    runs = [noting.read(file) for file in sorted(home.glob("run-*"))]
    assert any(run["begun"] for run in runs)
    finished: set[noting.Segment] = set()
    for run in runs:
        assert not run["begun"] & finished
        assert len(run["begun"] - run["decoded"]) <= DECODERS
        finished |= run["finished"]
