"""Rows of tracks as arrays, cut into the steps of single objects, and what rules find in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.config import Rule
from pipeline.rules.geometry import Array, Border

SAME_S = 1e-6
"""Times on a grid are sums of binary fractions: nearer than this is equal."""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Rows:
    """Rows of an update in the order of time, all arrays (N,); `row` counts over the whole video."""

    row: Ints
    track: Ints
    t: Array
    x: Array
    y_centre: Array
    y_bottom: Array
    height: Array
    score: Array
    kind: Names  # class, as known at each row

    @classmethod
    def of(cls, tracks: pa.Table, first_row: int) -> Rows:
        t, x1, y1, x2, y2, score = (
            tracks[name].to_numpy().astype(np.float64) for name in ("t", "x1", "y1", "x2", "y2", "score")
        )
        return cls(
            row=np.arange(first_row, first_row + tracks.num_rows),
            track=tracks["track_id"].to_numpy(),
            t=t,
            x=(x1 + x2) / 2,
            y_centre=(y1 + y2) / 2,
            y_bottom=y2,
            height=np.maximum(y2 - y1, 1.0),
            score=score,
            kind=tracks["class"].to_numpy(),
        )

    def wanted(self, rule: Rule) -> Bools:
        """Which rows are of the rule's classes, (N,)."""
        if not rule.classes:
            return np.ones(len(self.t), bool)
        return np.isin(self.kind, rule.classes)

    def anchor_y(self, rule: Rule) -> Array:
        return self.y_bottom if rule.anchor == "bottom" else self.y_centre


@dataclass(frozen=True)
class Steps:
    """Consecutive rows of one object, all arrays (N,), N >= 1.

    `t` seconds; `x`, `y` anchor and `height` in pixels; `signed` distance to the rule's border in pixels
    and `band` how far beyond it counts (both empty for a rule without border); `row` the number of the row
    in the video; `kind` the class as known there, and `wanted` whether it is one of the rule's.
    """

    t: Array
    x: Array
    y: Array
    height: Array
    score: Array
    signed: Array
    band: Array
    row: Ints
    kind: Names
    wanted: Bools


@dataclass(frozen=True)
class Finding:
    """An event; `row` is the number of the row at which it was certain, `tracks` the objects involved."""

    row: int
    t_start: float
    t_end: float
    t_peak: float
    score: float
    direction: str | None = None
    measured: dict[str, Any] = field(default_factory=dict)
    tracks: tuple[int, ...] = ()


class Follower(Protocol):
    """One rule on one object. Feeding rows in one piece or in many gives the same findings."""

    def push(self, steps: Steps) -> list[Finding]:
        """Take the object's next rows."""
        ...

    def end(self, row: int, over: bool) -> list[Finding]:
        """The object is gone; row `row` made it certain, or the video is `over`."""
        ...


def by_object(
    rule: Rule, border: Border | None, rows: Rows, apart_s: float, *, all_classes: bool = False
) -> Iterator[tuple[int, Steps]]:
    """Track and rows of each object, cut where it was away for too long.

    Rows of other classes than the rule's are left out, unless `all_classes` are asked for.
    """
    order = np.argsort(rows.track, kind="stable")
    wanted = rows.wanted(rule)
    order = order if all_classes else order[wanted[order]]
    if not len(order):
        return
    track, t = rows.track[order], rows.t[order]
    x, y, height = rows.x[order], rows.anchor_y(rule)[order], rows.height[order]
    signed = band = np.zeros(len(order))
    if border is not None:
        signed, band = border.signed_px(x, y), border.band_px(rule.hysteresis * height)
    cuts = [0, *(np.flatnonzero((track[1:] != track[:-1]) | (t[1:] - apart_s > t[:-1])) + 1), len(order)]
    score, row, kind = rows.score[order], rows.row[order], rows.kind[order]
    for begin, stop in pairwise(cuts):
        part = slice(begin, stop)
        steps = Steps(
            t[part], x[part], y[part], height[part], score[part], signed[part], band[part], row[part],
            kind[part], wanted[order[part]],
        )  # fmt: skip
        yield int(track[begin]), steps
