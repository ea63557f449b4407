"""Tracks as "CVAT for video 1.1" XML, as CVAT's manual describes it.

A track is a list of boxes, each at a frame (0 is the first) and, if not `outside`, there until the next box;
between boxes CVAT interpolates linearly. Filled-in boxes are `occluded`; the score is an attribute.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pyarrow as pa

from pipeline.errors import InputError, SourceError

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2
_SIDES = ("xtl", "ytl", "xbr", "ybr")


@dataclass(frozen=True)
class Box:
    """A box at a frame, xyxy in pixels."""

    frame: int
    label: str
    sides: tuple[float, float, float, float]


def to_cvat(tracks: pa.Table, num_frames: int, size: tuple[int, int], name: str) -> bytes:
    """XML of TRACKS rows with a column `frame`, as `pictures.numbered` gives them."""
    by_track: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in tracks.to_pylist():
        by_track[row["track_id"]].append(row)
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = sorted({rows[0]["class"] for rows in by_track.values()})
    _meta(ET.SubElement(root, "meta"), labels, num_frames, size, name)
    for number, rows in sorted(by_track.items()):
        track = ET.SubElement(root, "track", id=str(number), label=_xml(rows[0]["class"]), source="automatic")
        for k, row in enumerate(rows):
            _box(track, row, row["frame"], outside=False)
            follows = rows[k + 1]["frame"] if k + 1 < len(rows) else num_frames
            if follows > row["frame"] + 1:
                _box(track, row, row["frame"] + 1, outside=True)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _meta(meta: ET.Element, labels: Sequence[str], num_frames: int, size: tuple[int, int], name: str) -> None:
    task = ET.SubElement(meta, "task")
    facts = {"name": _xml(name), "size": num_frames, "mode": "interpolation", "overlap": 0, "flipped": False}
    frames = {"start_frame": 0, "stop_frame": max(num_frames - 1, 0)}
    for key, value in (facts | frames).items():
        ET.SubElement(task, key).text = str(value)
    listed = ET.SubElement(task, "labels")
    for label in labels:
        entry = ET.SubElement(listed, "label")
        ET.SubElement(entry, "name").text = _xml(label)
        score = ET.SubElement(ET.SubElement(entry, "attributes"), "attribute")
        told = {
            "name": "score",
            "mutable": "True",
            "input_type": "text",
            "default_value": "1",
            "values": "1",
        }
        for key, value in told.items():
            ET.SubElement(score, key).text = value
    original = ET.SubElement(task, "original_size")
    ET.SubElement(original, "width").text, ET.SubElement(original, "height").text = map(str, size)


def _box(track: ET.Element, row: dict[str, Any], frame: int, outside: bool) -> None:
    sides = {key: repr(row[name]) for key, name in zip(_SIDES, ("x1", "y1", "x2", "y2"), strict=True)}
    flags = {"outside": int(outside), "occluded": int(not row["observed"]), "keyframe": 1}
    texts = {key: str(value) for key, value in flags.items()}
    box = ET.SubElement(track, "box", {"frame": str(frame), **texts, **sides, "z_order": "0"})
    ET.SubElement(box, "attribute", name="score").text = repr(row["score"])


def _xml(text: str) -> str:
    """Without the signs that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def read_cvat(path: Path) -> Iterator[Box]:
    """Boxes of each frame, interpolated where CVAT would; from tracks, and from `image` elements.

    Raises:
        SourceError: the file cannot be read.
        InputError: it is no XML, or no annotations of CVAT.
    """
    try:
        root = ET.fromstring(path.read_bytes())
    except OSError as exc:
        raise SourceError(f"{path} cannot be read", remedy=exc.strerror or str(exc)) from exc
    except ET.ParseError as exc:
        raise InputError(f"{path} is no XML", remedy=str(exc)) from exc
    if root.tag != "annotations":
        raise InputError(f"{path} is no CVAT file", got=root.tag, remedy='export as "CVAT for video 1.1"')
    try:
        for track in root.iter("track"):
            yield from _track_boxes(track)
        for image in root.iter("image"):
            for box in image.iter("box"):
                yield Box(int(image.attrib["id"]), box.attrib["label"], _read_sides(box))
    except (KeyError, ValueError) as exc:
        raise InputError(f"{path}: a box cannot be read", got=str(exc)) from exc


def _track_boxes(track: ET.Element) -> Iterator[Box]:
    label = track.attrib["label"]
    last: tuple[int, tuple[float, float, float, float]] | None = None
    for box in sorted(track.iter("box"), key=lambda box: int(box.attrib["frame"])):
        frame, sides = int(box.attrib["frame"]), _read_sides(box)
        outside = box.attrib.get("outside") == "1"
        if last is not None:
            begin, before = last
            for between in range(begin + 1, frame):
                share = 0.0 if outside else (between - begin) / (frame - begin)
                a, b, c, d = (u + share * (v - u) for u, v in zip(before, sides, strict=True))
                yield Box(between, label, (a, b, c, d))
        if not outside:
            yield Box(frame, label, sides)
        last = None if outside else (frame, sides)


def _read_sides(box: ET.Element) -> tuple[float, float, float, float]:
    a, b, c, d = (float(box.attrib[key]) for key in _SIDES)
    return a, b, c, d
