"""What a flow refuses before it begins, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.analyze import _run
from pipeline.analyze import Options
from pipeline.errors import UsageError


def test_a_run_of_one_video_is_for_one(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"no video at all")
    state = _run([str(tmp_path)], str(tmp_path / "lake"), None, Options(), 1, range_segments=10)
    assert state.is_failed()
    with pytest.raises(UsageError, match="is 2 videos: give one, or run analyze-batch"):
        raise state.data
