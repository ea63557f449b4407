"""Tracks as "CVAT for video 1.1" XML, as CVAT's manual describes it.

A track is a list of boxes, each at a frame (0 is the first) and, if not `outside`, there until the next box;
between boxes CVAT interpolates linearly. Filled-in boxes are `occluded`; the score is an attribute.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pyarrow as pa

from pipeline.errors import InputError, SourceError
from pipeline.exchange.corrected import Box, Picture, no_frame
from pipeline.exchange.pictures import frame_of, video_of

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2
_SIDES = ("xtl", "ytl", "xbr", "ybr")
_STEP = re.compile(r"step\s*=\s*(\d+)")
_COUNTED = re.compile(r"(?:^|/)frame_(\d+)(?:\.\w+)?$")  # of a task made of a video, by CVAT's own count


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


def read_cvat(path: Path, num_frames: int, video_id: str) -> list[Picture]:
    """The pictures that a file says something of, with boxes interpolated where CVAT would.

    Tracks are of all frames of a task, which are to be all sampled frames of the video. Of pictures ("CVAT
    for images") a task may hold a part: their names say which frames they are.

    Raises:
        SourceError: the file cannot be read.
        InputError: it is no XML, no annotations of CVAT, of a task of other frames, or holds what is no box,
            or a picture that no export has named or that is of another video.
    """
    root = _parse(path)
    try:
        return [*_tracked(path, root, num_frames), *_pictures(path, root, num_frames, video_id)]
    except (KeyError, ValueError) as exc:
        raise InputError(f"{path}: a box cannot be read", got=str(exc)) from exc


def _parse(path: Path) -> ET.Element:
    try:
        root = ET.fromstring(path.read_bytes())
    except OSError as exc:
        raise SourceError(f"{path} cannot be read", remedy=exc.strerror or str(exc)) from exc
    except ET.ParseError as exc:
        raise InputError(f"{path} is no XML", remedy=str(exc)) from exc
    if root.tag != "annotations":
        raise InputError(f"{path} is no CVAT file", got=root.tag, remedy='export as "CVAT for video 1.1"')
    return root


def _tracked(path: Path, root: ET.Element, num_frames: int) -> Iterator[Picture]:
    tracks = list(root.iter("track"))
    if not tracks:
        return
    _check_frames(path, root, num_frames)
    size = _size(*(root.findtext(f"meta//original_size/{side}") for side in ("width", "height")))
    boxes: list[list[Box]] = [[] for _ in range(num_frames)]
    for track in tracks:
        for frame, box in _track_boxes(track):
            if not 0 <= frame < num_frames:
                raise no_frame(path, frame, num_frames)
            boxes[frame].append(box)
    for frame, found in enumerate(boxes):
        yield Picture(frame, tuple(found), size)


def _pictures(path: Path, root: ET.Element, num_frames: int, video_id: str) -> Iterator[Picture]:
    for image in root.iter("image"):
        name = image.attrib["name"]
        frame = frame_of(name)
        if counted := _COUNTED.search(name):
            _check_frames(path, root, num_frames)
            frame = int(counted[1])
        if frame is None:
            remedy = "keep the names that `marey export` gave, as frames/000000.jpg"
            raise InputError(f"{path}: the name of picture {name!r} says no frame", remedy=remedy)
        if video_of(name) not in (None, video_id):
            raise InputError(
                f"{path}: picture {name!r} is of another video than --video",
                remedy='export a task of several videos as "COCO 1.0", and import that',
            )
        boxes = tuple(Box(box.attrib["label"], _read_sides(box)) for box in _boxes(image))
        yield Picture(frame, boxes, _size(image.get("width"), image.get("height")))


def _check_frames(path: Path, root: ET.Element, num_frames: int) -> None:
    """Refuse frames that were counted in other pictures than all those of the video.

    Of a task of every third frame, say, `size` counts these alone, but boxes name the frames of its source.
    """
    start = max((int(one.text or 0) for one in root.iterfind("meta//start_frame")), default=0)
    step = max(
        (int(n) for one in root.iterfind("meta//frame_filter") for n in _STEP.findall(one.text or "")),
        default=1,
    )
    if start or step > 1:
        raise InputError(
            f"{path} is of a task of some frames of its source: start frame {start}, step {step}",
            remedy="make the task of all pictures of `marey export --pictures`",
        )
    sizes = [int(size.text or "") for size in root.iterfind("meta//size")]
    if sizes and sizes != [num_frames]:
        raise InputError(
            f"{path} is of a task of {' and '.join(map(str, sizes))} frames, not of the video's {num_frames}",
            remedy="a whole task is needed, of all pictures of an export since the last analysis",
        )


def _size(width: str | None, height: str | None) -> tuple[int, int] | None:
    return None if width is None or height is None else (int(width), int(height))


def _track_boxes(track: ET.Element) -> Iterator[tuple[int, Box]]:
    label = track.attrib["label"]
    last: tuple[int, tuple[float, float, float, float]] | None = None
    for box in sorted(_boxes(track), key=lambda box: int(box.attrib["frame"])):
        frame, sides = int(box.attrib["frame"]), _read_sides(box)
        outside = box.attrib.get("outside") == "1"
        if last is not None:
            begin, before = last
            for between in range(begin + 1, frame):
                share = 0.0 if outside else (between - begin) / (frame - begin)
                a, b, c, d = (u + share * (v - u) for u, v in zip(before, sides, strict=True))
                yield between, Box(label, (a, b, c, d))
        if not outside:
            yield frame, Box(label, sides)
        last = None if outside else (frame, sides)


def _boxes(parent: ET.Element) -> Iterator[ET.Element]:
    for shape in parent:
        if shape.tag == "box":
            yield shape
        elif shape.tag not in ("attribute", "tag"):
            raise ValueError(f"a {shape.tag}: only boxes are read")


def _read_sides(box: ET.Element) -> tuple[float, float, float, float]:
    if float(box.get("rotation", 0)):
        raise ValueError(f"turned by {box.get('rotation')} degrees: only upright boxes are read")
    a, b, c, d = (float(box.attrib[key]) for key in _SIDES)
    return a, b, c, d
