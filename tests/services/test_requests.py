"""How often a writer asks the server: not more for each video that is in the lake already."""

from __future__ import annotations

import pytest

from pipeline.lake.tables import Lake
from tests.lake.build import analyse
from tests.s3 import Server, faulty, num_requests

VIDEOS = 24


def test_requests_do_not_grow_with_the_log(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, each look at a table read all commits since its last check-point, that is, all of them."""
    with faulty(s3_server, seed=1, rate=0) as proxy:
        proxy.use(monkeypatch.setenv)
        lake = Lake.open(f"s3://{s3_server.bucket()}/lake")
        asked = []
        for number in range(VIDEOS):
            before = num_requests(proxy)
            analyse(lake, f"v{number}")
            asked.append(num_requests(proxy) - before)
        s3_server.use(monkeypatch.setenv)
    print(f"\n{sum(asked)} requests for {VIDEOS} videos, {asked[-1]} for the last")  # noqa: T201 - for RESULTS.md
    early, late = sum(asked[: VIDEOS // 2]), sum(asked[VIDEOS // 2 :])
    assert late < 1.5 * early
    assert sum(asked) < 250 * VIDEOS
