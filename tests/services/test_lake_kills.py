"""Batches and compactions killed at seeded moments, beside writers and readers."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from pipeline.config import LakeConfig
from pipeline.lake.compact import compact
from pipeline.lake.query import query
from pipeline.lake.tables import Lake
from tests.analyze.batch import whole_after_kills
from tests.analyze.build import prepared
from tests.cli.run import environment
from tests.helpers import ROOT

FULL = {"frames": 20, "detections": 40, "tracks": 40, "objects": 2}

WRITER = """
import sys
from pipeline.lake.tables import Lake
from tests.lake.build import analyse
lake = Lake.open(sys.argv[1], create=False)
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    analyse(lake, f"v{number}")
"""

REVISER = """
import sys, time
from dataclasses import replace
from pipeline.lake.commit import commit, start_attempts
from pipeline.lake.lookup import current_analyses
from pipeline.lake.tables import Lake
from tests.lake.build import ending, finished, running, stage_rows
lake = Lake.open(sys.argv[1], create=False)
for number in range(int(sys.argv[2])):
    while not (old := current_analyses(lake, [f"v{number}"]).get(f"v{number}")):
        time.sleep(0.1)
    [attempt] = start_attempts(lake, [running(f"v{number}")])
    runs = {"perception_run_id": old.perception_run_id, "tracking_run_id": old.tracking_run_id}
    events = {"events": stage_rows(objects=5, seed=number)["events"]}
    commit(lake, [ending(replace(finished(attempt, "a2"), **runs), old.revision, events)])
"""

COMPACTION = """
import sys
from pipeline.config import LakeConfig
from pipeline.lake.compact import compact
while True:
    compact(sys.argv[1], LakeConfig(grace_h=0.02, history_days=0.001))
"""


def test_a_batch_killed_three_times(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "prepared")
    assert whole_after_kills(folder, tmp_path, videos=4, kills=3, seed=3) >= 1


def test_compaction_is_killed_while_others_write_and_read(tmp_path: Path) -> None:
    no_count_is_ever_wrong(tmp_path, videos=12, seed=5)


def no_count_is_ever_wrong(home: Path, videos: int, seed: int) -> None:
    """A writer, a reinterpretation, killed compactions; each video is seen whole or not at all."""
    lake, rng = Lake.open(home / "lake"), random.Random(seed)

    def begin(code: str, *arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", code, str(lake.location), *map(str, arguments)]
        return subprocess.Popen(command, cwd=ROOT, env=environment())

    def look() -> None:
        for name, number in FULL.items():
            counted = query(home / "lake", f"SELECT video_id, count(*) AS n FROM {name} GROUP BY video_id")
            assert set(counted["n"].to_pylist()) <= {number}, name
        events = query(home / "lake", "SELECT video_id, count(*) AS n FROM events GROUP BY video_id")
        assert set(events["n"].to_pylist()) <= {2, 5}

    workers = [begin(WRITER, 0, videos), begin(REVISER, videos)]
    kills = 0
    try:
        while any(worker.poll() is None for worker in workers) or kills < 3:
            compaction = begin(COMPACTION)
            end = time.monotonic() + rng.uniform(1.5, 5)
            while time.monotonic() < end:
                look()
            os.kill(compaction.pid, signal.SIGKILL)
            compaction.wait()
            kills += 1
        assert [worker.returncode for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    compact(str(home / "lake"), LakeConfig(grace_h=0, history_days=0))
    look()
    for name, number in {**FULL, "events": 5}.items():
        rows = query(home / "lake", f"SELECT video_id FROM {name}_all")["video_id"].to_pylist()
        assert Counter(rows) == {f"v{n}": number for n in range(videos)}, name
