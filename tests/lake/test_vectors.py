"""Vectors go before their rows do: from which runs, and what it leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.config import LakeConfig
from pipeline.ids import new_run_id
from pipeline.lake.compact import PartitionResult, compact
from pipeline.lake.query import query
from pipeline.lake.schema import TABLES
from pipeline.lake.tables import Lake
from pipeline.lake.vectors import runs_before, runs_without
from tests.lake.build import VECTOR, analyse, stage_rows
from tests.lake.test_compact import old_run

USUAL = LakeConfig()
WEEK = LakeConfig(keep_vectors_days=7)
SOME = "SELECT video_id, count(*) AS n, count({}) AS vectors FROM {} GROUP BY video_id ORDER BY video_id"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A video perceived ten days ago and one of today, on one date."""
    lake = Lake.open(tmp_path / "lake")
    old = old_run(240)
    analyse(lake, "old", run_id=old, attempt_id=old)
    analyse(lake, "young", rows=stage_rows(samples=5))
    return lake


def kept(lake: Lake) -> dict[str, list[tuple[str, int, int]]]:
    """Video, rows, vectors."""
    found = {}
    for name, column in (("frames", "embedding"), ("detections", "appearance")):
        rows = query(str(lake.location), SOME.format(column, name)).to_pylist()
        found[name] = [tuple(row.values()) for row in rows]
    return found


def dropped(results: list[PartitionResult]) -> dict[str, int]:
    return {found.table: found.vector_bytes_dropped for found in results if found.vector_bytes_dropped}


def test_old_vectors_go_and_nothing_else(lake: Lake) -> None:
    place = str(lake.location)
    both = {
        "frames": [("old", 20, 20), ("young", 5, 5)],
        "detections": [("old", 40, 40), ("young", 10, 10)],
    }
    columns = {
        name: ", ".join(f'"{c}"' for c in TABLES[name].names if c not in ("embedding", "appearance"))
        for name in ("frames", "detections", "tracks")
    }
    rest = {
        name: f"SELECT {listed} FROM {name} ORDER BY video_id, sample, x1" for name, listed in columns.items()
    }
    rest["frames"] = rest["frames"].removesuffix(", x1")
    before = {name: query(place, sql) for name, sql in rest.items()}
    assert dropped(compact(place, USUAL)) == {}
    assert kept(lake) == both
    versions = [lake.table(name).version() for name in TABLES]
    told = compact(place, WEEK, dry_run=True)
    assert [lake.table(name).version() for name in TABLES] == versions
    assert (kept(lake), runs_without(lake)) == (both, "")
    done = compact(place, WEEK)
    assert done == told
    assert dropped(done) == {"frames": 20 * VECTOR * 2, "detections": 40 * VECTOR * 2}
    assert {r.table for r in done if r.state == "rewritten"} == {"frames", "detections"}
    assert kept(lake) == {
        "frames": [("old", 20, 0), ("young", 5, 5)],
        "detections": [("old", 40, 0), ("young", 10, 10)],
    }
    for name, sql in rest.items():
        assert query(place, sql).equals(before[name]), name
    again = compact(place, WEEK)
    assert {found.state for found in again} == {"kept"}, "what has gone is not looked for again"


def test_a_longer_time_brings_nothing_back(lake: Lake) -> None:
    compact(str(lake.location), WEEK)
    bound = runs_without(lake)
    assert old_run(240) < bound < new_run_id()
    compact(str(lake.location), LakeConfig(keep_vectors_days=30))
    assert runs_without(lake) == bound
    assert len(lake.location.names("_vectors")) == 1


def test_the_bound_of_a_time() -> None:
    at = datetime(2025, 3, 1, 12, tzinfo=UTC)
    ms = int(at.timestamp() * 1000)
    assert new_run_id(ms - 1) < runs_before(at) < new_run_id(ms)
    assert runs_before(at) < runs_before(at + timedelta(milliseconds=1))
