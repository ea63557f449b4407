"""What moved between two sampled frames: the camera (a similarity) and the scene (a grid of cells)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.media.letterbox import Letterbox
from pipeline.media.reader import Grey, Picture

GRID_ROWS, GRID_COLUMNS, GRID_CHANNELS = 6, 8, 2
MOTION_GRID_SIZE = GRID_ROWS * GRID_COLUMNS * GRID_CHANNELS

_LONG_SIDE_PX = 128
_SHORT_SIDE_PX = 40
"""Of the small grey picture; OpenCV 5.0 crashes in DIS flow on pictures below 32 pixels."""

_LATTICE = np.s_[2::4, 2::4]
"""Camera motion is fitted to the flow at every fourth pixel of each fourth row."""

_MIN_CONTRAST = 4.0
"""Grey levels (standard deviation around the pixel) that a point needs for its flow to mean anything."""

_MIN_POINTS, _MIN_INLIERS = 24, 0.4
_TOLERANCE_PX = 0.5
_SPREADS = tuple(4 - 3 * k / 7 for k in range(8))
"""Tolerances of the rounds of fitting, in units of the last one's."""

_MAX_SCALE, _MAX_ROTATION = 2.0, 0.8

_SHORTEST_S = 1e-4
"""Between two frames; nearer ones, as clocks give that stand or go back, tell nothing of speed."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class CameraMotion:
    """How the whole picture moved: x' = c + (dx, dy) + scale * R(rotation) (x - c), c the picture's centre.

    `dx`, `dy` are displayed pixels, right and down; `scale` 1 = none; `rotation` in radians, positive from
    the x axis towards the y axis (clockwise as seen).
    """

    dx: float
    dy: float
    scale: float
    rotation: float

    def shifts(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """How far the places (`x`, `y`) move, along x and along y.

        Args:
            x: displayed pixels right of the centre, any shape.
            y: displayed pixels below it, of a shape that goes with `x`'s.
        """
        p, q = self.scale * math.cos(self.rotation) - 1, self.scale * math.sin(self.rotation)
        right, down = p * x - q * y + self.dx, q * x + p * y + self.dy
        return np.asarray(right, np.float32), np.asarray(down, np.float32)

    def as_tuple(self) -> tuple[float, float, float, float]:
        """dx, dy, scale, rotation."""
        return self.dx, self.dy, self.scale, self.rotation


class MotionMeter:
    """Compares each sampled frame with the one before. Deterministic; 1.1 ms a frame on a free core."""

    def __init__(self, letterbox: Letterbox, *, grid: bool = True) -> None:
        """Without `grid`, motion grids are 0 throughout, and camera motion is the same."""
        self._wants_grid = grid
        content = letterbox.content_width, letterbox.content_height
        scale = _LONG_SIDE_PX / max(content)
        width, height = (max(_SHORT_SIDE_PX, round(side * scale)) for side in content)
        self.size = width, height
        """Of the small grey picture that is compared, in pixels."""
        # Displayed pixels per pixel of the small picture, and how far from the centre its pixels lie.
        self._scale_x, self._scale_y = letterbox.display_width / width, letterbox.display_height / height
        self._columns = np.arange(width, dtype=np.float32)[None]  # (1, w)
        self._rows = np.arange(height, dtype=np.float32)[:, None]  # (h, 1)
        self._x = (self._columns + 0.5) * self._scale_x - letterbox.display_width / 2  # (1, w)
        self._y = (self._rows + 0.5) * self._scale_y - letterbox.display_height / 2  # (h, 1)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        # Half resolution: the preset's quarter is up to 5 pixels in 1024 off, full costs half as much more.
        self._flow.setFinestScale(1)
        self._before: tuple[Grey, float] | None = None

    def step(self, content: Picture, t: float) -> tuple[Floats, CameraMotion | None]:
        """Compare with the frame given before and keep this one for the next.

        Args:
            content: (h, w, 3) RGB, the content part of the input picture, without the grey beside it.
            t: its time in seconds, not below that of the frame before.

        Returns:
            Motion grid, (96,) float32: 6 rows of 8 cells of 2 numbers. First the mean length of the flow
            that camera motion does not explain, in picture widths per second, 0 where hardly any time has
            passed; then the mean absolute difference of the grey pictures, brought to equal brightness and
            over each other by the camera motion, 0 to 1. All 0 for a first frame.
            Camera motion; None for a first frame, or where nothing consistent was found (too little
            texture, a cut, most of the picture moving apart).
        """
        before, grey = self._before, self.keep(content, t)
        if before is None:
            return np.zeros(MOTION_GRID_SIZE, np.float32), None
        # DIS starts from the flow it is given, so that has to be none.
        still = np.zeros((*grey.shape, 2), np.float32)
        flow = np.asarray(self._flow.calc(before[0], grey, still), np.float32)  # (h, w, 2), small pixels
        camera = self._camera(flow, before[0])
        if not self._wants_grid:
            return np.zeros(MOTION_GRID_SIZE, np.float32), camera
        right, down = self._explained(camera)
        residual = _length(flow[..., 0] - right, flow[..., 1] - down)
        since = t - before[1]
        speed = residual / np.float32(self.size[0] * since if since > _SHORTEST_S else np.inf)
        change = _difference(before[0], grey, self._columns + right, self._rows + down)
        grid = np.stack([_cells(speed), _cells(change)], -1)  # (rows, columns, 2)
        return grid.reshape(-1), camera

    def keep(self, content: Picture, t: float) -> Grey:
        """Keep a frame for the next `step` without comparing it; gives what is kept of it."""
        small = cv2.resize(content, self.size, interpolation=cv2.INTER_AREA)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        self._before = grey, t
        return grey

    def at_rest(self, before: Grey, grey: Grey) -> tuple[Floats, CameraMotion]:
        """What `step` would give, but for noise, of two pictures that are known to show the same.

        No flow, a camera that stands, differences. Both are of `size`.
        """
        grid = np.zeros((GRID_ROWS, GRID_COLUMNS, GRID_CHANNELS), np.float32)
        if self._wants_grid:
            change = grey.astype(np.float32) - before
            grid[..., 1] = _cells(np.abs(change - change.mean()) / 255)
        return grid.reshape(-1), CameraMotion(0.0, 0.0, 1.0, 0.0)

    def _camera(self, flow: Floats, before: Grey) -> CameraMotion | None:
        """Camera motion by the flow at the lattice's points with texture."""
        textured = _variance(before)[_LATTICE] > _MIN_CONTRAST**2
        places = np.broadcast_arrays(self._x, self._y)
        shifts = flow[..., 0] * self._scale_x, flow[..., 1] * self._scale_y
        x, y, u, v = (plane[_LATTICE][textured].astype(np.float64) for plane in (*places, *shifts))
        return fit_similarity(x, y, u, v, _TOLERANCE_PX * self._scale_x)

    def _explained(self, camera: CameraMotion | None) -> tuple[Floats, Floats]:
        """(h, w) shifts right and down, in small pixels, that camera motion explains."""
        if camera is None:
            none = np.zeros(self.size[::-1], np.float32)
            return none, none
        right, down = camera.shifts(self._x, self._y)
        return right / self._scale_x, down / self._scale_y


