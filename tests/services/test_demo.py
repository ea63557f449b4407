"""`marey demo` as a stranger runs it.

The weights reach 6 people for 6, and 6 of 10 events (2026-11-24).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import cv2


def test_the_demo_finds_what_it_rendered(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "demo", "--out", str(tmp_path / "demo"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["status"] == "ok"
    people = next(row for row in shown["counts"] if row["class"] == "person")
    assert 6 <= people["found"] <= 11
    true = [event for event in shown["events"] if event["true_s"] is not None]
    hits = [event for event in true if event["found_s"] is not None]
    assert len(true) == 10
    assert len(hits) >= 6
    with av.open(shown["clip"]) as clip:
        assert sum(1 for _ in clip.decode(video=0)) == 750
    assert cv2.imread(shown["timeline"]) is not None
