"""A fault in every fifth request to the S3 server: all videos end complete, no row is missing, none twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analyze.build import prepared
from tests.analyze.faults import complete_in_spite_of_faults
from tests.s3 import Server


def test_five_videos(tmp_path: Path, s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepared(tmp_path / "prepared")
    met = complete_in_spite_of_faults(s3_server, folder, tmp_path / "in", monkeypatch.setenv, 5, seed=7)
    assert 0.1 < 1 - met["none"] / sum(met.values()) < 0.3
    assert min(met.values()) > 0, f"every kind of fault was met: {met}"
