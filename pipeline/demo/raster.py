"""Anti-aliased, shaded shapes on a layer: what figures are drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.demo.camera import Camera, Floats, Light

Colour = tuple[float, float, float]
"""RGB, 0 to 255."""

TILE_PX = 512


def darker(colour: Colour, factor: float) -> Colour:
    """The colour with each channel multiplied."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


@cache
def grain_tile() -> Floats:
    """Cloth-like noise (TILE_PX, TILE_PX) around 1: folds of some pixels and a fine weave."""
    rng = np.random.default_rng(0)
    folds = cv2.GaussianBlur(rng.standard_normal((TILE_PX, TILE_PX), np.float32), (0, 0), 4.0, sigmaY=6.0)
    weave = cv2.GaussianBlur(rng.standard_normal((TILE_PX, TILE_PX), np.float32), (0, 0), 0.8)
    tile: Floats = 1 + 0.09 * folds / folds.std() + 0.04 * weave / weave.std()
    return np.clip(tile, 0.6, 1.4).astype(np.float32)


def fractal(rng: np.random.Generator, height: int, width: int, coarse: int = 4, fall: float = 0.55) -> Floats:
    """Smooth noise (height, width) of mean 0 and deviation 1, made of octaves from `coarse` cells upwards."""
    total = np.zeros((height, width), np.float32)
    cells, weight = coarse, 1.0
    while cells < max(height, width):
        rows = max(2, round(cells * height / max(height, width)))
        columns = max(2, round(cells * width / max(height, width)))
        octave = rng.standard_normal((rows, columns), np.float32)
        total += weight * cv2.resize(octave, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * fall
    total -= total.mean()
    return total / max(float(total.std()), 1e-6)


@dataclass
class Layer:
    """A rectangle of the picture with its top left pixel at (x0, y0).

    `alpha` (h, w) is the cover, 0 to 1; `rgb` (h, w, 3), 0 to 255, is already multiplied by it.
    """

    x0: int
    y0: int
    rgb: Floats
    alpha: Floats
    sun: tuple[float, float, float] = (0.0, -0.6, 0.8)
    light: Light = field(default_factory=lambda: Light((0, 0, 1)))

    @classmethod
    def blank(cls, x0: int, y0: int, width: int, height: int, camera: Camera, light: Light) -> Layer:
        rgb, alpha = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
        return cls(x0, y0, rgb, alpha, light.in_view(camera), light)

    def window(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice] | None:
        """Rows and columns that a shape within these picture coordinates can touch; None if it is outside."""
        height, width = self.alpha.shape
        x_lo, x_hi = max(int(left) - self.x0 - 2, 0), min(int(right) - self.x0 + 3, width)
        y_lo, y_hi = max(int(top) - self.y0 - 2, 0), min(int(bottom) - self.y0 + 3, height)
        return (slice(y_lo, y_hi), slice(x_lo, x_hi)) if x_lo < x_hi and y_lo < y_hi else None

    def grid(self, window: tuple[slice, slice]) -> tuple[Floats, Floats]:
        """Picture coordinates of pixel centres: rows (h, 1), columns (1, w)."""
        rows, columns = window
        ys = np.arange(rows.start, rows.stop, dtype=np.float32) + (self.y0 + 0.5)
        xs = np.arange(columns.start, columns.stop, dtype=np.float32) + (self.x0 + 0.5)
        return ys[:, None], xs[None, :]

    def blend(self, window: tuple[slice, slice], cover: Floats, shade: Floats, colour: Colour) -> None:
        """Lay colour * shade over what is there."""
        alpha, rgb = self.alpha[window], self.rgb[window]
        alpha += cover * (1 - alpha)
        painted = shade[..., None] * np.asarray(colour, np.float32)
        painted -= rgb
        painted *= cover[..., None]
        rgb += painted

    def lit(self, across: Floats, down: Floats, towards: Floats) -> Floats:
        """Brightness of surface points whose normals have these view components."""
        x, y, z = self.sun
        facing = across * x
        facing += down * y
        facing += towards * z
        np.maximum(facing, 0, out=facing)
        facing *= self.light.sun
        # the sky lights from above: normals that point down get less of it
        facing += self.light.ambient * (1 - 0.25 * down)
        return facing


def _grain(window: tuple[slice, slice], strength: float, offset: int) -> Floats | float:
    if strength <= 0:
        return 1.0
    rows, columns = window[0].stop - window[0].start, window[1].stop - window[1].start
    top, left = (offset * 37) % max(TILE_PX - rows, 1), (offset * 61) % max(TILE_PX - columns, 1)
    tile = grain_tile()[top : top + rows, left : left + columns]
    if tile.shape != (rows, columns):
        return 1.0
    return 1 + strength * (tile - 1)


def capsule(
    layer: Layer,
    ends: Sequence[Sequence[float]],
    radii: Sequence[float],
    colour: Colour,
    grain: float = 1.0,
    offset: int = 0,
) -> None:
    """A round, tapering limb from ends[0] to ends[1] (pixels) with these radii (pixels)."""
    (ax, ay), (bx, by) = ends
    ra, rb = radii
    window = layer.window(
        min(ax - ra, bx - rb), min(ay - ra, by - rb), max(ax + ra, bx + rb), max(ay + ra, by + rb)
    )
    if window is None:
        return
    ys, xs = layer.grid(window)
    dx, dy = bx - ax, by - ay
    across, down = xs - ax, ys - ay
    along = (across * dx + down * dy) / (dx * dx + dy * dy + 1e-6)
    np.maximum(along, 0, out=along)
    np.minimum(along, 1, out=along)
    across, down = across - along * dx, down - along * dy
    radius = ra + (rb - ra) * along
    reach = np.sqrt(across * across + down * down)
    cover = radius - reach
    cover += 0.5
    np.maximum(cover, 0, out=cover)
    np.minimum(cover, 1, out=cover)
    turn = np.minimum(reach / radius, 1)
    shade = layer.lit(across / radius, down / radius, np.sqrt(1 - turn * turn))
    layer.blend(window, cover, shade * _grain(window, grain, offset), colour)


def tube(
    layer: Layer,
    rows_px: Sequence[float],
    centres: Sequence[float],
    halves: Sequence[float],
    colour: Colour,
    grain: float = 1.0,
    offset: int = 0,
    stripe: tuple[Colour, float] | None = None,
) -> None:
    """An upright body: at rows `rows_px` (ascending) centred at `centres`, `halves` wide to each side.

    `stripe` = (colour, period in pixels) paints every second band in another colour.
    """
    left = min(c - h for c, h in zip(centres, halves, strict=True))
    right = max(c + h for c, h in zip(centres, halves, strict=True))
    window = layer.window(left, rows_px[0], right, rows_px[-1])
    if window is None:
        return
    ys, xs = layer.grid(window)
    flat = ys[:, 0]
    middle = np.interp(flat, rows_px, centres).astype(np.float32)[:, None]
    half = np.maximum(np.interp(flat, rows_px, halves).astype(np.float32)[:, None], 0.3)
    offset_px = xs - middle
    ends = np.clip(np.minimum(flat - rows_px[0], rows_px[-1] - flat) + 0.5, 0, 1).astype(np.float32)[:, None]
    cover = np.clip(half - np.abs(offset_px) + 0.5, 0, 1) * ends
    turn = np.clip(offset_px / half, -1, 1)
    # bodies are flatter than cylinders: the normal turns late
    turn = 0.35 * turn + 0.65 * turn * turn * turn
    shade = layer.lit(turn, np.full_like(turn, -0.1), np.sqrt(1 - turn * turn))
    shade = shade * _grain(window, grain, offset)
    layer.blend(window, cover, shade, colour)
    if stripe is not None:
        band = (np.sin((ys - rows_px[0]) * (2 * np.pi / max(stripe[1], 1.5))) > 0).astype(np.float32)
        layer.blend(window, cover * band, shade, stripe[0])


SUBPIXEL_BITS = 4


def polygon(picture: npt.NDArray[np.uint8], points: Floats, colour: Sequence[float]) -> None:
    """Fill a convex polygon (N, 2) on a uint8 picture, in its own pixels."""
    fixed = np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillConvexPoly(picture, fixed, tuple(colour), cv2.LINE_8, SUBPIXEL_BITS)
