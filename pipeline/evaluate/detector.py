"""Average precision of a detector on images in COCO format, as pycocotools counts it."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from models.training.coco import read_coco
from models.training.pictures import check_size
from pipeline.config import PerceiveConfig
from pipeline.errors import UsageError, os_errors_as
from pipeline.media.letterbox import Letterbox
from pipeline.perceive import Perceiver, displayed

MAX_DETECTIONS = 100  # per image, as COCO counts

Detection = dict[str, Any]
Picture = npt.NDArray[np.uint8]


def settings_for(weights: str, width: int, height: int, detector: str | None = None) -> dict[str, Any]:
    """Config values for measuring: as many boxes as COCO counts, down to low scores."""
    return {
        "perceive.detector": detector or "",
        "perceive.embeddings": detector is None,
        "perceive.weights": weights,
        "perceive.input_width": width,
        "perceive.input_height": height,
        "perceive.min_score": 0.01,
        "perceive.max_detections": MAX_DETECTIONS,
    }


def read_truth(path: Path) -> dict[str, Any]:
    """A COCO file, plain or gzipped; `area` and `iscrowd` may be missing, and `ignore` counts as `iscrowd`.

    Raises:
        UsageError: it cannot be read, or is not COCO.
    """
    try:
        return read_coco(path)
    except OSError as exc:
        raise UsageError(f"{path} cannot be read", remedy=exc.strerror or str(exc)) from exc
    except ValueError as exc:
        raise UsageError(str(exc), remedy="give truth in COCO format") from exc


def write_detections(path: Path, detections: Sequence[Detection]) -> None:
    """Write detections as COCO results.

    Raises:
        UsageError: the file cannot be written.
    """
    with os_errors_as(UsageError, f"{path} cannot be written"):
        path.write_text(json.dumps(list(detections)), encoding="utf-8")


def detect_images(
    perceiver: Perceiver,
    truth: dict[str, Any],
    images: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Detection]:
    """Detections on all images of a COCO file, in the format of COCO results.

    Classes are matched to categories by name; others are left out.

    Raises:
        UsageError: no category is a class of the detector, or a picture cannot be read or is of another size
            than the truth says.
    """
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    if not set(ids) & set(perceiver.network.classes):
        raise UsageError(
            "no category of the data is a class of the detector",
            got=", ".join(ids),
            remedy=f"its classes are {', '.join(perceiver.network.classes)}",
        )
    s = perceiver.settings
    found: list[Detection] = []
    entries = truth["images"]
    for begin in range(0, len(entries), perceiver.batch_size):
        batch = entries[begin : begin + perceiver.batch_size]
        inputs = [fitted(_read(images / e["file_name"], e), s) for e in batch]
        perceived = perceiver(np.stack([picture for picture, _ in inputs]))
        for entry, (_, box_map), seen in zip(batch, inputs, perceived, strict=True):
            boxes = displayed(seen.boxes, box_map)
            for box, name, score in zip(boxes, seen.classes, seen.scores, strict=True):
                if name in ids:
                    x1, y1, x2, y2 = (float(v) for v in box)
                    found.append(
                        {
                            "image_id": entry["id"],
                            "category_id": ids[name],
                            "bbox": [x1, y1, x2 - x1, y2 - y1],
                            "score": float(score),
                        }
                    )
        on_progress(min(begin + perceiver.batch_size, len(entries)), len(entries))
    return found


def _read(path: Path, entry: dict[str, Any]) -> Picture:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise UsageError(f"picture {path} cannot be read", remedy="check --images, the folder of file_name")
    if "width" in entry and "height" in entry:
        try:
            check_size(picture, path, (entry["width"], entry["height"]))
        except ValueError as exc:
            raise UsageError(str(exc)) from exc
    return np.asarray(picture[..., ::-1], np.uint8)


def fitted(picture: Picture, settings: PerceiveConfig) -> tuple[Picture, Letterbox]:
    """A picture (H, W, 3), RGB, as the CNN's input, and the map of its boxes back."""
    width, height = settings.input_width, settings.input_height
    stretch = settings.fit == "stretch"
    box = Letterbox.fit(picture.shape[1], picture.shape[0], width, height, stretch=stretch)
    how = cv2.INTER_AREA if box.scale_x < 1 else cv2.INTER_LINEAR
    content = cv2.resize(picture, (box.content_width, box.content_height), interpolation=how)
    return box.paste(np.asarray(content, np.uint8)), box


def of_classes(truth: dict[str, Any], classes: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The truth of the categories that are classes of a detector, and the names of the others.

    Of what a detector was never told it finds nothing, which says nothing of how good it is.
    """
    known = {c["id"] for c in truth["categories"] if c["name"] in classes}
    parts = {
        "categories": [c for c in truth["categories"] if c["id"] in known],
        "annotations": [a for a in truth["annotations"] if a["category_id"] in known],
    }
    return {**truth, **parts}, [c["name"] for c in truth["categories"] if c["id"] not in known]


def score(truth: dict[str, Any], detections: Sequence[Detection]) -> dict[str, Any]:
    """AP at IoU 0.50 and over 0.50 to 0.95, per class and in the mean.

    An image with `complete_for` takes part only for the classes listed there; crowd boxes are neither hits
    nor misses.

    Raises:
        UsageError: pycocotools is not installed.
    """
    classes = {}
    for category, run in evaluations(truth, detections):
        key, inside = category["id"], set(run.params.imgIds)
        precision = run.eval["precision"][:, :, 0, 0, -1]  # (IoU thresholds, recalls)
        classes[category["name"]] = {
            "ap50": _mean(precision[0]),
            "ap": _mean(precision),
            "instances": _num_instances(truth, key, inside),
            "images": len(inside),
            "detections": sum(d["category_id"] == key for d in detections),
        }
    counted = [c for c in classes.values() if c["instances"]]
    means = {f"mean_{k}": _average([float(c[k]) for c in counted]) for k in ("ap50", "ap")}
    return {**means, "classes": classes, "images": len(truth["images"]), "detections": len(detections)}


def evaluations(
    truth: dict[str, Any], detections: Sequence[Detection]
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Per category, in the order of their ids, pycocotools' evaluation of its images.

    Raises:
        UsageError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as exc:
        raise UsageError("pycocotools is not installed", remedy="pip install 'marey[train]'") from exc
    with contextlib.redirect_stdout(io.StringIO()):
        reference, answers = COCO(), COCO()
        reference.dataset = truth
        answers.dataset = {**truth, "annotations": _annotations(detections)}
        reference.createIndex()
        answers.createIndex()
    for category in sorted(truth["categories"], key=lambda c: c["id"]):
        key = category["id"]
        run = COCOeval(reference, answers, "bbox")
        run.params.catIds = [key]
        run.params.imgIds = [e["id"] for e in truth["images"] if key in e.get("complete_for", [key])]
        run.params.maxDets = [1, 10, MAX_DETECTIONS]
        with contextlib.redirect_stdout(io.StringIO()):
            run.evaluate()
            run.accumulate()
        yield category, run


def _num_instances(truth: dict[str, Any], category: int, images: set[int]) -> int:
    return sum(
        a["category_id"] == category and a["image_id"] in images and not a["iscrowd"]
        for a in truth["annotations"]
    )


def _annotations(detections: Sequence[Detection]) -> list[Detection]:
    return [
        {**d, "id": number, "area": d["bbox"][2] * d["bbox"][3], "iscrowd": 0}
        for number, d in enumerate(detections, 1)
    ]


def _mean(values: Any) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else math.nan


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
