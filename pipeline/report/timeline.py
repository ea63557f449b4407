"""Timelines: one picture of who was there when, and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from pipeline.errors import StorageError, os_errors_as
from pipeline.report.motion import paths
from pipeline.report.palette import (
    CLASS_COLOURS,
    EVENT_COLOUR,
    Colour,
    Picture,
    class_colour,
    plain,
    text_size,
    trail,
    write,
)

BACKGROUND: Colour = (250, 250, 252)
STRIPE: Colour = (240, 241, 246)
GRID: Colour = (218, 220, 228)
INK: Colour = (38, 42, 54)
PALE_INK: Colour = (112, 118, 134)

SHARPER = 2
"""The picture is drawn this many times larger and shrunk: smoother letters and lines."""

MAX_ROWS = 60
EVENTS_GAP_PX = 10


@dataclass(frozen=True)
class Layout:
    """Where things stand, in pixels of the finished picture. Time runs from `left` to `right`."""

    width: int
    height: int
    left: int
    right: int
    first_row: int
    row_height: int
    num_objects: int
    duration_s: float

    def x(self, t: float) -> int:
        """Column of a time, kept inside the picture."""
        share = min(max(t / self.duration_s, 0.0), 1.0)
        return round(self.left + share * (self.right - self.left))

    def row(self, number: int) -> tuple[int, int]:
        """Top and bottom of a row; the rows of events, a little apart, follow those of objects."""
        top = self.first_row + number * self.row_height + (EVENTS_GAP_PX if number >= self.num_objects else 0)
        return top, top + self.row_height


class Sheet:
    """A picture that is drawn SHARPER times larger; all arguments are in pixels of the finished one."""

    def __init__(self, width: int, height: int) -> None:
        self.picture: Picture = np.full((height * SHARPER, width * SHARPER, 3), BACKGROUND, np.uint8)

    def bar(self, x1: float, y1: float, x2: float, y2: float, colour: Colour) -> None:
        corners = [round(v * SHARPER) for v in (x1, y1, x2, y2)]
        cv2.rectangle(
            self.picture, (corners[0], corners[1]), (corners[2] - 1, corners[3] - 1), colour, cv2.FILLED
        )

    def mark(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A diamond."""
        tips = np.array([(x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius)]) * SHARPER
        cv2.fillConvexPoly(self.picture, np.round(tips).astype(np.int32), colour, cv2.LINE_AA)

    def text(self, text: str, x: float, y: float, size: float, colour: Colour, right: bool = False) -> None:
        """Letters whose middle is at height `y`, beginning (or, `right`, ending) at `x`."""
        scale = size * SHARPER
        width, height = text_size(text, scale, SHARPER)
        at = (round(x * SHARPER) - (width if right else 0), round(y * SHARPER + height / 2))
        write(self.picture, text, at, scale, colour, SHARPER - 1 or 1)

    def paste(self, picture: Picture, x: int, y: int, width: int, height: int) -> None:
        size = (width * SHARPER, height * SHARPER)
        large = cv2.resize(
            picture, size, interpolation=cv2.INTER_AREA if picture.shape[1] > size[0] else cv2.INTER_CUBIC
        )
        self.picture[y * SHARPER : y * SHARPER + size[1], x * SHARPER : x * SHARPER + size[0]] = large

    def finished(self) -> Picture:
        height, width = self.picture.shape[:2]
        small = cv2.resize(self.picture, (width // SHARPER, height // SHARPER), interpolation=cv2.INTER_AREA)
        return small.astype(np.uint8)


def timeline_picture(
    out_path: Path,
    objects: pa.Table,
    events: pa.Table,
    tracks: pa.Table,
    duration_s: float,
    *,
    thumbnail: Picture | None = None,
    title: str = "",
    width: int = 1280,
) -> Layout:
    """Write a PNG with a row per object, a row per label of events and a time axis; say where things stand.

    An object's bar goes from its first to its last box in the colour of its class, pale where boxes were only
    filled in; diamonds mark its events. The rows of events below show starts as diamonds, lengths as bars.

    Args:
        out_path: the PNG to write; replaced if it exists.
        objects: OBJECTS rows. Of more than MAX_ROWS the longest are shown, and how many more there are.
        events: EVENTS rows.
        tracks: TRACKS rows of the objects.
        duration_s: length of the time axis in seconds, above 0.
        thumbnail: a picture of the scene (H, W, 3) RGB uint8; the objects' paths are drawn on it, so it must
            have the tracks' pixel size. None leaves it out.
        title: first line, for example the video's name.
        width: of the picture in pixels.

    Raises:
        ValueError: `duration_s` is not above 0.
        StorageError: the file cannot be written.
    """
    if duration_s <= 0:
        raise ValueError(f"duration_s must be above 0, got {duration_s}")
    rows = _chosen(objects.to_pylist())
    told = events.to_pylist()
    labels = list(dict.fromkeys(event["label"] for event in told))
    scene = None if thumbnail is None else _with_paths(thumbnail, tracks)
    layout = _layout(width, len(rows), len(labels), duration_s, scene)
    sheet = Sheet(width, layout.height)
    _head(sheet, layout, title, objects, told, scene)
    _axis(sheet, layout)
    _object_rows(sheet, layout, rows, told, tracks)
    _event_rows(sheet, layout, len(rows), labels, told)
    if len(rows) < objects.num_rows:
        note = f"and {objects.num_rows - len(rows)} shorter ones"
        sheet.text(note, layout.left, layout.height - 12, 0.38, PALE_INK)
    _save(out_path, sheet.finished())
    return layout


def _chosen(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    longest = sorted(objects, key=lambda row: row["t_start"] - row["t_end"])[:MAX_ROWS]
    return sorted(longest, key=lambda row: (row["t_start"], row["track_id"]))


def _layout(
    width: int, num_objects: int, num_labels: int, duration_s: float, scene: Picture | None
) -> Layout:
    rows = num_objects + num_labels
    row_height = 24 if rows <= 40 else 15
    head = 64 if scene is None else 64 + round(_scene_width(width) * scene.shape[0] / scene.shape[1]) + 16
    height = head + rows * row_height + EVENTS_GAP_PX + 50
    return Layout(width, height, 200, width - 28, head, row_height, num_objects, duration_s)


def _scene_width(width: int) -> int:
    return min(480, width - 48)


def _with_paths(thumbnail: Picture, tracks: pa.Table) -> Picture:
    """The scene with the way of each object's bottom centre."""
    picture = np.ascontiguousarray(thumbnail).copy()
    thick = max(1, round(picture.shape[0] / 220))
    for path in paths(tracks):
        feet = np.stack([(path.boxes[:, 0] + path.boxes[:, 2]) / 2, path.boxes[:, 3]], axis=1)
        trail(picture, feet, class_colour(path.label), thick)
    return picture


def _head(
    sheet: Sheet,
    layout: Layout,
    title: str,
    objects: pa.Table,
    events: Sequence[dict[str, Any]],
    scene: Picture | None,
) -> None:
    sheet.text(title or "timeline", 24, 22, 0.62, INK)
    counts = dict.fromkeys(CLASS_COLOURS, 0)
    for name in objects["class"].to_pylist():
        counts[name] = counts.get(name, 0) + 1
    x = 24.0
    for name, count in counts.items():
        if count:
            sheet.mark(x + 5, 46, 5, class_colour(name))
            text = f"{count} {name}"
            sheet.text(text, x + 15, 46, 0.42, PALE_INK)
            x += 15 + text_size(text, 0.42)[0] + 22
    if events:
        sheet.mark(x + 5, 46, 5, EVENT_COLOUR)
        sheet.text(f"{len(events)} events", x + 15, 46, 0.42, PALE_INK)
    if scene is not None:
        wide = _scene_width(layout.width)
        tall = round(wide * scene.shape[0] / scene.shape[1])
        sheet.paste(scene, 24, 64, wide, tall)
        if layout.width > wide + 400:
            _listed(sheet, layout, wide + 56, tall, events)


def _listed(sheet: Sheet, layout: Layout, x: int, height: int, events: Sequence[dict[str, Any]]) -> None:
    """The first events in words, beside the scene."""
    fitting = max(height // 22, 1)
    for number, event in enumerate(sorted(events, key=lambda event: event["t_start"])[:fitting]):
        y = 64 + 11 + number * 22
        if number + 1 == fitting < len(events):
            sheet.text(f"and {len(events) - number} more", x + 90, y, 0.42, PALE_INK)
            return
        tracks = ", ".join(f"#{track}" for track in event["track_ids"] or ())
        direction = (event["direction"] or "").replace("_", " ")
        sheet.text(
            _clock(round(event["t_start"], 1), layout.duration_s), x + 66, y, 0.42, PALE_INK, right=True
        )
        sheet.mark(x + 80, y, 5, EVENT_COLOUR)
        sheet.text(f"{_short(event['label'], 26)}  {tracks}  {direction}".rstrip(), x + 92, y, 0.42, INK)


def _axis(sheet: Sheet, layout: Layout) -> None:
    bottom = layout.height - 44
    for t in _ticks(layout.duration_s):
        x = layout.x(t)
        sheet.bar(x, layout.first_row, x + 1, bottom, GRID)
        text = _clock(t, layout.duration_s)
        sheet.text(text, x - text_size(text, 0.38)[0] / 2, bottom + 12, 0.38, PALE_INK)


def _ticks(duration_s: float) -> list[float]:
    """Round times, some ten of them."""
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400):
        if duration_s / step <= 14:
            break
    else:
        step = 86400 / 6
    return [k * step for k in range(int(duration_s / step + 1e-9) + 1)]


def _clock(t: float, duration_s: float) -> str:
    if duration_s < 120:
        return f"{t:g} s" if t == round(t) else f"{t:.1f} s"
    minutes, seconds = divmod(round(t), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if duration_s >= 3600 else f"{minutes}:{seconds:02}"


def _object_rows(
    sheet: Sheet,
    layout: Layout,
    rows: list[dict[str, Any]],
    events: Sequence[dict[str, Any]],
    tracks: pa.Table,
) -> None:
    ways = {path.track_id: path for path in paths(tracks)}
    for number, row in enumerate(rows):
        top, bottom = layout.row(number)
        _stripe(sheet, layout, number)
        middle, half = (top + bottom) / 2, layout.row_height * 0.3
        colour = class_colour(row["class"])
        size = 0.42 if layout.row_height > 20 else 0.32
        sheet.text(f"{row['class']} {row['track_id']}", layout.left - 14, middle, size, INK, right=True)
        x1, x2 = layout.x(row["t_start"]), max(layout.x(row["t_end"]), layout.x(row["t_start"]) + 2)
        sheet.bar(x1, middle - half, x2, middle + half, colour)
        way = ways.get(row["track_id"])
        if way is not None:
            _pale(sheet, layout, way.times, way.observed, middle, half, colour)
        for event in events:
            if row["track_id"] in (event["track_ids"] or ()):
                sheet.mark(layout.x(event["t_start"]), middle, half + 1, EVENT_COLOUR)


def _stripe(sheet: Sheet, layout: Layout, number: int) -> None:
    """Every second row is shaded; the time axis' lines stay visible."""
    top, bottom = layout.row(number)
    if number % 2 == 0:
        sheet.bar(0, top, layout.width, bottom, STRIPE)
    for t in _ticks(layout.duration_s):
        sheet.bar(layout.x(t), top, layout.x(t) + 1, bottom, GRID)


def _pale(
    sheet: Sheet, layout: Layout, times: Any, observed: Any, middle: float, half: float, colour: Colour
) -> None:
    """Lighten the stretches whose boxes were filled in."""
    red, green, blue = (round(c + (255 - c) * 0.6) for c in colour)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~observed, [False]]).astype(np.int8)))
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        first, last = times[max(a - 1, 0)], times[min(b, len(times) - 1)]
        sheet.bar(layout.x(first), middle - half, layout.x(last), middle + half, (red, green, blue))


