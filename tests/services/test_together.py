"""One long video perceived by two workers at once gives the rows of one; a killed one costs what it held.

tests/soak does the same with 60 minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.analyze.build import ask, rows
from tests.s3 import Server
from tests.services.together import Together, staged, two_workers

TIMES, SEGMENT_S, RANGE_SEGMENTS = 30, 10.0, 30


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, moto: Server) -> Iterator[Together]:
    folder = tmp_path_factory.mktemp("together")
    with two_workers(folder, moto, TIMES, SEGMENT_S, RANGE_SEGMENTS) as made:
        yield made


def test_two_workers_at_once_give_the_rows_of_one(site: Together) -> None:
    lake = site.stack.folder / "two"
    assert site.ended(site.submit(lake)) == "COMPLETED"
    assert site.helped(lake, "COMPLETED")  # the other worker has perceived some of it
    assert rows(lake) == site.whole
    found = ask(lake, "SELECT attempt_id, status FROM analyses ORDER BY revision")
    assert [row["status"] for row in found] == ["running", "ok"]  # the ranges' attempt is the analysis's
    assert len({row["attempt_id"] for row in found}) == 1


def test_a_killed_worker_costs_what_it_had_in_hand(site: Together) -> None:
    lake = site.stack.folder / "killed"
    kept, decoded = site.lose_a_worker(lake)
    assert kept
    assert not kept & decoded  # what was staged is not perceived again
    assert rows(lake) == site.whole
    assert not staged(lake)