def _length(x: Floats, y: Floats) -> Floats:
    """Lengths of vectors, element by element."""
    length: Floats = np.sqrt(x * x + y * y)
    return length


def _cells(values: Floats) -> Floats:
    """Means over the cells, (h, w) -> (rows, columns)."""
    cells = cv2.resize(values, (GRID_COLUMNS, GRID_ROWS), interpolation=cv2.INTER_AREA)
    return np.asarray(cells, np.float32)


def _difference(before: Grey, grey: Grey, columns: Floats, rows: Floats) -> Floats:
    """Absolute difference per pixel of the frame before, 0..1; `columns`, `rows` say where each lies now."""
    now = cv2.remap(grey, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    change = now.astype(np.float32) - before
    height, width = grey.shape
    inside = (columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)
    counted = np.count_nonzero(inside)
    brightness = np.sum(change * inside) / max(counted, 1)
    return np.asarray(np.abs(change - brightness) * inside / 255, np.float32).clip(0, 1)


def _variance(grey: Grey) -> Floats:
    """Variance of the grey levels around each pixel."""
    levels = grey.astype(np.float32)
    return np.asarray(cv2.blur(levels * levels, (5, 5)) - cv2.blur(levels, (5, 5)) ** 2, np.float32)


def fit_similarity(x: Doubles, y: Doubles, u: Doubles, v: Doubles, tolerance: float) -> CameraMotion | None:
    """Robust least squares over points with texture: fit, keep what agrees, fit again.

    Starts from the median shift, which holds while more than half of the points move together.

    Args:
        x: (n,) displayed pixels from the picture's centre to the right.
        y: (n,) the same, down.
        u: (n,) how far each point moved to the right, displayed pixels.
        v: (n,) the same, down.
        tolerance: displayed pixels by which a point that agrees may be off in the last round.

    Returns:
        None if there are too few points or too few of them agree.
    """
    if len(x) < _MIN_POINTS:
        return None
    terms = np.stack([x, y, u, v, x * x + y * y, x * u + y * v, x * v - y * u])  # (7, n)
    p, q, dx, dy = 0.0, 0.0, float(np.median(u)), float(np.median(v))
    for spread in _SPREADS:
        off_x, off_y = p * x - q * y + dx - u, q * x + p * y + dy - v
        agrees = off_x * off_x + off_y * off_y < (tolerance * spread) ** 2
        count = int(np.count_nonzero(agrees))
        if count < max(_MIN_POINTS, _MIN_INLIERS * len(x)):
            return None
        p, q, dx, dy = _least_squares((terms * agrees).sum(1) / count)
    scale, rotation = math.hypot(1 + p, q), math.atan2(q, 1 + p)
    if not 1 / _MAX_SCALE < scale < _MAX_SCALE or abs(rotation) > _MAX_ROTATION:
        return None
    return CameraMotion(dx, dy, scale, rotation)


def _least_squares(means: Doubles) -> tuple[float, float, float, float]:
    """The (p, q, dx, dy) for which (p x - q y + dx, q x + p y + dy) is nearest to the shifts, in closed form.

    Args:
        means: (7,) of x, y, u, v, x x + y y, x u + y v, x v - y u.
    """
    x, y, u, v, square, along, across = means.tolist()
    spread = max(square - x * x - y * y, 1e-9)
    p, q = (along - x * u - y * v) / spread, (across - x * v + y * u) / spread
    return p, q, u - p * x + q * y, v - q * x - p * y
