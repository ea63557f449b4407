"""Several processes at once, and processes that are killed between two writes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.lake.commit import Decision, commit, start_attempts
from pipeline.lake.lookup import current_analyses, histories
from pipeline.lake.query import query
from pipeline.lake.staging import Staging, stage
from pipeline.lake.tables import Lake
from tests.lake.build import analyse, ending, finished, running, stage_rows

WORKERS = 4
TIMES = 2
AtOnce = Callable[[Callable[[str, int], Any], str], list[Any]]
WRITES_OF_AN_ANALYSIS = 8  # running row; videos; five big tables; the commit


def _revise(path: str, worker: int) -> list[int]:
    """Commit several analyses of one video, each on what is current then; plan again when overtaken."""
    lake = Lake.open(path, create=False)
    revisions = []
    for number in range(TIMES):
        [attempt] = start_attempts(lake, [running("v1")])
        while True:
            current = current_analyses(lake, ["v1"]).get("v1")
            done = ending(finished(attempt, f"{worker}-{number}"), current.revision if current else 0, {})
            [outcome] = commit(lake, [done])
            if outcome.decision is Decision.COMMITTED:
                revisions.append(outcome.revision)
                break
    return revisions


def _same(path: str, _worker: int) -> str:
    lake = Lake.open(path, create=False)
    [attempt] = start_attempts(lake, [running("v1")])
    return commit(lake, [ending(finished(attempt))])[0].decision.value


def _different(path: str, worker: int) -> list[str]:
    lake = Lake.open(path, create=False)
    attempts = start_attempts(lake, [running(f"v{worker}-{n}") for n in range(2)])
    return [commit(lake, [ending(finished(row))])[0].decision.value for row in attempts]


def _stage(path: str, worker: int) -> list[list[float]]:
    rows = stage_rows(seed=worker)
    kept = Staging(Lake.open(path, create=False), "ab").put(0, 19, stage(rows["frames"], rows["detections"]))
    return list(kept.rows["embedding"].to_pylist())


_ready: Any = None


def _begin(barrier: Any) -> None:
    global _ready
    _ready = barrier


def _together(function: Callable[[str, int], Any], path: str, worker: int, settings: dict[str, str]) -> Any:
    os.environ.update(settings)  # the processes are older than the test
    _ready.wait(timeout=120)
    return function(path, worker)


@pytest.fixture(scope="module")
def at_once() -> Iterator[Callable[..., list[Any]]]:
    """Runs a function in each of several processes at the same time; deltalake does not survive a fork."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(WORKERS, _begin, (context.Barrier(WORKERS),)) as pool:
        yield lambda function, path: pool.starmap(
            _together, [(function, path, worker, dict(os.environ)) for worker in range(WORKERS)], chunksize=1
        )


def test_every_revision_of_a_video_is_written_once(home: str, at_once: AtOnce) -> None:
    lake = Lake.open(home)
    revisions = [revision for found in at_once(_revise, home) for revision in found]
    history = histories(lake, ["v1"])["v1"]
    assert [row.revision for row in history.rows] == list(range(1, WORKERS * TIMES * 2 + 1))
    assert sorted(revisions) == [row.revision for row in history.rows if row.succeeded]
    assert len({row.analysis_id for row in history.rows if row.succeeded}) == WORKERS * TIMES


def test_workers_on_one_video_leave_one_analysis(home: str, at_once: AtOnce) -> None:
    Lake.open(home)
    assert Counter(at_once(_same, home)) == {"committed": 1, "duplicate": WORKERS - 1}
    for name, rows in (("frames", 20), ("detections", 40), ("tracks", 40), ("objects", 2), ("events", 2)):
        assert query(home, f"SELECT count(*) AS n FROM {name}").to_pylist() == [{"n": rows}]


def test_workers_on_different_videos_all_get_through(home: str, at_once: AtOnce) -> None:
    Lake.open(home)
    assert at_once(_different, home) == [["committed"] * 2] * WORKERS
    found = query(home, "SELECT video_id, count(*) AS n FROM tracks GROUP BY video_id").to_pylist()
    assert {row["video_id"]: row["n"] for row in found} == {
        f"v{w}-{n}": 40 for w in range(WORKERS) for n in range(2)
    }


def test_of_workers_that_stage_one_segment_the_first_wins(home: str, at_once: AtOnce) -> None:
    lake = Lake.open(home)
    kept = at_once(_stage, home)
    assert kept == [kept[0]] * WORKERS, "everybody goes on with the same rows"
    assert kept[0] in [
        stage_rows(seed=worker)["frames"]["embedding"].to_pylist() for worker in range(WORKERS)
    ]
    assert lake.location.names("_staging/ab") == ["0-19.parquet"]


KILLED = """
import os, signal, sys
from pipeline.lake.tables import Lake
from tests.lake.build import analyse, stage_rows

path, when, deadly = sys.argv[1], sys.argv[2], int(sys.argv[3])
write, count = Lake._write, 0

def counted(self, *args):
    global count
    count += 1
    if count == deadly and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, *args)
    if count == deadly and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)

Lake._write = counted
analyse(Lake.open(path), "v1", "a2", basis=2, rows=stage_rows(objects=3))
"""


@pytest.mark.parametrize(
    ("when", "deadly"),
    [("before", 1), ("before", 2), ("before", 3), ("before", 6), ("before", 8), ("after", 8)],
)
def test_a_kill_leaves_the_old_state_or_the_new(home: str, when: str, deadly: int) -> None:
    lake = Lake.open(home)
    analyse(lake, "v1", "a1", uri="/archive/first.mp4")
    command = [sys.executable, "-c", KILLED, home, when, str(deadly)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL

    def seen() -> tuple[int, ...]:
        counted = [
            query(home, f"SELECT count(*) AS n FROM {name}") for name in ("detections", "tracks", "events")
        ]
        return tuple(table["n"][0].as_py() for table in counted)

    old, new = (40, 40, 2), (60, 60, 3)
    complete = (when, deadly) == ("after", WRITES_OF_AN_ANALYSIS)
    assert seen() == (new if complete else old)
    died = deadly > 1 and not complete
    assert len(histories(lake, ["v1"])["v1"].unended) == int(died)
    current = current_analyses(lake, ["v1"])["v1"]
    if current.analysis_id != "a2":
        analyse(lake, "v1", "a2", basis=current.revision, rows=stage_rows(objects=3))
    assert seen() == new
    assert histories(lake, ["v1"])["v1"].unended == ()
