"""The page over many videos: how much happened where and when, and what failed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from heapq import nlargest
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.report import web
from pipeline.report.palette import Picture, class_colour, colour_text, fitted, trail
from pipeline.report.scene import first_picture, picture_of
from pipeline.report.survey import GRID, PICTURE_TRIES, Rows, Survey

SCRIPTS = ("report.js",)
SIZE = (640, 360)
"""Pixels of a camera's pictures where the scene's own are not known."""

MAX_BARS = 336  # hours; of more, days are shown
MAX_LISTED = 5000
"""Videos, and failures, that are listed, each some 200 bytes: a page of 200,000 has 42 MB."""

_BY_CAMERA = ("videos", "events", "presence", "frames", "heat", "paths")
"""What a camera's part of the page is made of."""

Counted = Mapping[datetime, float]


def write_overview(survey: Survey, out: Path, title: str) -> Path:
    """Write the page into a folder; returns its path.

    Videos and failures are listed, of many the newest. A video's row links to its page where
    `videos/<video_id>/index.html` is in the folder.

    Raises:
        StorageError: the page cannot be written.
    """
    cameras = sorted({row["camera"] for row in survey.videos}, key=lambda name: (name is None, name or ""))
    parts = by_camera(survey)
    videos = [
        {**row, "link": f"videos/{row['video_id']}/index.html" if _has_page(out, row) else None}
        for row in _newest(survey.videos, _recorded)
    ]
    page = web.render(
        "report.html",
        SCRIPTS,
        title=title,
        videos=videos,
        num_videos=len(survey.videos),
        hours=sum(row["duration_s"] or 0 for row in survey.videos) / 3600,
        num_events=sum(row["number"] for row in survey.events),
        cameras=[camera_part(parts[name], name) for name in cameras],
        crossings=survey.crossings,
        failures=_newest(survey.failures, itemgetter("committed_at")),
        num_failures=len(survey.failures),
    )
    web.write(out / "index.html", page)
    return out / "index.html"


def _newest(rows: Rows, when: Callable[[dict[str, Any]], datetime]) -> Rows:
    """Of too many rows the newest, in the order of all."""
    if len(rows) <= MAX_LISTED:
        return rows
    newest = set(nlargest(MAX_LISTED, range(len(rows)), key=lambda number: when(rows[number])))
    return [row for number, row in enumerate(rows) if number in newest]


def _recorded(row: Mapping[str, Any]) -> datetime:
    known: datetime | None = row["recorded_at"]
    return known if known is not None else datetime.combine(row["date"], time(), UTC)


def _has_page(out: Path, row: Mapping[str, Any]) -> bool:
    page: Path = out / "videos" / row["video_id"] / "index.html"
    return page.is_file()


def by_camera(survey: Survey) -> dict[str | None, Survey]:
    """The survey taken apart: with a thousand cameras nobody looks through all rows for each of them."""
    rows: dict[str | None, dict[str, Any]] = defaultdict(lambda: {name: [] for name in _BY_CAMERA})
    for name in _BY_CAMERA:
        for row in getattr(survey, name):
            rows[row["camera"]][name].append(row)
    return {camera: replace(survey, **own) for camera, own in rows.items()}


def camera_part(survey: Survey, camera: str | None) -> dict[str, Any]:
    """What the page shows of one camera."""
    events = _of(survey.events, camera)
    by_hour: Counter[datetime] = Counter()
    by_label: Counter[str] = Counter()
    for row in events:
        by_label[row["label"]] += row["number"]
        if row["hour"] is not None:
            by_hour[row["hour"]] += row["number"]
    boxes, frames = occupancy(_of(survey.presence, camera), _of(survey.frames, camera))
    means = {hour: boxes[hour] / frames[hour] for hour in frames}
    paths = _of(survey.paths, camera)
    scene = _scene(_of(survey.videos, camera))
    scene = scene if scene is not None else picture_of(survey.thumbnails.get(camera))
    return {
        "name": camera if camera is not None else "no camera",
        "labels": by_label.most_common(),
        "events": bars(by_hour),
        "occupancy": bars(boxes, frames),
        "classes": [(name, colour_text(name)) for name in sorted({row["class"] for row in paths})],
        "busiest": max(means.items(), key=lambda item: item[1], default=None),
        "heat": web.data_uri(heat_picture(_of(survey.heat, camera), scene)),
        "paths": web.data_uri(paths_picture(paths, scene)),
    }


