"""The rules of a config drawn over the scenes of its cameras, with what they would count."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.config import Config, Rule
from pipeline.errors import StorageError, os_errors_as
from pipeline.lake.query import Reading
from pipeline.report.gather import pictures
from pipeline.report.palette import RULE_COLOUR, Picture, fitted, jpeg, tag, text_size, tint
from pipeline.report.scene import first_picture, picture_of
from pipeline.report.survey import PICTURE_TRIES

Counts = Mapping[str, Mapping[str, int]]
"""Name of a rule to direction, empty where it has none, to number of events."""

WIDTH_PX = 960
_LETTERS, _LINE_PX, _ROW_PX = 0.5, 2, 24
_ARROW_PX = 30


def draw_rules(lake: str, config: Config, counts: Mapping[str, Counts], out: Path) -> list[Path]:
    """Write a picture for each camera of the videos; returns the files.

    Args:
        lake: the lake, which tells the videos' cameras, sizes and pictures.
        config: whose rules are drawn.
        counts: by video_id.
        out: folder, made if missing.

    Raises:
        StorageError: the lake cannot be read, or a file not be written.
    """
    columns, ask = "video_id, uri, content_id, camera, width_px, height_px, recorded_at", Reading(lake)
    rows = ask(f"SELECT {columns} FROM videos ORDER BY recorded_at DESC NULLS LAST, uri").to_pylist()
    cameras: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["video_id"] in counts:
            cameras[row["camera"]].append(row)
    paths: list[Path] = []
    for camera, videos in sorted(cameras.items(), key=lambda item: item[0] or ""):
        found = total(counts[video] for video in {row["video_id"] for row in videos})
        picture = rules_picture(_scene(ask, videos), config.rules_for(camera), found, _size(videos))
        name = re.sub(r"[^A-Za-z0-9-]+", "_", camera or "").strip("_")[:80] or "no-camera"
        path = out / f"{name}{f'-{len(paths)}' if out / f'{name}.jpg' in paths else ''}.jpg"
        _write(path, picture)
        paths.append(path)
    return paths


def total(parts: Iterable[Counts]) -> dict[str, Counter[str]]:
    """The numbers of several videos together."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for part in parts:
        for name, numbers in part.items():
            found[name].update(numbers)
    return found


def counted(name: str, counts: Counts) -> str:
    """A rule with its numbers: `gate: 12 (left to right 7, right to left 5)`."""
    numbers = counts.get(name, {})
    ways = [f"{way.replace('_', ' ')} {number}" for way, number in sorted(numbers.items()) if way]
    return f"{name}: {sum(numbers.values())}" + (f" ({', '.join(ways)})" if ways else "")


def _size(videos: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    known = [(row["width_px"], row["height_px"]) for row in videos if row["width_px"] and row["height_px"]]
    return known[0] if known else (WIDTH_PX, WIDTH_PX * 9 // 16)


def _scene(ask: Reading, videos: Sequence[Mapping[str, Any]]) -> Picture | None:
    """The first frame of the newest video that is at hand, else the newest thumbnail, of a few."""
    for row in videos:
        path = Path(row["uri"])
        if path.is_absolute() and path.is_file() and (found := first_picture(path)) is not None:
            return found
    newest = [row for row in videos if row["width_px"]][:PICTURE_TRIES]
    kept = pictures(ask, newest)
    return picture_of(next((kept[row["content_id"]] for row in newest if row["content_id"] in kept), None))


def rules_picture(
    scene: Picture | None, rules: Sequence[Rule], counts: Counts, size: tuple[int, int]
) -> Picture:
    """Lines and zones with their numbers over the scene, (H, W, 3), `fitted` to 960.

    At its foot stand the rules without a place.

    Args:
        scene: of any size; None leaves the ground dark.
        rules: those of the camera.
        counts: of its videos together.
        size: width and height of the videos in displayed pixels.
    """
    width, height = fitted(*size, WIDTH_PX)
    ground = np.full((height, width, 3), 24, np.uint8)
    if scene is not None:
        ground = np.asarray(cv2.resize(scene, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    scale = np.array([width, height], float)
    tags: list[tuple[str, tuple[int, int]]] = []
    for rule in rules:
        points = rule.line or rule.zone
        if points is None:
            tags.append((f"whole picture: {counted(rule.name, counts)}", (6, height - 6)))
            continue
        shares = np.array(points) / (1 if rule.units == "normalised" else size)
        pixels = np.round(shares * scale).astype(np.int32)
        _draw_place(ground, rule, pixels)
        x, y = (int(v) for v in pixels[0])
        tags.append((counted(rule.name, counts), (x, y)))
    _write_tags(ground, tags)
    return ground


def _write_tags(picture: Picture, tags: Sequence[tuple[str, tuple[int, int]]]) -> None:
    """Letters over everything else; one that would hide another goes up by a row, else down."""
    taken: list[tuple[int, int, int]] = []  # left, right, bottom
    for text, (x, y) in tags:
        right = x + text_size(text, _LETTERS)[0] + _ROW_PX
        beside = [bottom for a, b, bottom in taken if a < right and x < b]
        above, below = range(y, _ROW_PX, -_ROW_PX), range(y + _ROW_PX, picture.shape[0], _ROW_PX)
        free = (at for at in (*above, *below) if all(abs(at - bottom) >= _ROW_PX for bottom in beside))
        bottom = next(free, y)
        taken.append((x, right, bottom))
        tag(picture, text, (x, bottom), _LETTERS, RULE_COLOUR)


def _draw_place(picture: Picture, rule: Rule, pixels: Any) -> None:
    closed = rule.zone is not None
    if closed:
        tint(picture, pixels, RULE_COLOUR, 0.2)
    cv2.polylines(picture, [pixels.reshape(-1, 1, 2)], closed, RULE_COLOUR, _LINE_PX, cv2.LINE_AA)
    if rule.kind == "line_crossing":  # an arrow to the side that "left to right" leads to
        (ax, ay), (bx, by) = pixels.tolist()
        length = max(np.hypot(bx - ax, by - ay), 1)
        middle = ((ax + bx) // 2, (ay + by) // 2)
        tip = (
            round(middle[0] - (by - ay) / length * _ARROW_PX),
            round(middle[1] + (bx - ax) / length * _ARROW_PX),
        )
        cv2.arrowedLine(picture, middle, tip, RULE_COLOUR, _LINE_PX, cv2.LINE_AA, 0, 0.3)


def _write(path: Path, picture: Picture) -> None:
    with os_errors_as(StorageError, f"{path} cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(picture, 85))
