"""Training images in COCO format, with classes that are annotated in some images only.

An image's `complete_for` lists the category ids whose every object is annotated; absent means all. For the
other classes a teacher's predictions, if given, fill the gaps, as objects that count as much as the teacher
is sure of them (soft targets: Hinton, Vinyals and Dean, arXiv 1503.02531).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.boxes import iou_matrix
from models.training.pictures import Image, decoded, header_size

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Teacher:
    """How far predictions of a teacher are trusted."""

    positive: float = 0.3  # of a class that is not complete: at or above an object, of weight score / certain
    certain: float = 0.6
    unsure: float = 0.1  # between this and `positive`: no loss there; below: background
    missed: float = 0.4  # of a complete class, where nobody drew a box: at or above no loss there


@dataclass(frozen=True)
class TrainingImage:
    """One image and what is known of it. Boxes are xyxy in pixels of the picture as it is displayed."""

    encoded: bytes
    width: int
    height: int
    boxes: Array  # (K, 4)
    classes: npt.NDArray[np.int64]  # (K,)
    weights: Array  # (K,), in (0, 1]: how sure it is that the object is there
    ignore_boxes: Array  # (I, 4): no loss for `ignore_classes` in these places
    ignore_classes: npt.NDArray[np.int64]  # (I,)
    masked: npt.NDArray[np.bool_]  # (classes,): no negative loss anywhere, nothing is known of them
    name: str = "in memory"  # for messages

    def pixels(self) -> Image:
        """The decoded picture (height, width, 3), RGB.

        Raises:
            ValueError: it cannot be decoded, or is of another size; names it.
        """
        return decoded(self.encoded, self.name, (self.width, self.height))

    def digest(self) -> bytes:
        """SHA-256 of the picture and of all that is known of it, but its name."""
        known = (
            self.boxes, self.classes, self.weights, self.ignore_boxes, self.ignore_classes, self.masked
        )  # fmt: skip
        sha = hashlib.sha256(self.encoded)
        sha.update(json.dumps([self.width, self.height, *(part.tolist() for part in known)]).encode())
        return sha.digest()


def read_json(path: Path) -> Any:
    """JSON, plain or gzipped.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON; names the file.
    """
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as handle:
            return json.load(handle)
    except (ValueError, EOFError, zlib.error) as exc:
        raise ValueError(f"{path} is not JSON: {exc}") from exc


def read_coco(path: Path) -> dict[str, Any]:
    """A COCO file, in which annotations get numbers from 1, and `area` and `iscrowd` where they lack them.

    Their own numbers are of no use: pycocotools takes an object with the number 0 for one never found. Nor is
    `ignore`, of which it makes `iscrowd`: what is one of the two is `iscrowd`, neither object nor background.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not COCO, or holds no image; names the file.
    """
    data = read_json(path)
    lacking = {"images", "annotations", "categories"} - set(data if isinstance(data, dict) else ())
    if lacking:
        raise ValueError(f"{path} is not a COCO file: it has no {', '.join(sorted(lacking))}")
    try:
        for entries, needed in (("images", ("id", "file_name")), ("categories", ("id", "name"))):
            for entry in data[entries]:
                _ = [entry[key] for key in needed]
        annotations = [_numbered(a, number) for number, a in enumerate(data["annotations"], 1)]
    except KeyError as exc:
        raise ValueError(f"{path} is not a COCO file: an entry without {exc}") from exc
    except (TypeError, ValueError) as exc:
        raise ValueError(f"{path} is not a COCO file: {exc}") from exc
    if not data["images"]:
        raise ValueError(f"{path} holds no image")
    return {**data, "annotations": annotations}


def _numbered(annotation: dict[str, Any], number: int) -> dict[str, Any]:
    x, y, width, height = (float(side) for side in annotation["bbox"])
    _ = annotation["image_id"], annotation["category_id"]
    crowd = int(bool(annotation.get("iscrowd") or annotation.get("ignore")))
    known = {"area": width * height, **annotation, "iscrowd": crowd}
    return {**known, "id": number, "bbox": [x, y, width, height]}


def load_images(
    annotations: Path,
    images: Path,
    classes: Sequence[str],
    *,
    skip_kinds: Iterable[str] = (),
    repeat_kinds: Mapping[str, int] | None = None,
    repeat_classes: Mapping[str, int] | None = None,
    teacher: Mapping[str, list[list[float]]] | None = None,
    trust: Teacher | None = None,
) -> list[TrainingImage]:
    """Read a COCO file and its pictures (kept encoded in memory).

    Args:
        annotations: COCO JSON; categories are matched to `classes` by name.
        images: folder that `file_name` is relative to.
        classes: the detector's classes; others are left out.
        skip_kinds: images whose `kind` is one of these are left out.
        repeat_kinds: kind -> how often an image of it is seen while the others are seen once.
        repeat_classes: class -> the same for images with an annotated object of it, times that of their kind;
            of several classes the greatest counts (after LVIS, arXiv 1908.03195).
        teacher: image id -> [x, y, w, h, category id, score].
        trust: the teacher's thresholds.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not COCO, none of its classes is one of `classes`, or a picture cannot be read or is
            not of the size that is written there: its boxes may then be of another one, or of one not turned.
    """
    data = read_coco(annotations)
    index_of = {c["id"]: classes.index(c["name"]) for c in data["categories"] if c["name"] in classes}
    if not index_of:
        names = ", ".join(c["name"] for c in data["categories"])
        raise ValueError(f"{annotations}: none of its categories ({names}) is one of {', '.join(classes)}")
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in data["annotations"]:
        if annotation["category_id"] in index_of:
            by_image[annotation["image_id"]].append(annotation)
    skipped = set(skip_kinds)
    out = []
    for entry in data["images"]:
        if entry.get("kind") in skipped:
            continue
        hints = (teacher or {}).get(str(entry["id"])) if teacher is not None else None
        image = _read_image(entry, by_image[entry["id"]], images, index_of, len(classes), hints, trust)
        shown = {classes[index_of[a["category_id"]]] for a in by_image[entry["id"]] if not a["iscrowd"]}
        rare = max(((repeat_classes or {}).get(name, 1) for name in shown), default=1)
        out += [image] * (rare * (repeat_kinds or {}).get(entry.get("kind", ""), 1))
    return out


def _read_image(
    entry: dict[str, Any],
    annotations: list[dict[str, Any]],
    folder: Path,
    index_of: dict[int, int],
    num_classes: int,
    hints: list[list[float]] | None,
    trust: Teacher | None,
) -> TrainingImage:
    path = folder / entry["file_name"]
    if "width" not in entry or "height" not in entry:
        raise ValueError(f"picture {path} has no width and height in the COCO file")
    try:
        encoded = path.read_bytes()
    except OSError as exc:
        raise ValueError(f"picture {path} cannot be read: {exc.strerror}") from exc
    size = entry["width"], entry["height"]
    if header_size(encoded) != size:  # decoding all would make loading many times as long
        decoded(encoded, path, size)
    complete = {index_of[c] for c in entry.get("complete_for", index_of) if c in index_of}
    objects: list[tuple[list[float], int]] = []
    ignored: list[tuple[list[float], int]] = []
    for a in annotations:
        target = ignored if a["iscrowd"] else objects
        target.append((_xyxy(a["bbox"]), index_of[a["category_id"]]))
    masked = np.array([c not in complete for c in range(num_classes)])
    weights = [1.0] * len(objects)
    if hints is not None:
        trust = trust or Teacher()
        for box, label, score in _unknown(hints, _stack(objects + ignored), index_of):
            if label not in complete and score >= trust.positive:
                objects.append((box, label))
                weights.append(min(1.0, score / trust.certain))
            elif score >= (trust.missed if label in complete else trust.unsure):
                ignored.append((box, label))
        masked[:] = False
    boxes, labels = _stack(objects)
    ignore_boxes, ignore_labels = _stack(ignored)
    return TrainingImage(
        encoded, *size, boxes, labels, np.array(weights, np.float32), ignore_boxes, ignore_labels, masked,
        str(path),
    )  # fmt: skip


def _unknown(
    hints: list[list[float]], known: tuple[Array, npt.NDArray[np.int64]], index_of: dict[int, int]
) -> Iterator[tuple[list[float], int, float]]:
    """Boxes, classes and scores of a teacher's predictions that no annotation of the class overlaps."""
    for *bbox, category, score in hints:
        label = index_of.get(int(category))
        if label is not None:
            box, same = _xyxy(bbox), known[1] == label
            if not same.any() or iou_matrix(np.array([box], np.float32), known[0][same]).max() <= 0.5:
                yield box, label, score


def _xyxy(bbox: Sequence[float]) -> list[float]:
    x, y, w, h = bbox
    return [x, y, x + w, y + h]


def _stack(items: list[tuple[list[float], int]]) -> tuple[Array, npt.NDArray[np.int64]]:
    boxes = np.array([box for box, _ in items], np.float32).reshape(-1, 4)
    return boxes, np.array([label for _, label in items], np.int64)
