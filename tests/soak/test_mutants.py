"""Two thousand damaged files: no crash, no hang, bounded time for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.fuzz import JOB, fuzz


@pytest.mark.parametrize(("reader", "count"), [("pyav", 2000), ("decord", 700)])
def test_mutants(reader: str, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = fuzz(tmp_path, range(count), reader)
    with capsys.disabled():
        print(f"\n{reader}: {found}")
    assert found.unfinished == []
    assert sum(found.ends.values()) == count
    # A hang is met twice, and each time costs the stall limit; nothing may take longer.
    assert found.slowest_s < 4 * JOB.stall_s
    assert {"ok", "partial", "media_undecodable"} <= set(found.ends)
    assert found.ends["crash"] + found.ends["memory"] + found.ends["timeout"] <= count // 100
