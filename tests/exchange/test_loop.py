"""Look, correct, train again: from a lake by an export and an import to weights, and with these to a lake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.files import file_digest
from pipeline.cli import run
from pipeline.lake.query import query
from tests.report.scenes import SECONDS, square_lake, square_video


def test_corrected_boxes_train_a_detector_that_analyses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, lake, again = square_video(tmp_path / "square.mp4"), tmp_path / "lake", tmp_path / "again"
    square_lake(lake, video)

    def command(*arguments: object) -> str:
        """The command within this process; what it prints."""
        assert run([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    boxes, training, out = tmp_path / "boxes", tmp_path / "training", tmp_path / "out"
    command("export", video, "--format", "coco", "--pictures", "--lake", lake, "--out", boxes)
    data = json.loads((boxes / "annotations.json").read_text())
    data["categories"][0]["name"] = "tile"  # what was called a person is another thing
    (tmp_path / "corrected.json").write_text(json.dumps(data))
    command("import", tmp_path / "corrected.json", "--format", "coco", "--lake", lake, "--out", training)

    small = ("--size", 64, "--batch", 4, "--steps", 6, "--threads", 1, "--out", out)
    found = ("--data", training / "annotations.json", "--images", training)
    command("train", "detector", *found, *small)
    weights = out / "detector.safetensors"
    settings = {"perceive.weights": weights, "perceive.input_width": 128, "perceive.input_height": 96}
    changed = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command("analyze", video, "--lake", again, *changed, "--set", "perceive.min_score=0.01")
    [row] = query(again, "SELECT status, weights, frames_sampled FROM analyses_current").to_pylist()
    assert (row["status"], row["frames_sampled"]) == ("ok", SECONDS * 10)
    assert json.loads(row["weights"])["detector"] == file_digest(weights)
    classes = query(again, "SELECT DISTINCT class FROM detections")["class"].to_pylist()
    assert classes == ["tile"]
    page = command("show", video, "--lake", again, "--out", tmp_path / "page")
    assert Path(page.strip()).is_file()
