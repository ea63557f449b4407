"""60 minutes perceived by two workers at once give the rows of one; a killed one costs what it held."""

from __future__ import annotations

import time
from pathlib import Path

from tests.analyze.build import rows
from tests.s3 import Server
from tests.services.together import two_workers

TIMES, SEGMENT_S, RANGE_SEGMENTS = 120, 60.0, 10


def test_sixty_minutes(tmp_path: Path, moto: Server) -> None:
    with two_workers(tmp_path, moto, TIMES, SEGMENT_S, RANGE_SEGMENTS) as site:
        lake, began = tmp_path / "two", time.monotonic()
        assert site.ended(site.submit(lake)) == "COMPLETED"
        helped = site.helped(lake, "COMPLETED")
        print(f"\ntwo workers: {time.monotonic() - began:.0f} s, {len(helped)} ranges by the other one")
        assert helped
        assert rows(lake) == site.whole
        kept, decoded = site.lose_a_worker(tmp_path / "killed")
        print(f"killed with {len(kept)} segments staged; decoded afterwards: {len(decoded)}")
        assert kept
        assert not kept & decoded
        assert rows(tmp_path / "killed") == site.whole