def _event_rows(
    sheet: Sheet, layout: Layout, skip: int, labels: list[str], events: Sequence[dict[str, Any]]
) -> None:
    for number, label in enumerate(labels):
        top, bottom = layout.row(skip + number)
        _stripe(sheet, layout, skip + number)
        middle, half = (top + bottom) / 2, layout.row_height * 0.3
        size = 0.42 if layout.row_height > 20 else 0.32
        sheet.text(_short(label, 22), layout.left - 14, middle, size, EVENT_COLOUR, right=True)
        for event in (event for event in events if event["label"] == label):
            x1, x2 = layout.x(event["t_start"]), layout.x(event["t_end"])
            if x2 > x1:
                sheet.bar(x1, middle - half * 0.6, x2, middle + half * 0.6, (255, 190, 208))
            sheet.mark(x1, middle, half + 1, EVENT_COLOUR)


def _short(text: str, length: int) -> str:
    text = plain(text)
    return text if len(text) <= length else text[: length - 2] + ".."


def _save(path: Path, picture: Picture) -> None:
    done, data = cv2.imencode(".png", picture[..., ::-1])
    if not done:
        raise StorageError(f"{path} cannot be encoded as PNG")
    with os_errors_as(StorageError, f"{path} cannot be written"):
        path.write_bytes(data.tobytes())
