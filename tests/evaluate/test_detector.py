"""`marey evaluate detector` beside the scorer of the shared tools, which is nobody's part of the program."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.training.coco import load_images
from pipeline.errors import UsageError
from pipeline.evaluate.detector import read_truth, score
from pipeline.evaluate.mistakes import mistakes, write_report
from pipeline.training_detector import DetectorJob, train
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


IMAGE, OBJECT, CATEGORY = (
    {"id": 1, "file_name": "a"},
    {"image_id": 1, "category_id": 1},
    {"id": 1, "name": "x"},
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a COCO file: it has no annotations, categories, images"),
        ("{}", "is not a COCO file: it has no annotations, categories, images"),
        ({}, "holds no image"),
        ({"images": [{"id": 1}]}, "is not a COCO file: an entry without 'file_name'"),
        ({"images": {"a": 1}}, "is not a COCO file: "),
        ({"images": [IMAGE], "categories": [{"id": 1}]}, "is not a COCO file: an entry without 'name'"),
        ({"images": [IMAGE], "annotations": [OBJECT]}, "is not a COCO file: an entry without 'bbox'"),
        ({"images": [IMAGE], "annotations": [{**OBJECT, "bbox": ["a", 1, 2, 3]}]}, "is not a COCO file: "),
        ({"images": [IMAGE], "annotations": [{**OBJECT, "bbox": None}]}, "is not a COCO file: "),
    ],
)
def test_what_is_not_coco_is_refused_by_name(
    text: str | dict[str, object], said: str, tmp_path: Path
) -> None:
    """By what measures and by what trains."""
    whole = {"images": [], "annotations": [], "categories": [CATEGORY]}
    path = tmp_path / "x.json"
    path.write_text(text if isinstance(text, str) else json.dumps(whole | text))
    with pytest.raises(UsageError, match=rf"x\.json {said}"):
        read_truth(path)
    with pytest.raises(UsageError, match=rf"x\.json {said}"):
        train(DetectorJob(((path, tmp_path),), tmp_path / "out"), print)


def test_a_file_that_is_not_there_or_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.json cannot be read: No such file"):
        read_truth(tmp_path / "x.json")
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(b"{}" * 100)[:-9])
    with pytest.raises(UsageError, match=r"x\.json\.gz is not JSON"):
        read_truth(tmp_path / "x.json.gz")


def test_objects_may_be_numbered_from_0_or_not_at_all(tmp_path: Path) -> None:
    """To pycocotools an object with the number 0 is one that is never found."""
    whole = coco(tmp_path)
    for objects in (whole["annotations"], [{**a, "id": 0} for a in whole["annotations"]]):  # type: ignore[attr-defined]
        (tmp_path / "x.json").write_text(json.dumps({**whole, "annotations": objects}))
        truth = read_truth(tmp_path / "x.json")
        found = [
            {"image_id": 7, "category_id": 1, "bbox": a["bbox"], "score": 0.9}
            for a in truth["annotations"]
            if not a["iscrowd"]
        ]
        assert score(truth, found)["mean_ap50"] == pytest.approx(1)


@pytest.mark.parametrize("flags", [{"ignore": 1}, {"ignore": 1, "iscrowd": 0}, {"iscrowd": 1}])
def test_what_is_to_be_ignored_is_no_object(flags: dict[str, int], tmp_path: Path) -> None:
    """By what trains it is not learned; here it is neither missed nor, if found, false."""
    data = coco(tmp_path)
    *objects, last = data["annotations"]  # type: ignore[misc]
    del last["iscrowd"]
    (tmp_path / "x.json").write_text(json.dumps({**data, "annotations": [*objects, {**last, **flags}]}))
    truth = read_truth(tmp_path / "x.json")
    found = [{"image_id": 7, "category_id": 1, "bbox": a["bbox"], "score": 0.9} for a in truth["annotations"]]
    for detections in (found, found[:2]):
        figures = score(truth, detections)
        assert (figures["classes"]["person"]["instances"], figures["mean_ap50"]) == (2, pytest.approx(1))
        assert mistakes(truth, detections, 5) == []
    [image] = load_images(tmp_path / "x.json", tmp_path, ["person"])
    assert (len(image.boxes), image.ignore_boxes.tolist()) == (2, [[0, 60, 30, 90]])


def coco(folder: Path) -> dict[str, object]:
    """One picture with two objects, and a crowd that nobody has to find."""
    cv2.imwrite(str(folder / "a.png"), np.full((100, 200, 3), 90, np.uint8))
    boxes = {1: [10, 10, 40, 40], 2: [100, 20, 60, 60], 3: [0, 60, 30, 30]}
    return {
        "images": [{"id": 7, "file_name": "a.png", "width": 200, "height": 100}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": i, "image_id": 7, "category_id": 1, "bbox": b, "area": b[2] * b[3], "iscrowd": i == 3}
            for i, b in boxes.items()
        ],
    }


def test_false_boxes_and_missed_objects_are_told_apart(tmp_path: Path) -> None:
    truth = coco(tmp_path)
    found = [
        {"image_id": 7, "category_id": 1, "bbox": box, "score": score}
        for box, score in (
            ([11, 10, 40, 40], 0.9),  # right
            ([12, 10, 40, 40], 0.8),  # the same once more
            ([5, 65, 10, 10], 0.7),  # in the crowd
            ([150, 0, 20, 10], 0.6),  # nothing there
        )
    ]
    worst = mistakes(truth, found, 5)
    assert [(m.score, m.box[0]) for m in worst] == [(0.8, 12), (0.6, 150), (None, 100)]
    write_report(tmp_path / "report", truth, found, tmp_path)
    sheet = cv2.imread(str(tmp_path / "report" / "mistakes.png"))
    assert sheet is not None
    assert sheet.shape == (240, 6 * 240, 3)
    assert (tmp_path / "report" / "curves.png").stat().st_size > 5000


def test_a_report_without_mistakes_is_still_a_report(tmp_path: Path) -> None:
    truth = coco(tmp_path)
    truth["annotations"] = []
    write_report(tmp_path, truth, [], tmp_path)
    assert (tmp_path / "mistakes.png").exists()
