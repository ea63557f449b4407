"""Borders: a line or the edge of a zone as a signed distance, and where a step passes it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import shapely

from pipeline.config import Point, Rule

Array = npt.NDArray[np.float64]

_EDGE_PX = 1.0
"""A corner this near to the edge is meant to lie on it: the last pixel's number is the width - 1."""


class Border(Protocol):
    """Something with two sides: negative and positive."""

    def signed_px(self, x: Array, y: Array) -> Array:
        """Distance in pixels, (N,) from (N,) and (N,); positive on the positive side, 0 on the border."""
        ...

    def passage(self, a: Array, b: Array) -> tuple[float, bool]:
        """Where the step from `a` to `b`, each (2,), passes the border for the last time.

        Returns:
            Share of the step in 0..1, and whether that is on the drawn part of the border.
        """
        ...

    def band_px(self, hysteresis_px: Array) -> Array:
        """How far beyond the border an anchor must be to have passed it, (N,) from the wish (N,)."""
        ...


@dataclass(frozen=True)
class Line:
    """A segment from `start` to `end`; its right side, seen from start to end as displayed, is positive.

    `reach` is the range of the position along the line, 0 at the start and 1 at the end, that counts;
    an end at the edge of the picture reaches beyond it.
    """

    start: Array
    end: Array
    reach: tuple[float, float]

    def signed_px(self, x: Array, y: Array) -> Array:
        along = self.end - self.start
        # y points down, so a positive cross product is to the right.
        cross = along[0] * (y - self.start[1]) - along[1] * (x - self.start[0])
        return np.asarray(cross / np.hypot(*along))

    def passage(self, a: Array, b: Array) -> tuple[float, bool]:
        before, after = self.signed_px(*np.stack([a, b], axis=1))
        share = float(before / (before - after)) if before != after else 0.0
        along = self.end - self.start
        position = float(np.dot(a + share * (b - a) - self.start, along) / np.dot(along, along))
        return share, self.reach[0] <= position <= self.reach[1]

    def band_px(self, hysteresis_px: Array) -> Array:
        return hysteresis_px


@dataclass(frozen=True)
class Zone:
    """A polygon, positive inside. `max_band_px` keeps a small zone enterable by a large object."""

    polygon: Any  # shapely.Polygon
    max_band_px: float

    def signed_px(self, x: Array, y: Array) -> Array:
        distance = shapely.distance(self.polygon.boundary, shapely.points(x, y))
        return np.asarray(np.where(shapely.contains_xy(self.polygon, x, y), distance, -distance))

    def passage(self, a: Array, b: Array) -> tuple[float, bool]:
        step = shapely.LineString([a, b])
        meets = shapely.get_coordinates(step.intersection(self.polygon.boundary))
        if not len(meets) or step.length == 0:
            return 0.0, True
        return float(max(np.hypot(*(meets - a).T)) / step.length), True

    def band_px(self, hysteresis_px: Array) -> Array:
        return np.minimum(hysteresis_px, self.max_band_px)


def line_of(rule: Rule, frame_size: tuple[int, int]) -> Line:
    """The line of a rule in displayed pixels."""
    if rule.line is None:
        raise ValueError(f"rule {rule.name!r} has no line")
    start, end = _pixels(rule.line, rule, frame_size)
    low = -np.inf if _at_edge(start, frame_size) else 0.0
    high = np.inf if _at_edge(end, frame_size) else 1.0
    return Line(start, end, (low, high))


def way_of(rule: Rule, frame_size: tuple[int, int]) -> Array:
    """Unit vector (2,) from the first point of the rule's line to its second, as displayed."""
    if rule.line is None:
        raise ValueError(f"rule {rule.name!r} has no line")
    start, end = _pixels(rule.line, rule, frame_size)
    return np.asarray((end - start) / np.hypot(*(end - start)))


def zone_of(rule: Rule, frame_size: tuple[int, int]) -> Zone:
    """The zone of a rule in displayed pixels, going on outside the picture where it touches its edge."""
    if rule.zone is None:
        raise ValueError(f"rule {rule.name!r} has no zone")
    polygon = shapely.Polygon(_pixels(rule.zone, rule, frame_size))
    inner_px = shapely.maximum_inscribed_circle(polygon).length
    whole = _beyond_the_picture(polygon, frame_size)
    shapely.prepare(whole)
    return Zone(whole, inner_px / 2)


def _pixels(points: tuple[Point, ...], rule: Rule, frame_size: tuple[int, int]) -> Array:
    scale = np.asarray(frame_size if rule.units == "normalised" else (1, 1), np.float64)
    return np.asarray(points, np.float64) * scale


def _at_edge(point: Array, frame_size: tuple[int, int]) -> bool:
    size = np.asarray(frame_size, np.float64)
    return bool(np.any((point <= _EDGE_PX) | (point >= size - _EDGE_PX)))


def _beyond_the_picture(polygon: Any, frame_size: tuple[int, int]) -> Any:
    """The polygon and, outside each stretch of it that lies on the edge of the picture, a strip."""
    width, height = frame_size
    margin = float(width + height)
    parts = [polygon]
    corners = np.asarray(polygon.exterior.coords)
    for a, b in pairwise(corners):
        for axis, limit in ((0, width), (1, height)):
            along = 1 - axis
            length = (width, height)[along]
            low, high = sorted((a[along], b[along]))
            # A strip that begins in a corner of the picture covers the outside of the corner too.
            low = -margin if low <= _EDGE_PX else low
            high = length + margin if high >= length - _EDGE_PX else high
            if max(a[axis], b[axis]) <= _EDGE_PX:
                span = (-margin, max(a[axis], b[axis]))
            elif min(a[axis], b[axis]) >= limit - _EDGE_PX:
                span = (min(a[axis], b[axis]), limit + margin)
            else:
                continue
            parts.append(_box(axis, span, (low, high)))
    return shapely.union_all(parts)


def _box(axis: int, across: tuple[float, float], along: tuple[float, float]) -> Any:
    if axis == 0:
        return shapely.box(across[0], along[0], across[1], along[1])
    return shapely.box(along[0], across[0], along[1], across[1])
