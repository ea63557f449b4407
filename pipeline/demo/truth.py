"""What is true of the demo's scene: boxes as drawn, objects, and events computed from the paths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.demo.camera import Camera, Floats
from pipeline.demo.scene import (
    DWELL_S,
    PAVEMENT_LINE,
    ROAD_LINE,
    SHOP_ZONE,
    STEP_S,
    STOPPED_S,
    Actor,
    Spot,
    demo_camera,
    in_picture,
)
from pipeline.lake.schema import TRACKS

TRUE_TRACKS = pa.schema(
    [
        *TRACKS,
        pa.field(
            "visibility", pa.float32(), metadata={"comment": "share of the figure that is seen, 0 to 1"}
        ),
    ]
)
"""TRACKS of what was drawn, every frame: whole figures, clipped at the picture's border; `score` is 1 and
`observed` says whether at least SEEN of the figure shows."""

SEEN = 0.35

TRUE_OBJECTS = pa.schema(
    [
        ("track_id", pa.int64()),
        ("class", pa.string()),
        ("name", pa.string()),
        ("t_start", pa.float64()),
        ("t_end", pa.float64()),
        ("num_frames", pa.int64()),
    ]
)
"""A row per figure; times of the first and last frame in which it is observed."""

TRUE_EVENTS = pa.schema(
    [
        ("label", pa.string()),
        ("kind", pa.string()),
        ("track_id", pa.int64()),
        ("t_start", pa.float64()),
        ("t_end", pa.float64()),
        ("direction", pa.string()),
    ]
)
"""What the rules of `demo_rules` should find. Line crossings and entries have t_start = t_end."""


@dataclass(frozen=True)
class DemoTruth:
    """The three tables, and the picture's size, rate and length that they hold for."""

    tracks: pa.Table
    objects: pa.Table
    events: pa.Table
    width: int
    height: int
    fps: int
    duration_s: float


# -- the rules ---------------------------------------------------------------------------------------------


def _points(spots: Iterable[Spot], camera: Camera) -> str:
    return (
        "[" + ", ".join(f"[{x:.4f}, {y:.4f}]" for x, y in (in_picture(spot, camera) for spot in spots)) + "]"
    )


def demo_rules() -> str:
    """The config (TOML) whose rules find the demo's events; coordinates are normalised."""
    camera = demo_camera()
    line, road, zone = (_points(spots, camera) for spots in (PAVEMENT_LINE, ROAD_LINE, SHOP_ZONE))
    return f"""\
# Rules of marey's demo: what happens on the rendered street.

[[rules]]
name = "pavement"
kind = "line_crossing"
line = {line}
classes = ["person"]

[[rules]]
name = "road"
kind = "line_crossing"
line = {road}
classes = ["car", "bus", "truck"]

[[rules]]
name = "at the shop"
kind = "zone_entry"
zone = {zone}
classes = ["person"]

[[rules]]
name = "looks at the shop"
kind = "dwell"
zone = {zone}
classes = ["person"]
min_duration_s = {DWELL_S}

[[rules]]
name = "car stops"
kind = "stopped"
classes = ["car", "bus", "truck"]
min_duration_s = {STOPPED_S}
"""


# -- events from the paths ---------------------------------------------------------------------------------


def _times(actor: Actor, t_end: float) -> Floats:
    """Seconds at which an actor's path is looked at: of the scene's first `t_end`, those it is there."""
    return np.arange(max(actor.path[0][0], 0.0), min(actor.path[-1][0], t_end), STEP_S)


def crossings(actor: Actor, line: tuple[Spot, Spot], t_end: float) -> list[tuple[float, str]]:
    """Times at which an actor crosses a line that runs straight across the street, and which way.

    Lines run from left to right in the picture; seen along one, its left is away from the camera, so who
    comes nearer crosses `left_to_right`.
    """
    (left, level), (right, _) = line
    t = _times(actor, t_end)
    spots = actor.spots(t)
    beyond = spots[:, 1] > level
    found = []
    for k in np.flatnonzero(beyond[1:] != beyond[:-1]):
        if left <= spots[k, 0] <= right:
            before, after = spots[k, 1] - level, spots[k + 1, 1] - level
            time = float(t[k] + STEP_S * before / (before - after))
            found.append((time, "left_to_right" if beyond[k] else "right_to_left"))
    return found


def _stays(t: Floats, holds: Floats) -> list[tuple[float, float]]:
    """The intervals in which a condition holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], holds, [False]]).astype(np.int8)))
    return [(float(t[a]), float(t[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def stays_in_zone(actor: Actor, zone: tuple[Spot, ...], t_end: float) -> list[tuple[float, float]]:
    """When an actor is inside a zone whose sides run along and across the street."""
    low, high = np.min(zone, axis=0), np.max(zone, axis=0)
    t = _times(actor, t_end)
    spots = actor.spots(t)
    return _stays(t, ((spots > low) & (spots < high)).all(axis=1))


def stands(actor: Actor, t_end: float) -> list[tuple[float, float]]:
    """When an actor does not move."""
    t = _times(actor, t_end)
    if len(t) < 2:
        return []
    speed = np.linalg.norm(np.gradient(actor.spots(t), STEP_S, axis=0), axis=1)
    return _stays(t, speed < 0.05)  # m/s


def true_events(actors: Iterable[Actor], duration_s: float) -> pa.Table:
    """What happens in the scene's first `duration_s` seconds, in order of time."""
    rows: list[tuple[str, str, int, float, float, str | None]] = []
    for actor in actors:
        person = actor.figure.label == "person"
        label, line = ("pavement", PAVEMENT_LINE) if person else ("road", ROAD_LINE)
        for time, direction in crossings(actor, line, duration_s):
            rows.append((label, "line_crossing", actor.track_id, time, time, direction))
        if person:
            for start, end in stays_in_zone(actor, SHOP_ZONE, duration_s):
                rows.append(("at the shop", "zone_entry", actor.track_id, start, start, None))
                if end - start >= DWELL_S:
                    rows.append(("looks at the shop", "dwell", actor.track_id, start, end, None))
        else:
            for start, end in stands(actor, duration_s):
                if end - start >= STOPPED_S:
                    rows.append(("car stops", "stopped", actor.track_id, start, end, None))
    rows.sort(key=lambda row: row[3])
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[]] * 6, schema=TRUE_EVENTS)
