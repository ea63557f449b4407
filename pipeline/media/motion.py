"""What moved between two sampled frames: the camera (a similarity) and the scene (a grid of cells)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.media.letterbox import Letterbox
from pipeline.media.reader import Picture

GRID_ROWS, GRID_COLUMNS, GRID_CHANNELS = 6, 8, 2
MOTION_GRID_SIZE = GRID_ROWS * GRID_COLUMNS * GRID_CHANNELS

_LONG_SIDE_PX = 128
_SHORT_SIDE_PX = 40
"""Of the small grey picture; OpenCV 5.0 crashes in DIS flow on pictures below 32 pixels."""

_STEP_PX = 4
"""Camera motion is fitted to the flow at every fourth pixel of each fourth row."""

_MIN_CONTRAST = 4.0
"""Grey levels (standard deviation around the pixel) that a point needs for its flow to mean anything."""

_MIN_POINTS, _MIN_INLIERS = 24, 0.4
_TOLERANCE_PX = 0.5
_ROUNDS = 8
_MAX_SCALE, _MAX_ROTATION = 2.0, 0.8

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]


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

    def shifts(self, places: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far `places`, (..., 2) displayed pixels from the centre, move: same shape and units."""
        p, q = self.scale * np.cos(self.rotation) - 1, self.scale * np.sin(self.rotation)
        return _similarity(np.array([p, q, self.dx, self.dy]), places).astype(np.float32)

    def as_tuple(self) -> tuple[float, float, float, float]:
        """dx, dy, scale, rotation."""
        return self.dx, self.dy, self.scale, self.rotation


