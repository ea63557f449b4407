"""A batch that is killed again and again, and what it must come to."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

from pipeline.analyze import analyze
from pipeline.config import LakeConfig
from pipeline.lake.compact import compact
from tests.analyze import noting
from tests.analyze.build import config, rows, write_clip
from tests.cli.run import start, write_config

DECODERS = 2


def whole_after_kills(folder: Path, home: Path, videos: int, kills: int, seed: int, longest_s: float) -> int:
    """Kill a batch at random moments, restarted each time; its end is an undisturbed run's."""
    clips = [write_clip(home / "in" / f"{n:02}.mp4", 3 + n % 4, seed=n) for n in range(videos)]
    settings = config(
        folder,
        run__segment_s=1,
        run__decoders=DECODERS,
        lake__commit_interval_s=0.5,
        lake__max_attempts=kills + 1,
    )
    assert analyze([str(home / "in")], str(home / "whole"), settings).exit_code() == 0
    command = ["analyze", home / "in", "--lake", home / "lake", "--config"]
    command.append(write_config(home / "site.toml", settings))
    rng, killed = random.Random(seed), 0
    for number in range(kills):
        process = start(*command, cwd=home, module=("tests.analyze.noting", home / f"run-{number:02}"))
        try:
            process.communicate(timeout=rng.uniform(1.5, longest_s))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
    process = start(*command, cwd=home, module=("tests.analyze.noting", home / "run-last"))
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
