"""Corrected boxes as training data for `marey train detector`: a COCO file with its pictures."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, SourceError, UsageError
from pipeline.exchange.coco import CocoFile
from pipeline.exchange.corrected import Box, Picture, check
from pipeline.exchange.cvat import read_cvat
from pipeline.exchange.export import folder_name
from pipeline.exchange.pictures import (
    check_new,
    frame_of,
    frame_table,
    picture_name,
    video_of,
    write_bytes,
    write_pictures,
)
from pipeline.lake.query import Reading
from pipeline.report.gather import Record

DATA = "annotations.json"


@dataclass(frozen=True)
class Imported:
    """What was written."""

    images: int
    boxes: int
    data: Path


def import_boxes(
    lake: str | Reading,
    path: Path,
    form: str,
    record_of: Callable[[str | None], Record],
    at_hand: Callable[[Record], Record],
    out: Path,
) -> Imported:
    """Write `annotations.json` and pictures into `out` from corrected boxes.

    Pictures of the file without boxes are background; what the tracks of a CVAT file are of are all frames
    of the video. Boxes that COCO flags as crowd, or to be ignored, stay so.

    Args:
        lake: the lake that the boxes were exported from.
        path: a COCO or CVAT file.
        form: coco or cvat.
        record_of: the record of a video_id; of None the video that the user named.
        at_hand: brings the video of a record to this disk.
        out: folder, made if missing.

    Raises:
        UsageError: `out` holds such data already, or the file holds no box.
        InputError: the file is not of the format, names pictures that no export has named, or holds boxes
            that are not of the video's frames as they are sampled now.
        SourceError, MediaError: it, or a video, cannot be read.
        StorageError: a file cannot be written.
    """
    check_new(out / DATA, "give another --out: `marey train detector` takes --data more than once")
    if form == "cvat":
        record = record_of(None)
        num_frames = frame_table(lake, record).num_rows
        found = [(record, read_cvat(path, num_frames, record.video["video_id"]))]
    else:
        found = [(record_of(name), pictures) for name, pictures in sorted(_read_coco(path).items())]
    labels = sorted({box.label for _, pictures in found for picture in pictures for box in picture.boxes})
    if not labels:
        raise UsageError("the file holds no box", remedy="training needs some")
    data = CocoFile({label: number for number, label in enumerate(labels, 1)})
    wanted: list[tuple[Record, dict[float, Path]]] = []
    for record, pictures in found:
        times = frame_table(lake, record)["t"].to_pylist()
        frames: dict[int, list[Box]] = defaultdict(list)
        for picture in pictures:
            check(path, picture, times, _known_size(record))
            frames[picture.frame] += picture.boxes
        files = {frame: f"{folder_name(record)}/{picture_name(frame)}" for frame in sorted(frames)}
        wanted.append((record, {times[frame]: out / file for frame, file in files.items()}))
        for frame, file in files.items():
            data.add_image(file, record.size)
            for box in frames[frame]:
                data.add_box(len(data.images), box.label, box.sides, iscrowd=box.iscrowd, ignore=box.ignore)
    for record, places in wanted:  # the file comes last: what was cut short is not taken for data
        write_pictures(at_hand(record), places)
    write_bytes(out / DATA, data.text().encode("utf-8"))
    return Imported(len(data.images), len(data.annotations), out / DATA)


def _known_size(record: Record) -> tuple[int, int] | None:
    return record.size if record.video["width_px"] and record.video["height_px"] else None


def _read_coco(path: Path) -> dict[str, list[Picture]]:
    """The pictures of a COCO file, by the id of their video."""
    found: dict[str, list[Picture]] = defaultdict(list)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in data["categories"]}
        by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in data["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        for image in data["images"]:
            video, frame = video_of(image["file_name"]), frame_of(image["file_name"])
            if video is None or frame is None:
                raise InputError(
                    f"{path}: picture {image['file_name']!r} is of no video of the lake",
                    remedy="keep the names that `marey export` gave: <name>-<video_id>/frames/...",
                )
            width, height, t = (image.get(key) for key in ("width", "height", "t"))
            size = None if width is None or height is None else (int(width), int(height))
            boxes = tuple(_box(path, names, annotation) for annotation in by_image[image["id"]])
            found[video].append(Picture(frame, boxes, size, None if t is None else float(t)))
    except OSError as exc:
        raise SourceError(f"{path} cannot be read", remedy=exc.strerror or str(exc)) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise InputError(f"{path} is no COCO file", got=f"{type(exc).__name__}: {exc}") from exc
    return found


def _box(path: Path, names: dict[Any, str], annotation: dict[str, Any]) -> Box:
    told = annotation.get("attributes")  # where CVAT says that a box is turned; `bbox` is as if it were not
    if isinstance(told, dict) and float(told.get("rotation") or 0):
        raise InputError(
            f"{path}: a box is turned by {told['rotation']} degrees", remedy="only upright boxes are read"
        )
    x, y, w, h = (float(v) for v in annotation["bbox"])
    flags = (int(bool(annotation.get(flag))) for flag in ("iscrowd", "ignore"))
    return Box(names[annotation["category_id"]], (x, y, x + w, y + h), *flags)
