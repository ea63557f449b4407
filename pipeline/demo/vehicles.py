"""Vehicles: bodies lofted through cross-sections, with glass, wheels and lamps, drawn from any side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from pipeline.demo.camera import Floats
from pipeline.demo.mesh import Bar, Face, Mesh, Solid, Wheel, circle
from pipeline.demo.raster import Colour, darker

GLASS: Colour = (22, 26, 31)
RUBBER: Colour = (26, 26, 27)
SKY: Colour = (196, 208, 220)


@dataclass(frozen=True)
class Vehicle:
    """How a vehicle looks: class, shape, size in metres, colours RGB 0 to 255."""

    label: str = "car"  # car, bus, truck, cycle
    shape: str = "sedan"  # a key of CARS; bus, van, lorry, tipper, bicycle, motorcycle
    length_m: float = 4.5
    width_m: float = 1.8
    height_m: float = 1.45
    paint: Colour = (150, 30, 30)
    trim: Colour = (40, 40, 44)
    lamps: bool = False
    seed: int = 0


Station = tuple[float, float, float, float, float, float, str]
"""A cross-section: x as a fraction of the length; bottom, belt and top of the height; half widths at the belt
and at the roof of the half width; and what lies between it and the next one: b bonnet or boot, s screen,
g side windows, p pillar.
"""

CARS: dict[str, tuple[Station, ...]] = {
    "sedan": (
        (-0.5, 0.26, 0.55, 0.6, 0.86, 0.78, "b"), (-0.475, 0.19, 0.62, 0.68, 0.96, 0.84, "b"),
        (-0.35, 0.17, 0.64, 0.7, 1.0, 0.86, "s"), (-0.19, 0.17, 0.64, 0.96, 1.0, 0.7, "g"),
        (-0.02, 0.17, 0.63, 1.0, 1.0, 0.73, "p"), (0.01, 0.17, 0.63, 1.0, 1.0, 0.73, "g"),
        (0.12, 0.17, 0.62, 0.96, 1.0, 0.71, "s"), (0.27, 0.17, 0.61, 0.66, 1.0, 0.84, "b"),
        (0.4, 0.17, 0.6, 0.645, 0.99, 0.84, "b"), (0.48, 0.17, 0.55, 0.595, 0.95, 0.8, "b"),
        (0.5, 0.2, 0.49, 0.54, 0.87, 0.75, ""),
    ),
    "hatch": (
        (-0.5, 0.25, 0.55, 0.62, 0.88, 0.8, "b"), (-0.48, 0.18, 0.62, 0.68, 0.96, 0.82, "s"),
        (-0.4, 0.17, 0.63, 0.95, 1.0, 0.68, "p"), (-0.33, 0.17, 0.63, 0.98, 1.0, 0.71, "g"),
        (-0.08, 0.17, 0.62, 1.0, 1.0, 0.74, "p"), (-0.05, 0.17, 0.62, 1.0, 1.0, 0.74, "g"),
        (0.1, 0.17, 0.6, 0.96, 1.0, 0.72, "s"), (0.28, 0.17, 0.6, 0.67, 1.0, 0.85, "b"),
        (0.45, 0.17, 0.57, 0.62, 0.97, 0.82, "b"), (0.5, 0.2, 0.5, 0.55, 0.88, 0.76, ""),
    ),
    "suv": (
        (-0.5, 0.26, 0.56, 0.62, 0.9, 0.82, "b"), (-0.485, 0.2, 0.6, 0.66, 0.98, 0.86, "s"),
        (-0.44, 0.18, 0.62, 0.95, 1.0, 0.76, "g"), (-0.24, 0.18, 0.62, 0.99, 1.0, 0.79, "p"),
        (-0.21, 0.18, 0.62, 0.99, 1.0, 0.79, "g"), (-0.02, 0.18, 0.61, 1.0, 1.0, 0.8, "p"),
        (0.01, 0.18, 0.61, 1.0, 1.0, 0.8, "g"), (0.14, 0.18, 0.6, 0.96, 1.0, 0.77, "s"),
        (0.26, 0.18, 0.6, 0.67, 1.0, 0.88, "b"), (0.44, 0.19, 0.57, 0.62, 0.98, 0.84, "b"),
        (0.5, 0.26, 0.46, 0.5, 0.86, 0.78, ""),
    ),
    "van": (
        (-0.5, 0.16, 0.55, 0.97, 0.96, 0.88, "b"), (-0.485, 0.14, 0.55, 1.0, 1.0, 0.9, "b"),
        (0.05, 0.14, 0.52, 1.0, 1.0, 0.9, "p"), (0.09, 0.14, 0.5, 0.99, 1.0, 0.9, "g"),
        (0.24, 0.14, 0.48, 0.92, 1.0, 0.86, "s"), (0.38, 0.14, 0.46, 0.52, 1.0, 0.86, "b"),
        (0.48, 0.15, 0.38, 0.42, 0.94, 0.8, "b"), (0.5, 0.2, 0.34, 0.37, 0.86, 0.76, ""),
    ),
}  # fmt: skip
CARS["estate"] = CARS["hatch"][:6] + CARS["sedan"][6:]


def _face(
    points: Iterable[Iterable[float]], away_from: Floats, colour: Colour, gloss: float = 0.0
) -> Face | None:
    corners = np.array([list(p) for p in points], np.float32)
    normal = np.cross(corners[2] - corners[0], corners[3 % len(corners)] - corners[1])
    size = float(np.linalg.norm(normal))
    if size < 1e-6:
        return None
    normal = normal / size
    if float(np.dot(normal, corners.mean(axis=0) - away_from)) < 0:
        normal = -normal
    return Face(corners, normal.astype(np.float32), colour, gloss)


def _ring(station: Station, vehicle: Vehicle) -> Floats:
    """Cross-section (RING, 3), from the lower left edge over the roof to the lower right."""
    x, bottom, belt, top, wide, roof, _ = station
    half, tall = vehicle.width_m / 2, vehicle.height_m
    middle = bottom + 0.55 * (belt - bottom)
    crown = min(0.06, 0.5 * (top - belt))
    edge = [
        (0.82 * wide, bottom), (0.96 * wide, bottom + 0.07), (wide, middle),
        (0.985 * wide, belt - 0.2 * (belt - middle)), (0.94 * wide, belt), (roof * wide, top - crown),
        (0.9 * roof * wide, top - 0.35 * crown), (0.6 * roof * wide, top),
    ]  # fmt: skip
    left = [(x * vehicle.length_m, w * half, z * tall) for w, z in edge]
    return np.array(left + [(a, -b, c) for a, b, c in reversed(left)], np.float32)


RING = 16
SIDE_GLASS = (4, 10)
"""Strips of a cross-section, counted from its lower left edge, that are side windows; screens lie between."""


def _smooth(stations: tuple[Station, ...]) -> list[Station]:
    """Twice as many stations, on curves (Catmull-Rom) through the given ones."""
    values = np.array([station[:6] for station in stations])
    padded = np.vstack([2 * values[0] - values[1], values, 2 * values[-1] - values[-2]])
    finer: list[Station] = []
    for k, station in enumerate(stations):
        finer.append(station)
        if k + 1 < len(stations):
            a, b, c, d = padded[k : k + 4]
            middle = (9 * (b + c) - a - d) / 16
            middle[1:] = np.clip(middle[1:], np.minimum(b, c)[1:] - 0.01, np.maximum(b, c)[1:] + 0.01)
            x, bottom, belt, top, wide, roof = (float(v) for v in middle)
            finer.append((x, bottom, belt, top, wide, roof, station[6]))
    return finer


def _loft(vehicle: Vehicle, stations: tuple[Station, ...]) -> list[Face]:
    """Skin between the cross-sections, with screens and side windows of glass, and both ends."""
    finer = _smooth(stations) if len(stations) > 4 else list(stations)
    rings = [_ring(station, vehicle) for station in finer]
    faces: list[Face | None] = []
    for near, far, station in zip(rings, rings[1:], finer, strict=False):
        inside = (near.mean(axis=0) + far.mean(axis=0)) / 2
        kind = station[6]
        for k in range(RING - 1):
            colour, gloss = vehicle.paint, 0.35
            if k in (0, RING - 2):
                colour, gloss = vehicle.trim, 0.0
            elif (kind == "g" and k in SIDE_GLASS) or (kind == "s" and SIDE_GLASS[0] < k < SIDE_GLASS[1]):
                colour, gloss = GLASS, 1.0
            faces.append(_face((near[k], near[k + 1], far[k + 1], far[k]), inside, colour, gloss))
    centre = np.mean([ring.mean(axis=0) for ring in rings], axis=0)
    for ring in (rings[0], rings[-1]):
        for k in range(RING // 2 - 1):
            colour = vehicle.trim if k == 0 else vehicle.paint
            faces.append(
                _face((ring[k], ring[k + 1], ring[RING - 2 - k], ring[RING - 1 - k]), centre, colour, 0.2)
            )
    return [face for face in faces if face is not None]


def _plate(
    x: float,
    y: tuple[float, float],
    z: tuple[float, float],
    colour: Colour,
    glow: bool = False,
    gloss: float = 0.0,
) -> Face:
    """A rectangle that faces forward (x > 0) or backward."""
    corners = [(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])]
    return Face(np.array(corners, np.float32), np.array([np.sign(x), 0, 0], np.float32), colour, gloss, glow)


def _panel(
    x: tuple[float, float], y: float, z: tuple[float, float], colour: Colour, gloss: float = 0.0
) -> Face:
    """A rectangle that faces left (y > 0) or right."""
    corners = [(x[0], y, z[0]), (x[1], y, z[0]), (x[1], y, z[1]), (x[0], y, z[1])]
    return Face(np.array(corners, np.float32), np.array([0, np.sign(y), 0], np.float32), colour, gloss)


def _lamps(vehicle: Vehicle, z: float, size: float) -> list[Face]:
    length, half = vehicle.length_m / 2, vehicle.width_m / 2
    faces = []
    for side in (1, -1):
        outer, inner = side * half * 0.84, side * half * 0.5
        front: Colour = (255, 248, 225) if vehicle.lamps else (205, 210, 212)
        rear: Colour = (230, 40, 30) if vehicle.lamps else (140, 24, 22)
        faces.append(_plate(length + 0.01, (inner, outer), (z - size, z + size), front, vehicle.lamps))
        faces.append(
            _plate(-length - 0.01, (side * half * 0.62, outer), (z, z + 2.2 * size), rear, vehicle.lamps)
        )
    for end in (1, -1):
        at, width = end * (length + 0.02), 0.26
        faces.append(_plate(at, (-width, width), (0.27 * 1.45, 0.27 * 1.45 + 0.12), (214, 214, 206)))
    faces.append(
        _plate(length + 0.015, (-half * 0.48, half * 0.48), (z - 0.6 * size, z + 0.6 * size), (34, 34, 36))
    )
    return faces


def _car(vehicle: Vehicle) -> Mesh:
    stations = CARS[vehicle.shape]
    length, half, tall = vehicle.length_m, vehicle.width_m / 2, vehicle.height_m
    details = _lamps(vehicle, 0.4 * tall if vehicle.shape != "van" else 0.27 * tall, 0.06)
    seam = darker(vehicle.paint, 0.45)
    for side in (1, -1):
        for x in (-0.03, 0.2) if vehicle.shape != "van" else (0.06, 0.27):
            details.append(
                _panel((x * length, x * length + 0.02), side * half, (0.24 * tall, 0.58 * tall), seam)
            )
            details.append(
                _panel((x * length - 0.28, x * length - 0.14), side * half, (0.55 * tall, 0.57 * tall), seam)
            )
        mirror_x = stations[-4][0] * length
        details.append(
            _panel(
                (mirror_x - 0.1, mirror_x + 0.05),
                side * (half + 0.12),
                (0.6 * tall, 0.68 * tall),
                vehicle.paint,
            )
        )
    radius = 0.215 * min(tall, 1.55)
    wheels = tuple(Wheel(x * length, side * half * 0.98, radius) for x in (-0.3, 0.32) for side in (1, -1))
    return Mesh((Solid(tuple(_loft(vehicle, stations)), tuple(details)),), wheels)


def _box(
    vehicle: Vehicle, x: tuple[float, float], z: tuple[float, float], colour: Colour, wide: float = 1.0
) -> Solid:
    """A box with slightly rounded edges between these metres."""
    low, high, tall = x[0] / vehicle.length_m, x[1] / vehicle.length_m, vehicle.height_m
    bottom, top = z[0] / tall, z[1] / tall
    belt = bottom + 0.5 * (top - bottom)
    inset = 0.02 * (high - low)
    stations: tuple[Station, ...] = (
        (low, bottom, belt, top - 0.015, 0.97 * wide, 0.97, "b"),
        (low + inset, bottom, belt, top, wide, 0.985, "b"),
        (high - inset, bottom, belt, top, wide, 0.985, "b"),
        (high, bottom, belt, top - 0.02, 0.96 * wide, 0.96, ""),
    )  # fmt: skip
    return Solid(tuple(_loft(replace(vehicle, paint=colour), stations)))


def _bus(vehicle: Vehicle) -> Mesh:
    length, half, tall = vehicle.length_m, vehicle.width_m / 2, vehicle.height_m
    body = _box(vehicle, (-length / 2, length / 2), (0.3, tall), vehicle.paint)
    details = _lamps(vehicle, 0.27 * tall, 0.11)
    panes = max(4, round(length / 1.6))
    pane = 0.94 * length / panes
    for side in (1, -1):
        y = side * (half + 0.005)
        details.append(_panel((-length * 0.49, length * 0.49), y, (0.36 * tall, 0.42 * tall), vehicle.trim))
        for k in range(panes):
            x = -0.47 * length + k * pane
            details.append(_panel((x + 0.06, x + pane - 0.06), y, (0.46 * tall, 0.82 * tall), GLASS, 1.0))
    for x in (0.3 * length, -0.12 * length):
        details.append(_panel((x, x + 1.1), -half - 0.008, (0.14 * tall, 0.82 * tall), (44, 48, 52), 0.8))
    front, rear = length / 2 + 0.01, -length / 2 - 0.01
    details.append(_plate(front, (-0.9 * half, 0.9 * half), (0.4 * tall, 0.84 * tall), GLASS, gloss=1.0))
    details.append(
        _plate(front + 0.01, (-0.7 * half, 0.7 * half), (0.87 * tall, 0.95 * tall), (210, 150, 40))
    )
    details.append(_plate(rear, (-0.8 * half, 0.8 * half), (0.5 * tall, 0.82 * tall), GLASS, gloss=1.0))
    wheels = tuple(Wheel(x * length, side * half, 0.48) for x in (-0.26, 0.3) for side in (1, -1))
    return Mesh((Solid(body.faces, tuple(details)),), wheels)


def _lorry(vehicle: Vehicle) -> Mesh:
    length, half, tall = vehicle.length_m, vehicle.width_m / 2, vehicle.height_m
    cab_length = min(2.0, 0.3 * length)
    split = length / 2 - cab_length
    cab_top = tall * (0.86 if vehicle.shape == "lorry" else 0.98)
    cab = _box(vehicle, (split, length / 2), (0.42, cab_top), vehicle.paint, 0.95)
    details = _lamps(vehicle, 0.75, 0.1)
    front = length / 2 + 0.012
    details.append(
        _plate(front, (-0.82 * half, 0.82 * half), (0.52 * cab_top, 0.86 * cab_top), GLASS, gloss=1.0)
    )
    details.append(_plate(front, (-0.6 * half, 0.6 * half), (0.28 * cab_top, 0.44 * cab_top), vehicle.trim))
    for side in (1, -1):
        y = side * (half * 0.955)
        details.append(
            _panel(
                (split + 0.35 * cab_length, split + 0.9 * cab_length),
                y,
                (0.52 * cab_top, 0.84 * cab_top),
                GLASS,
                1.0,
            )
        )
        details.append(
            _panel(
                (split + 0.28 * cab_length, split + 0.28 * cab_length + 0.03),
                y,
                (0.25 * cab_top, 0.86 * cab_top),
                vehicle.trim,
            )
        )
    load_colour: Colour = vehicle.trim if vehicle.shape == "tipper" else (206, 206, 202)
    if vehicle.shape == "lorry" and vehicle.seed % 3 == 0:
        load_colour = vehicle.paint
    load = _box(
        vehicle,
        (-length / 2, split - 0.12),
        (0.95, tall if vehicle.shape == "lorry" else 0.72 * tall),
        load_colour,
    )
    marks = []
    if vehicle.shape == "tipper":
        for side in (1, -1):
            for k in range(6):
                x = -length / 2 + (k + 0.4) * (split + length / 2) / 6
                marks.append(
                    _panel(
                        (x, x + 0.1),
                        side * (half + 0.01),
                        (1.0, 0.72 * tall),
                        darker(load_colour, 0.7),
                    )
                )
    elif vehicle.seed % 2:
        for side in (1, -1):
            marks.append(
                _panel(
                    (-0.42 * length, split - 0.5),
                    side * (half + 0.01),
                    (0.5 * tall, 0.68 * tall),
                    vehicle.paint,
                )
            )
    marks.append(_plate(-length / 2 - 0.02, (-0.02, 0.02), (1.0, 0.7 * tall), (70, 70, 72)))
    frame = _box(vehicle, (-length / 2, split + 0.3), (0.5, 0.95), (40, 40, 42), 0.8)
    wheels = tuple(Wheel(x * length, s * half, 0.48, False) for x in (-0.36, -0.24, 0.36) for s in (1, -1))
    return Mesh((frame, Solid(load.faces, tuple(marks)), Solid(cab.faces, tuple(details))), wheels)


def _line(*points: tuple[float, float, float]) -> Floats:
    return np.array(points, np.float32)


def _cycle(vehicle: Vehicle) -> Mesh:
    motor = vehicle.shape == "motorcycle"
    reach, radius = vehicle.length_m / 2, 0.3 if motor else 0.34
    hub = reach - radius
    bars = []
    for x in (-hub, hub):
        rim = circle(x, 0, radius, radius, 24)
        bars.append(Bar(np.concatenate([rim, rim[:1]]), 0.11 if motor else 0.045, RUBBER))
        if not motor:
            for k in range(0, 12, 3):
                bars.append(Bar(np.stack([rim[k], rim[k + 12]]), 0.008, (150, 150, 150)))
    crank, seat, head = (-0.05, 0.0, 0.3), (-0.2, 0.0, 0.82), (0.36, 0.0, 0.86)
    width = 0.07 if motor else 0.04
    for points in (
        _line((-hub, 0, radius), crank, head), _line((-hub, 0, radius), seat, head), _line(crank, seat),
        _line(head, (hub, 0, radius)),
    ):  # fmt: skip
        bars.append(Bar(points, width, vehicle.paint))
    bars.append(Bar(_line((0.33, 0.3, 1.0), (0.38, 0, 0.98), (0.33, -0.3, 1.0)), 0.035, (40, 40, 42)))
    bars.append(Bar(_line((-0.32, 0, 0.88), (-0.1, 0, 0.87)), 0.1, (30, 30, 32)))
    if not motor:
        return Mesh((), (), tuple(bars))
    tank = replace(vehicle, length_m=1.5, width_m=0.42, height_m=0.95)
    body = _box(tank, (-0.62, 0.4), (0.45, 0.84), vehicle.paint, 0.9)
    details = (_plate(0.45, (-0.12, 0.12), (0.72, 0.92), (230, 226, 210), vehicle.lamps),)
    return Mesh((Solid(body.faces, details),), (), tuple(bars))


@lru_cache(maxsize=256)
def mesh(vehicle: Vehicle) -> Mesh:
    """The vehicle's surfaces in its own metres: x forward, y left, z up from the ground, centre at 0."""
    if vehicle.shape in CARS:
        return _car(vehicle)
    if vehicle.shape == "bus":
        return _bus(vehicle)
    return _cycle(vehicle) if vehicle.label == "cycle" else _lorry(vehicle)
