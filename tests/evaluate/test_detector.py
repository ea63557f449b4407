"""`marey evaluate detector` beside the scorer of the shared tools, which is nobody's part of the program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.evaluate.detector import read_truth, score
from tests.helpers import shared_path


@pytest.fixture(scope="module")
def truth() -> dict[str, object]:
    """The first 120 validation images; a third of them complete for some classes only."""
    data = read_truth(shared_path("data", "detection", "val.json"))
    data["images"] = [
        {**image, "complete_for": [1, 3]} if number % 3 == 0 else image
        for number, image in enumerate(data["images"][:120])
    ]
    inside = {image["id"] for image in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in inside]
    return data


def guesses(truth: dict[str, object]) -> list[dict[str, object]]:
    """The true boxes, shaken, some of them lost, some of another class, some invented."""
    rng = np.random.default_rng(4)
    found = []
    for a in truth["annotations"]:  # type: ignore[attr-defined]
        if rng.random() < 0.2:
            continue
        box = np.array(a["bbox"]) * rng.normal(1, 0.08, 4)
        category = a["category_id"] if rng.random() < 0.9 else int(rng.integers(1, 6))
        found.append(
            {
                "image_id": a["image_id"],
                "category_id": category,
                "bbox": box.tolist(),
                "score": float(rng.random()),
            }
        )
    return found


def test_figures_equal_the_shared_scorer_s(truth: dict[str, object], tmp_path: Path) -> None:
    tool = shared_path("tools", "score_detections.py")
    found = guesses(truth)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found))
    command = [
        sys.executable,
        str(tool),
        str(tmp_path / "found.json"),
        "--truth",
        str(tmp_path / "truth.json"),
    ]
    done = subprocess.run([*command, "--json", "-"], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout)
    ours = score(truth, found)
    assert 0.1 < ours["mean_ap50"] < 0.95
    assert ours["mean_ap50"] == pytest.approx(theirs["mean_AP50"], abs=1e-9)
    assert ours["mean_ap"] == pytest.approx(theirs["mean_AP"], abs=1e-9)
    for row in theirs["classes"]:
        mine = ours["classes"][row["class"]]
        assert mine["ap50"] == pytest.approx(row["AP50"], abs=1e-9, nan_ok=True)
        assert mine["ap"] == pytest.approx(row["AP"], abs=1e-9, nan_ok=True)
        assert (mine["instances"], mine["images"]) == (row["instances"], row["images"])


def test_nothing_found_scores_nothing(truth: dict[str, object]) -> None:
    assert score(truth, [])["mean_ap50"] == 0


def test_what_is_not_coco_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(UsageError, match=r"x\.json cannot be read"):
        read_truth(path)
    path.write_text("{}")
    with pytest.raises(UsageError, match="not a COCO file"):
        read_truth(path)
    path.write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        read_truth(path)