def _of(rows: Rows, camera: str | None) -> Rows:
    return [row for row in rows if row["camera"] == camera]


def occupancy(presence: Rows, frames: Rows) -> tuple[Counted, Counted]:
    """Boxes and sampled frames by hour, of the hours that have frames; what has no time is left out."""
    known = {row["hour"]: row["frames"] for row in frames if row["hour"] is not None and row["frames"]}
    boxes = dict.fromkeys(known, 0.0)
    for row in presence:
        if row["hour"] in known:
            boxes[row["hour"]] += row["boxes"]
    return boxes, known


def bars(sums: Counted, per: Counted | None = None) -> dict[str, Any] | None:
    """Bars of a chart over the hours of the days from the first to the last; over days, if too many.

    Args:
        sums: by hour.
        per: by the same hours, where bars show means: a day's is its sum of `sums` by that of `per`.
    """
    if not sums:
        return None
    step = timedelta(hours=1)
    first, last = min(sums).replace(hour=0), max(sums).replace(hour=23)
    if (last - first) / step > MAX_BARS:
        step, sums, per = timedelta(days=1), _by_day(sums), None if per is None else _by_day(per)
        first, last = min(sums), max(sums)
    values = sums if per is None else {time: value / per[time] for time, value in sums.items()}
    times = [first + k * step for k in range(int((last - first) / step) + 1)]
    top = max(max(values.values()), 1e-9)
    shown = "%Y-%m-%d" if step.days else "%Y-%m-%d %H:00"
    return {
        "unit": "day" if step.days else "hour",
        "top": top,
        "first": first.strftime(shown),
        "last": last.strftime(shown),
        "bars": [(t.strftime(shown), values.get(t, 0.0), values.get(t, 0.0) / top) for t in times],
    }


def _by_day(values: Counted) -> dict[datetime, float]:
    found: dict[datetime, float] = defaultdict(float)
    for hour, value in values.items():
        found[hour.replace(hour=0)] += value
    return found


def _scene(videos: Sequence[Mapping[str, Any]]) -> Picture | None:
    """A picture of the camera's newest video that is at hand."""
    files = (Path(row["uri"]) for row in reversed(videos))
    there = (path for path in files if path.is_absolute() and path.is_file())
    found = (first_picture(path) for path in islice(there, PICTURE_TRIES))
    return next((picture for picture in found if picture is not None), None)


def _ground(scene: Picture | None) -> Picture:
    """The scene in greys and darker, so that colours stand out; plain where there is none."""
    if scene is None:
        return np.full((SIZE[1], SIZE[0], 3), 24, np.uint8)
    size = fitted(scene.shape[1], scene.shape[0], SIZE[0])
    small = cv2.resize(scene, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) // 2
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def heat_picture(heat: Rows, scene: Picture | None) -> Picture:
    """Where the feet of objects were, the warmer the longer, over the scene (H, W, 3), `fitted` to 640."""
    ground = _ground(scene)
    grid = np.zeros(GRID[::-1], np.float32)
    for row in heat:
        if row["gx"] is not None and row["gy"] is not None:
            gx, gy = min(max(row["gx"], 0), GRID[0] - 1), min(max(row["gy"], 0), GRID[1] - 1)
            grid[gy, gx] += row["boxes"]
    if not grid.any():
        return ground
    share = cv2.resize(np.sqrt(grid / grid.max()), ground.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    share = np.clip(share, 0, 1)
    colours = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = np.minimum(share * 1.5, 0.85)[..., None]
    return np.asarray(ground * (1 - weight) + colours * weight, np.uint8)


def paths_picture(paths: Iterable[Mapping[str, Any]], scene: Picture | None) -> Picture:
    """Ways that objects took, coloured by class, over the scene (H, W, 3), `fitted` to 640."""
    picture = _ground(scene)
    height, width = picture.shape[:2]
    for row in paths:
        if not row["width_px"] or not row["height_px"]:
            continue
        scale = np.array([width / row["width_px"], height / row["height_px"]])
        points = np.array([[point["x"], point["y"]] for point in row["trajectory"] or ()]).reshape(-1, 2)
        trail(picture, points * scale, class_colour(row["class"]), 1)
    return picture
