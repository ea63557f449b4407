"""Average precision of a detector on images in COCO format, as pycocotools counts it."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.errors import UsageError
from pipeline.media.letterbox import GREY, Letterbox
from pipeline.perceive import Perceiver, displayed

MAX_DETECTIONS = 100  # per image, as COCO counts

Detection = dict[str, Any]


def settings_for(weights: str, width: int, height: int) -> dict[str, Any]:
    """Config values for measuring: as many boxes as COCO counts, down to low scores."""
    return {
        "perceive.weights": weights,
        "perceive.input_width": width,
        "perceive.input_height": height,
        "perceive.min_score": 0.01,
        "perceive.max_detections": MAX_DETECTIONS,
    }


def read_truth(path: Path) -> dict[str, Any]:
    """A COCO file; `area` and `iscrowd` may be missing.

    Raises:
        UsageError: it cannot be read, or is not COCO.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(f"{path} cannot be read", remedy=exc.strerror or str(exc)) from exc
    except ValueError as exc:
        raise UsageError(f"{path} is not JSON", remedy=str(exc)) from exc
    lacking = {"images", "annotations", "categories"} - set(data if isinstance(data, dict) else ())
    if lacking:
        raise UsageError(f"{path} is not a COCO file", got=f"no {', '.join(sorted(lacking))}")
    try:
        return {**data, "annotations": [_complete(a, i) for i, a in enumerate(data["annotations"], 1)]}
    except (KeyError, TypeError, ValueError) as exc:
        raise UsageError(f"{path} is not a COCO file", got=f"annotation without {exc}") from exc


def _complete(annotation: dict[str, Any], number: int) -> dict[str, Any]:
    """An annotation with all that pycocotools asks for."""
    _, _, width, height = annotation["bbox"]
    _ = annotation["image_id"], annotation["category_id"]
    return {"id": number, "area": width * height, "iscrowd": 0, **annotation}


def write_detections(path: Path, detections: Sequence[Detection]) -> None:
    """Write detections as COCO results.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(list(detections)), encoding="utf-8")
    except OSError as exc:
        raise UsageError(f"{path} cannot be written", remedy=exc.strerror or str(exc)) from exc


def detect_images(
    perceiver: Perceiver,
    truth: dict[str, Any],
    images: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Detection]:
    """Detections on all images of a COCO file, in the format of COCO results.

    Classes are matched to categories by name; others are left out.

    Raises:
        UsageError: no category is a class of the detector, or a picture cannot be read.
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
        fitted = [_fit(images / e["file_name"], s.input_width, s.input_height) for e in batch]
        perceived = perceiver(np.stack([picture for picture, _ in fitted]))
        for entry, (_, box_map), seen in zip(batch, fitted, perceived, strict=True):
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


def _fit(path: Path, width: int, height: int) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], Letterbox]:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise UsageError(f"picture {path} cannot be read", remedy="check --images, the folder of file_name")
    box = Letterbox.fit(picture.shape[1], picture.shape[0], width, height)
    how = cv2.INTER_AREA if box.scale_x < 1 else cv2.INTER_LINEAR
    content = cv2.resize(picture, (box.content_width, box.content_height), interpolation=how)
    out = np.full((height, width, 3), GREY, np.uint8)
    rows, columns = (
        slice(box.top, box.top + box.content_height),
        slice(box.left, box.left + box.content_width),
    )
    out[rows, columns] = content[..., ::-1]
    return out, box


def score(truth: dict[str, Any], detections: Sequence[Detection]) -> dict[str, Any]:
    """AP at IoU 0.50 and over 0.50 to 0.95, per class and in the mean.

    An image with `complete_for` takes part only for the classes listed there; crowd boxes are neither hits
    nor misses.

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
        classes = {}
        for category in sorted(truth["categories"], key=lambda c: c["id"]):
            key = category["id"]
            inside = [e["id"] for e in truth["images"] if key in e.get("complete_for", [key])]
            run = COCOeval(reference, answers, "bbox")
            run.params.catIds, run.params.imgIds = [key], inside
            run.params.maxDets = [1, 10, MAX_DETECTIONS]
            run.evaluate()
            run.accumulate()
            precision = run.eval["precision"][:, :, 0, 0, -1]  # (IoU thresholds, recalls)
            classes[category["name"]] = {
                "ap50": _mean(precision[0]),
                "ap": _mean(precision),
                "instances": _num_instances(truth, key, set(inside)),
                "images": len(inside),
                "detections": sum(d["category_id"] == key for d in detections),
            }
    counted = [c for c in classes.values() if c["instances"]]
    means = {f"mean_{k}": _average([float(c[k]) for c in counted]) for k in ("ap50", "ap")}
    return {**means, "classes": classes, "images": len(truth["images"]), "detections": len(detections)}


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
