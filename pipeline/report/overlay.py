"""Drawing what is known of a moment on its frame: boxes, trails, rules, events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.config import Rule
from pipeline.report.motion import HOLD_S, Path, paths
from pipeline.report.palette import EVENT_COLOUR, RULE_COLOUR, Colour, Picture, class_colour, tag, tint, trail

TRAIL_S = 2.5
CAPTION_S = 2.0
"""Captions stay at least this long."""

MAX_CAPTIONS = 5


@dataclass(frozen=True)
class Caption:
    """An event as it is told in the picture, from `start` to `end` seconds."""

    start: float
    end: float
    text: str
    place: str | None
    track_ids: tuple[int, ...]


def captions(events: pa.Table) -> list[Caption]:
    """A caption for each row of an EVENTS table, in order of time."""
    told = [_caption(row) for row in events.to_pylist()]
    return sorted(told, key=lambda caption: caption.start)


def _caption(row: Mapping[str, Any]) -> Caption:
    parts = [f"{row['t_start']:.1f} s", row["label"]]
    if row["track_ids"]:
        parts.append("#" + ", #".join(str(number) for number in row["track_ids"]))
    if row["direction"]:
        parts.append(row["direction"].replace("_", " "))
    if row["t_end"] - row["t_start"] >= 0.05:
        parts.append(f"for {row['t_end'] - row['t_start']:.1f} s")
    end = max(row["t_end"], row["t_start"] + CAPTION_S)
    return Caption(
        row["t_start"], end, "  ".join(parts), row["zone"] or row["label"], tuple(row["track_ids"] or ())
    )


@dataclass(frozen=True)
class Shape:
    """A line or zone: points (N, 2) in displayed pixels, and the names of the rules that look at it."""

    points: npt.NDArray[np.float64]
    closed: bool
    names: list[str]


def shapes(rules: Sequence[Rule], width: int, height: int) -> list[Shape]:
    """The lines and zones of rules, each once, however many rules look at it."""
    found: dict[tuple[Any, ...], Shape] = {}
    for rule in rules:
        points = rule.line or rule.zone
        if points is not None:
            scale = (width, height) if rule.units == "normalised" else (1, 1)
            shape = Shape(np.array(points) * scale, rule.zone is not None, [])
            found.setdefault((points, rule.units), shape).names.append(rule.name)
    return list(found.values())


@dataclass(frozen=True)
class Overlay:
    """All that can be drawn over one video of `width` x `height` displayed pixels.

    Boxes stay between samples that are `hold_s` seconds apart at most.
    """

    tracks: pa.Table
    events: pa.Table
    rules: Sequence[Rule]
    width: int
    height: int
    trail_s: float = TRAIL_S
    hold_s: float = HOLD_S
    letters: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "letters", min(max(self.height / 900, 0.32), 1.2))

    @cached_property
    def _paths(self) -> list[Path]:
        return paths(self.tracks, self.hold_s)

    @cached_property
    def _captions(self) -> list[Caption]:
        return captions(self.events)

    @cached_property
    def _shapes(self) -> list[Shape]:
        return shapes(self.rules, self.width, self.height)

    @property
    def _thick(self) -> int:
        return max(1, round(self.height / 400))

    def draw(self, picture: Picture, t: float) -> None:
        """Draw on the frame shown at `t` seconds, in place."""
        now = [caption for caption in self._captions if caption.start <= t < caption.end]
        self._draw_rules(picture, {caption.place for caption in now})
        stirred = {number for caption in now for number in caption.track_ids}
        for path in self._paths:
            if path.times[0] - 1e-6 <= t <= path.times[-1] + self.trail_s:
                self._draw_track(picture, path, t, path.track_id in stirred)
        self._tell(picture, now)

    def _draw_rules(self, picture: Picture, active: set[str | None]) -> None:
        for shape in self._shapes:
            happening = [name for name in shape.names if name in active]
            colour = EVENT_COLOUR if happening else RULE_COLOUR
            pixels = np.round(shape.points).astype(np.int32)
            if shape.closed:
                tint(picture, pixels, colour, 0.2)
            cv2.polylines(picture, [pixels.reshape(-1, 1, 2)], shape.closed, colour, self._thick, cv2.LINE_AA)
            x, y = pixels[0].tolist()
            tag(picture, (happening or shape.names)[0], (x, y), self.letters, colour)

    def _draw_track(self, picture: Picture, path: Path, t: float, stirred: bool) -> None:
        colour = class_colour(path.label)
        trail(picture, path.trail(t, self.trail_s), colour, self._thick)
        found = path.at(t)
        if found is None:
            return
        box, observed = found
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        if observed:
            cv2.rectangle(
                picture, (x1, y1), (x2, y2), colour, self._thick + (1 if stirred else 0), cv2.LINE_AA
            )
        else:
            _corners(picture, (x1, y1, x2, y2), colour, self._thick)
        tag(
            picture,
            f"{path.label} {path.track_id}",
            (x1, y1),
            self.letters,
            EVENT_COLOUR if stirred else colour,
        )

    def _tell(self, picture: Picture, now: Sequence[Caption]) -> None:
        step, edge = round(44 * self.letters) + 4, self._thick * 4
        for row, caption in enumerate(reversed(now[-MAX_CAPTIONS:])):
            tag(
                picture,
                caption.text,
                (edge, self.height - edge - row * step),
                self.letters * 1.15,
                EVENT_COLOUR,
            )


def _corners(picture: Picture, box: tuple[int, int, int, int], colour: Colour, thick: int) -> None:
    """Only the corners of a box: it was filled in, not observed."""
    x1, y1, x2, y2 = box
    across, down = max((x2 - x1) // 4, 2), max((y2 - y1) // 4, 2)
    for x, dx in ((x1, across), (x2, -across)):
        for y, dy in ((y1, down), (y2, -down)):
            cv2.line(picture, (x, y), (x + dx, y), colour, thick, cv2.LINE_AA)
            cv2.line(picture, (x, y), (x, y + dy), colour, thick, cv2.LINE_AA)