class MotionMeter:
    """Compares each sampled frame with the one before. Deterministic; under 2 ms a frame."""

    def __init__(self, letterbox: Letterbox) -> None:
        content = letterbox.content_width, letterbox.content_height
        scale = _LONG_SIDE_PX / max(content)
        width, height = (max(_SHORT_SIDE_PX, round(side * scale)) for side in content)
        display = np.array([letterbox.display_width, letterbox.display_height], np.float32)
        self._size = width, height
        # Displayed pixels per pixel of the small picture, and how far from the centre its pixels lie.
        self._scale = (display / np.array([width, height])).astype(np.float32)
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        self._pixels = np.stack([columns, rows], -1).astype(np.float32)  # (h, w, 2) x and y
        self._places = ((self._pixels + 0.5) * self._scale - display / 2).astype(np.float32)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        # Half resolution: the preset's quarter is up to 5 pixels in 1024 off, full costs half as much more.
        self._flow.setFinestScale(1)
        self._before: tuple[Grey, float] | None = None

    def step(self, content: Picture, t: float) -> tuple[Floats, CameraMotion | None]:
        """Compare with the frame given before and keep this one for the next.

        Args:
            content: (h, w, 3) RGB, the content part of the input picture, without the grey beside it.
            t: its time in seconds, above that of the frame before.

        Returns:
            Motion grid, (96,) float32: 6 rows of 8 cells of 2 numbers. First the mean length of the flow
            that camera motion does not explain, in picture widths per second; then the mean absolute
            difference of the grey pictures, brought to equal brightness and over each other by the camera
            motion, 0 to 1. All 0 for a first frame.
            Camera motion; None for a first frame, or where nothing consistent was found (too little
            texture, a cut, most of the picture moving apart).
        """
        grey = self._small_grey(content)
        before, self._before = self._before, (grey, t)
        if before is None:
            return np.zeros(MOTION_GRID_SIZE, np.float32), None
        # DIS starts from the flow it is given, so that has to be none.
        still = np.zeros((*grey.shape, 2), np.float32)
        flow = np.asarray(self._flow.calc(before[0], grey, still), np.float32)  # (h, w, 2), small pixels
        camera = fit_similarity(self._places, flow * self._scale, _contrast(before[0]))
        explained = np.zeros_like(flow) if camera is None else camera.shifts(self._places) / self._scale
        residual = np.linalg.norm(flow - explained, axis=-1) / self._size[0] / max(t - before[1], 1e-6)
        change = _difference(before[0], grey, self._pixels + explained)
        grid = np.stack([_cells(residual), _cells(change)], -1)  # (rows, columns, 2)
        return grid.reshape(-1), camera

    def _small_grey(self, content: Picture) -> Grey:
        small = cv2.resize(content, self._size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _cells(values: Floats) -> Floats:
    """Means over the cells, (h, w) -> (rows, columns)."""
    cells = cv2.resize(values, (GRID_COLUMNS, GRID_ROWS), interpolation=cv2.INTER_AREA)
    return np.asarray(cells, np.float32)


def _difference(before: Grey, grey: Grey, where: Floats) -> Floats:
    """Absolute difference per pixel of the frame before, 0..1; `where` says where each lies now."""
    now = cv2.remap(grey, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    change = now.astype(np.float32) - before
    corner = np.array(grey.shape[::-1], np.float32) - 1
    inside = ((where >= 0) & (where <= corner)).all(-1)
    brightness = change[inside].mean() if inside.any() else np.float32(0)
    return np.where(inside, np.abs(change - brightness) / 255, 0).clip(0, 1).astype(np.float32)


def _contrast(grey: Grey) -> Floats:
    """Standard deviation of the grey levels around each pixel."""
    levels = grey.astype(np.float32)
    variance = cv2.blur(levels * levels, (5, 5)) - cv2.blur(levels, (5, 5)) ** 2
    return np.asarray(np.sqrt(variance.clip(0)), np.float32)


def fit_similarity(places: Floats, shifts: Floats, contrast: Floats) -> CameraMotion | None:
    """Robust least squares over a lattice of points with texture: fit, keep what agrees, fit again.

    Starts from the median shift, which holds while more than half of the textured points move together.

    Args:
        places: (h, w, 2) x and y in displayed pixels from the picture's centre.
        shifts: (h, w, 2) how far each place moved, displayed pixels.
        contrast: (h, w) grey levels; points below a few are left out.

    Returns:
        None if there are too few points or too few of them agree.
    """
    lattice = np.s_[_STEP_PX // 2 :: _STEP_PX, _STEP_PX // 2 :: _STEP_PX]
    textured = contrast[lattice] > _MIN_CONTRAST
    if np.count_nonzero(textured) < _MIN_POINTS:
        return None
    source = places[lattice][textured].astype(np.float64)  # (n, 2)
    shift = shifts[lattice][textured].astype(np.float64)  # (n, 2)
    tolerance = _TOLERANCE_PX * float(places[0, 1, 0] - places[0, 0, 0])
    solution = np.array([0.0, 0.0, *np.median(shift, axis=0)])
    for spread in np.linspace(4, 1, _ROUNDS):
        agrees = np.linalg.norm(_similarity(solution, source) - shift, axis=-1) < tolerance * spread
        if np.count_nonzero(agrees) < max(_MIN_POINTS, _MIN_INLIERS * len(source)):
            return None
        solution = _least_squares(source[agrees], shift[agrees])
    p, q, dx, dy = (float(value) for value in solution)
    scale, rotation = float(np.hypot(1 + p, q)), float(np.arctan2(q, 1 + p))
    if not 1 / _MAX_SCALE < scale < _MAX_SCALE or abs(rotation) > _MAX_ROTATION:
        return None
    return CameraMotion(dx, dy, scale, rotation)


def _similarity(solution: NDArray[np.float64], places: NDArray[np.floating]) -> NDArray[np.float64]:
    """Shifts (p x - q y + dx, q x + p y + dy) of `places` (..., 2) by a `solution` (p, q, dx, dy)."""
    p, q, dx, dy = solution
    x, y = places[..., 0], places[..., 1]
    return np.stack([p * x - q * y + dx, q * x + p * y + dy], -1)


def _least_squares(source: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """The solution (p, q, dx, dy) of `_similarity` nearest to the shifts, in closed form."""
    middle, mean = source.mean(0), shift.mean(0)
    (x, y), (u, v) = (source - middle).T, shift.T
    spread = max(float((x * x + y * y).sum()), 1e-9)
    p, q = (x * u + y * v).sum() / spread, (x * v - y * u).sum() / spread
    dx, dy = mean - (p * middle[0] - q * middle[1], q * middle[0] + p * middle[1])
    return np.array([p, q, dx, dy])
