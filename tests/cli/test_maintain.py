"""`marey compact` and `marey forget` as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli import run
from tests.lake.build import sample_lake

AT_ONCE = ("--set", "lake.history_days=0", "--set", "lake.grace_h=0")


def test_compact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = str(sample_lake(tmp_path / "lake").location)
    assert run(["compact", "--lake", lake, "--dry-run", *AT_ONCE]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == [
        "table", "date", "rows", "rows_dropped", "files", "size_bytes", "vector_bytes_dropped", "state",
    ]  # fmt: skip
    assert "would be written anew" in err
    assert run(["compact", "--lake", lake, *AT_ONCE, "--json"]) == 0
    out, err = capsys.readouterr()
    states = {(row["table"], row["date"]): row["state"] for row in json.loads(out)}
    assert states["tracks", "2025-03-01"] == "rewritten"
    assert "rows are dropped" in err
    assert (
        run(["compact", "--lake", lake, "--dry-run", *AT_ONCE, "--set", "lake.keep_vectors_days=1e-9"]) == 0
    )
    assert "vectors of about 0.0 MB would be dropped, their rows stay" in capsys.readouterr().err


def test_forget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = str(sample_lake(tmp_path / "lake").location)
    assert run(["forget", "/archive/v3.mp4", "--lake", lake, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"]["frames"] == 5
    assert err.endswith(" MB would be removed\n")
    assert run(["forget", "/archive/v3.mp4", "--lake", lake]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["checked"] is True
    assert err.endswith(" MB are removed; nothing is left\n")
    assert run(["forget", "/archive/v3.mp4", "--lake", lake]) == 2
    assert "knows no video /archive/v3.mp4" in capsys.readouterr().err
    assert run(["compact", "--lake", str(tmp_path / "none")]) == 2
