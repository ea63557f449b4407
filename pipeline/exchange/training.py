"""Corrected boxes as training data for `marey train detector`: a COCO file with its pictures."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, SourceError, UsageError
from pipeline.exchange.cvat import Box, read_cvat
from pipeline.exchange.export import folder_name, picture_name
from pipeline.exchange.pictures import frame_table, write_bytes, write_pictures
from pipeline.report.gather import Record

_PLACE = re.compile(r"([0-9a-f]{32})/(?:.*/)?0*(\d+)\.\w+$")  # of a picture's name: video_id, frame


@dataclass(frozen=True)
class Imported:
    """What was written."""

    images: int
    boxes: int
    data: Path


def import_boxes(
    lake: str,
    path: Path,
    form: str,
    record_of: Callable[[str | None], Record],
    at_hand: Callable[[Record], Record],
    out: Path,
) -> Imported:
    """Write `annotations.json` and pictures into `out` from corrected boxes.

    Frames without boxes are background. A CVAT file holds all frames of the video.

    Args:
        lake: the lake that the boxes were exported from.
        path: a COCO or CVAT file.
        form: coco or cvat.
        record_of: the record of a video_id; of None the video that the user named.
        at_hand: brings the video of a record to this disk.
        out: folder, made if missing.

    Raises:
        InputError: the file is not of the format, or names pictures that no export has named.
        SourceError, MediaError: it, or a video, cannot be read.
        StorageError: a file cannot be written.
    """
    boxes: dict[tuple[str, int], list[Box]] = defaultdict(list)
    records: dict[str, Record] = {}
    if form == "cvat":
        record = record_of(None)
        name = record.video["video_id"]
        records[name] = record
        boxes |= {(name, number): [] for number in range(frame_table(lake, record).num_rows)}
        for box in read_cvat(path):
            boxes[name, box.frame].append(box)
    else:
        for name, number, found in _read_coco(path):
            boxes[name, number] += found
        records = {name: record_of(name) for name in sorted({name for name, _ in boxes})}
    return _write(lake, boxes, records, at_hand, out)


def _read_coco(path: Path) -> Iterator[tuple[str, int, list[Box]]]:
    """Video, frame and boxes of each picture."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in data["categories"]}
        by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in data["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        for image in data["images"]:
            place = _PLACE.search(image["file_name"])
            if place is None:
                raise InputError(
                    f"{path}: picture {image['file_name']!r} is of no video of the lake",
                    remedy="keep the names that `marey export` gave: <name>-<video_id>/frames/...",
                )
            frame = int(place[2])
            yield place[1], frame, [_box(frame, names, a) for a in by_image[image["id"]]]
    except OSError as exc:
        raise SourceError(f"{path} cannot be read", remedy=exc.strerror or str(exc)) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise InputError(f"{path} is no COCO file", got=f"{type(exc).__name__}: {exc}") from exc


def _box(frame: int, names: dict[Any, str], annotation: dict[str, Any]) -> Box:
    x, y, w, h = (float(v) for v in annotation["bbox"])
    return Box(frame, names[annotation["category_id"]], (x, y, x + w, y + h))


def _write(
    lake: str,
    boxes: dict[tuple[str, int], list[Box]],
    records: dict[str, Record],
    at_hand: Callable[[Record], Record],
    out: Path,
) -> Imported:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    labels = {label: n for n, label in enumerate(sorted(_labels(boxes.values())), 1)}
    if not labels:
        raise UsageError("the file holds no box", remedy="training needs some")
    for name, record in records.items():
        times = frame_table(lake, record)["t"].to_pylist()
        wanted: dict[float, Path] = {}
        for (_, number), found in sorted((key, value) for key, value in boxes.items() if key[0] == name):
            if number >= len(times):
                raise InputError(f"frame {number} is not one of the video's {len(times)} sampled frames")
            file = f"{folder_name(record)}/{picture_name(number)}"
            wanted[times[number]] = out / file
            width, height = record.size
            images.append({"id": len(images) + 1, "file_name": file, "width": width, "height": height})
            annotations += [
                _annotation(box, len(images), labels, len(annotations) + k) for k, box in enumerate(found, 1)
            ]
        write_pictures(at_hand(record), wanted)
    categories = [{"id": number, "name": label} for label, number in labels.items()]
    data = {"images": images, "categories": categories, "annotations": annotations}
    write_bytes(out / "annotations.json", json.dumps(data, ensure_ascii=False).encode("utf-8"))
    return Imported(len(images), len(annotations), out / "annotations.json")


def _labels(found: Iterable[list[Box]]) -> set[str]:
    return {box.label for boxes in found for box in boxes}


def _annotation(box: Box, image: int, labels: dict[str, int], number: int) -> dict[str, Any]:
    x1, y1, x2, y2 = box.sides
    return {
        "id": number,
        "image_id": image,
        "category_id": labels[box.label],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
    }
