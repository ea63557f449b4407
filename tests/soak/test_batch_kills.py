"""The proofs of tests/services at length, and many processes at once, on local disk and on Ceph over HTTP."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.lake.commit import commit, start_attempts
from pipeline.lake.lookup import histories
from pipeline.lake.query import query
from pipeline.lake.staging import Staging, stage
from pipeline.lake.tables import Lake
from tests.analyze.batch import whole_after_kills
from tests.analyze.build import prepared
from tests.analyze.faults import complete_in_spite_of_faults
from tests.lake.build import ending, finished, running, stage_rows
from tests.s3 import Server
from tests.services.ceph import ceph_server
from tests.services.test_lake_kills import no_count_is_ever_wrong

PROCESSES = 24
VIDEOS = 240


@pytest.fixture(scope="module")
def ceph() -> Iterator[Server]:
    with ceph_server() as server:
        yield server


@pytest.fixture
def s3_server(ceph: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    ceph.use(monkeypatch.setenv)
    return ceph


def test_fifty_videos_through_a_failing_network(
    tmp_path: Path, s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(tmp_path / "prepared")
    met = complete_in_spite_of_faults(s3_server, folder, tmp_path / "in", monkeypatch.setenv, 50, seed=1)
    print("\nfaults met:", met)


def test_a_batch_of_twenty_killed_thirty_times(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "prepared")
    killed = whole_after_kills(folder, tmp_path, videos=20, kills=30, seed=30)
    print("\nkills:", killed)
    assert killed >= 15


def test_compaction_is_killed_beside_a_long_batch(tmp_path: Path) -> None:
    no_count_is_ever_wrong(tmp_path, videos=60, seed=8)


def _same(place: str, _number: int) -> str:
    """The same video, from the segment that all of them find staged."""
    lake = Lake.open(place, create=False)
    [attempt] = start_attempts(lake, [running("v1")])
    assert Staging(lake, "ab").get(0, 19) is not None
    return commit(lake, [ending(finished(attempt))])[0].decision.value


def _different(place: str, number: int) -> str:
    lake = Lake.open(place, create=False)
    [attempt] = start_attempts(lake, [running(f"v{number}")])
    return commit(lake, [ending(finished(attempt))])[0].decision.value


def _at_once(function: Callable[[str, int], str], place: str, calls: int) -> tuple[Counter[str], float]:
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(os.getpgid, [0] * PROCESSES)  # all are there
        began = time.monotonic()
        found = pool.starmap(function, [(place, number) for number in range(calls)], chunksize=1)
        return Counter(found), time.monotonic() - began


@pytest.mark.parametrize("where", ["directory", "ceph"])
def test_twenty_four_processes(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = str(tmp_path / "lake")
    if where == "ceph":
        place = f"s3://{request.getfixturevalue('s3_server').bucket()}/lake"
    lake = Lake.open(place)
    rows = stage_rows()
    Staging(lake, "ab").put(0, 19, stage(rows["frames"], rows["detections"]))
    counted, _ = _at_once(_same, place, PROCESSES)
    assert counted["committed"] == 1
    assert sum(counted.values()) == PROCESSES
    history: Any = histories(lake, ["v1"])["v1"]
    assert [row.revision for row in history.rows] == list(range(1, PROCESSES + 2))
    expected = {"frames": 20, "detections": 40, "tracks": 40, "objects": 2, "events": 2}
    for name, number in expected.items():
        assert query(place, f"SELECT count(*) AS n FROM {name}").to_pylist() == [{"n": number}]

    counted, seconds = _at_once(_different, place, VIDEOS)
    # A running row, a name, five appends, the row that decides; v1 is a duplicate.
    print(f"\n{where}: {VIDEOS} videos in {seconds:.0f} s, {VIDEOS * 8 / seconds:.1f} commits/s")
    assert counted == {"committed": VIDEOS - 1, "duplicate": 1}
    for name, number in expected.items():
        found = query(place, f"SELECT video_id, count(*) AS n FROM {name} GROUP BY video_id").to_pylist()
        assert {row["video_id"]: row["n"] for row in found} == {f"v{n}": number for n in range(VIDEOS)}
