"""Places without figures: streets and rooms, seen by casting a ray per pixel on a few textured planes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.demo.camera import Camera, Floats
from pipeline.demo.raster import Colour, fractal

TILE_PX = 512
Texture = Callable[[Floats, Floats, Floats], Floats]
"""(along, up or away: metres, distance: metres; all (h, w)) -> RGB (h, w, 3)."""


@dataclass(frozen=True)
class Plane:
    """A flat surface through `origin` with axes `along` and `other`, shown between their limits in metres."""

    origin: tuple[float, float, float]
    along: tuple[float, float, float]
    other: tuple[float, float, float]
    texture: Texture
    limits: tuple[float, float, float, float] = (-1e4, 1e4, -1e4, 1e4)


def noise_tile(rng: np.random.Generator) -> Floats:
    """Noise (TILE_PX, TILE_PX) of deviation 1 that can be repeated without a seam."""
    white = np.fft.rfft2(rng.standard_normal((TILE_PX, TILE_PX)))
    fy = np.fft.fftfreq(TILE_PX)[:, None]
    fx = np.fft.rfftfreq(TILE_PX)[None, :]
    frequency = np.sqrt(fx * fx + fy * fy)
    frequency[0, 0] = 1
    tile = np.fft.irfft2(white / np.maximum(frequency, 0.01) ** 1.1, s=(TILE_PX, TILE_PX))
    tile -= tile.mean()
    scaled: Floats = (tile / tile.std()).astype(np.float32)
    return scaled


def sample(
    tile: Floats, u: Floats, v: Floats, px_per_m: float, distance: Floats, sharp_m: float = 14.0
) -> Floats:
    """The tile at metres (u, v), fading to 0 with the distance, where it would only flicker."""
    x = np.mod(u * px_per_m, TILE_PX).astype(np.int32) % TILE_PX
    y = np.mod(v * px_per_m, TILE_PX).astype(np.int32) % TILE_PX
    fade: Floats = tile[y, x] / (1 + np.square(distance / sharp_m))
    return fade.astype(np.float32)


def _edges(value: Floats, period: float, width: float, distance: Floats) -> Floats:
    """Lines of `width` metres every `period` metres, 0 to 1, fading with the distance."""
    offset = np.abs(np.mod(value + period / 2, period) - period / 2)
    line = np.clip((width / 2 - offset) / (width * 0.3) + 0.5, 0, 1)
    faded: Floats = line / (1 + np.square(distance / 12))
    return faded.astype(np.float32)


def _paint(base: Floats, where: Floats, colour: Colour) -> None:
    base += where[..., None] * (np.asarray(colour, np.float32) - base)


@dataclass(frozen=True)
class StreetPlan:
    """Where road and pavements lie. The road runs along `heading` (radians; pi / 2 is away from the camera).

    `offset_m` is the middle of the road, seen along it from the left; `road_m` and `pavement_m` are widths.
    """

    heading: float = float(np.pi / 2)
    offset_m: float = 3.0
    road_m: float = 7.0
    pavement_m: float = 3.5
    asphalt: Colour = (92, 93, 96)
    slabs: Colour = (150, 146, 140)
    beyond: Colour = (112, 118, 88)
    markings: bool = True
    crossing_m: float | None = None
    """Distance along the road of a zebra crossing, or none."""

    def across(self, x: Floats | float, y: Floats | float) -> Floats | float:
        """Metres to the right of the road's middle."""
        return x * float(np.sin(self.heading)) - y * float(np.cos(self.heading)) - self.offset_m

    def along(self, x: Floats | float, y: Floats | float) -> Floats | float:
        return x * float(np.cos(self.heading)) + y * float(np.sin(self.heading))


def street_ground(plan: StreetPlan, tile: Floats) -> Texture:
    """Asphalt with lane markings, kerbs, slabs and what is beyond them."""

    def texture(x: Floats, y: Floats, distance: Floats) -> Floats:
        across, along = np.asarray(plan.across(x, y)), np.asarray(plan.along(x, y))
        side = np.abs(across) - plan.road_m / 2
        road = (side < 0).astype(np.float32)
        walk = ((side >= 0) & (side < plan.pavement_m)).astype(np.float32)
        base = np.empty((*x.shape, 3), np.float32)
        base[:] = plan.beyond
        _paint(base, walk, plan.slabs)
        _paint(base, road, plan.asphalt)
        joints = np.maximum(_edges(across, 0.6, 0.02, distance), _edges(along, 0.9, 0.02, distance)) * walk
        base *= (1 - 0.25 * joints)[..., None]
        kerb = ((side >= 0) & (side < 0.16)).astype(np.float32)
        _paint(base, kerb, (176, 174, 168))
        gutter = np.exp(-np.square(side / 0.25)) * road
        base *= (1 - 0.3 * gutter)[..., None]
        if plan.markings:
            dash = (np.abs(across) < 0.08) & (np.mod(along, 6.0) < 3.0)
            edge = np.abs(side + 0.3) < 0.06
            _paint(base, (dash | edge).astype(np.float32) * 0.8, (214, 213, 206))
        if plan.crossing_m is not None:
            zebra = (np.abs(along - plan.crossing_m) < 1.5) & (np.mod(across, 1.0) < 0.5)
            _paint(base, zebra.astype(np.float32) * road * 0.85, (216, 215, 210))
        coarse = sample(tile, x, y, 9.0, distance, 60.0)
        fine = sample(tile, y, x, 70.0, distance, 9.0)
        base *= (1 + 0.055 * coarse + 0.06 * fine)[..., None]
        return base

    return texture


def facade(rng: np.random.Generator, tile: Floats, wall: Colour, bay_m: float, floor_m: float) -> Texture:
    """A front with a shop floor and rows of windows, each a little different."""
    brightness = rng.uniform(0.5, 1.5, (32, 128)).astype(np.float32)
    glass = np.array(rng.choice([(46, 54, 64), (70, 80, 88), (34, 38, 44)]), np.float32)
    frame = float(rng.uniform(0.6, 1.35))
    width, sill, head = rng.uniform(0.4, 0.75), rng.uniform(0.2, 0.35), rng.uniform(0.72, 0.9)
    shop = np.array(rng.uniform(60, 150) + rng.normal(0, 25, 3), np.float32)

    def texture(u: Floats, z: Floats, distance: Floats) -> Floats:
        base = np.empty((*u.shape, 3), np.float32)
        base[:] = wall
        bricks = np.maximum(_edges(z, 0.3, 0.03, distance), 0.6 * _edges(u, 0.9, 0.03, distance))
        base *= (1 - 0.12 * bricks)[..., None]
        column, row = np.floor(u / bay_m), np.floor(z / floor_m)
        inside_u, inside_z = u / bay_m - column, z / floor_m - row
        reach = np.abs(inside_u - 0.5)
        ground_floor = row < 1
        half = np.where(ground_floor, 0.44, width / 2)
        low, high = np.where(ground_floor, 0.15, sill), np.where(ground_floor, 0.7, head)
        window = (reach < half) & (inside_z > low) & (inside_z < high)
        border = (reach < half + 0.04) & (inside_z > low - 0.03) & (inside_z < high + 0.03) & ~window
        base[border] *= frame
        band = ground_floor & (inside_z > 0.74) & (inside_z < 0.9)
        base[band] = shop
        lit = brightness[row.astype(np.int64) % 32, column.astype(np.int64) % 128]
        shine = (0.75 + 0.5 * (inside_z - low) / (high - low)) * lit
        base[window] = (glass * shine[..., None])[window]
        base *= (1 + 0.07 * sample(tile, u, z, 12.0, distance, 40.0))[..., None]
        base *= (0.86 + 0.14 * np.clip(z / 1.2, 0, 1))[..., None]
        return base

    return texture


def plain(tile: Floats, colour: Colour, joint_m: float = 0.0, joint: float = 0.2) -> Texture:
    """One colour with stains, and joints every `joint_m` metres if that is above 0."""

    def texture(u: Floats, v: Floats, distance: Floats) -> Floats:
        base = np.empty((*u.shape, 3), np.float32)
        base[:] = colour
        if joint_m > 0:
            lines = np.maximum(_edges(u, joint_m, 0.02, distance), _edges(v, joint_m, 0.02, distance))
            base *= (1 - joint * lines)[..., None]
        stains = 0.05 * sample(tile, u, v, 25.0, distance, 30.0)
        base *= (1 + stains)[..., None]
        return base

    return texture


def hung_wall(rng: np.random.Generator, tile: Floats, colour: Colour, span_m: float) -> Texture:
    """An indoor wall with a skirting board, doors, pictures, shelves: rectangles of other colours."""
    base_texture = plain(tile, colour)
    patches = []
    for _ in range(int(rng.integers(2, 9))):
        width, height = rng.uniform(0.3, 1.8), rng.uniform(0.3, 1.4)
        bottom = 0.0 if rng.random() < 0.4 else rng.uniform(0.7, 1.8)
        if bottom == 0:
            width, height = rng.uniform(0.8, 1.6), rng.uniform(0.8, 2.1)
        left = rng.uniform(-span_m, span_m)
        patches.append(
            (
                left,
                left + width,
                bottom,
                bottom + height,
                (rng.uniform(30, 215) + rng.normal(0, 22, 3)).astype(np.float32),
            )
        )

    def texture(u: Floats, z: Floats, distance: Floats) -> Floats:
        base = base_texture(u, z, distance)
        base[z < 0.1] *= 0.6
        for left, right, bottom, top, tone in patches:
            inside = (u > left) & (u < right) & (z > bottom) & (z < top)
            base[inside] = tone * (0.9 + 0.2 * (z[inside, None] - bottom) / (top - bottom))
            rim = (u > left - 0.05) & (u < right + 0.05) & (z > bottom - 0.05) & (z < top + 0.05) & ~inside
            base[rim] *= 0.75
        return base

    return texture


def sky(rng: np.random.Generator, camera: Camera) -> Floats:
    """A sky (height, width, 3), brighter towards the horizon, with clouds."""
    rows = np.linspace(0, 1, camera.height, dtype=np.float32)[:, None, None]
    high = np.array([120, 158, 205], np.float32) * rng.uniform(0.7, 1.1) + rng.uniform(-15, 15)
    low = np.array([215, 222, 228], np.float32) * rng.uniform(0.85, 1.05)
    grey = rng.uniform(0, 1)
    high = high * (1 - grey) + high.mean() * grey
    picture = np.broadcast_to(high + (low - high) * rows, (camera.height, camera.width, 3)).copy()
    clouds = np.clip(fractal(rng, camera.height, camera.width, 3), -0.5, 2.5)
    picture += clouds[..., None] * float(rng.uniform(4, 16))
    return picture


def cast(camera: Camera, planes: list[Plane], background: Floats, haze_m: float = 250.0) -> Floats:
    """The nearest plane at each pixel (height, width, 3); `background` (same shape) where there is none."""
    columns, rows = np.meshgrid(
        np.arange(camera.width, dtype=np.float32) + 0.5 - camera.width / 2,
        np.arange(camera.height, dtype=np.float32) + 0.5 - camera.height / 2,
    )
    view = np.stack([columns / camera.focal_px, rows / camera.focal_px, np.ones_like(rows)], axis=-1)
    rays = view @ camera.rotation
    picture, nearest = background.copy(), np.full(rows.shape, np.inf, np.float32)
    for plane in planes:
        along, other = np.array(plane.along, np.float32), np.array(plane.other, np.float32)
        normal = np.cross(along, other)
        gap = np.array(plane.origin, np.float32) - camera.position
        slope = rays @ normal
        distance = np.divide(
            np.float32(gap @ normal), slope, out=np.full_like(slope, -1), where=np.abs(slope) > 1e-6
        )
        hits = rays * distance[..., None] - gap
        u, v = hits @ along, hits @ other
        u_lo, u_hi, v_lo, v_hi = plane.limits
        seen = (distance > 0.05) & (distance < nearest) & (u > u_lo) & (u < u_hi) & (v > v_lo) & (v < v_hi)
        if not seen.any():
            continue
        box = np.ix_(seen.any(axis=1), seen.any(axis=0))
        colours = plane.texture(u[box], v[box], np.maximum(distance[box], 0.05))
        veil = (1 - np.exp(-np.maximum(distance[box], 0) / haze_m))[..., None]
        colours = colours + (np.array([200, 205, 210], np.float32) * 0.9 - colours) * veil
        inner = seen[box]
        patch = picture[box]
        patch[inner] = colours[inner]
        picture[box] = patch
        nearest[seen] = distance[seen]
    return picture


def tree(rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """A crown of leaves: RGB (size, size, 3) and cover (size, size)."""
    ys, xs = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    lumps = fractal(rng, size, size, 5, 0.75)
    cover = np.clip((0.38 - np.hypot(xs, ys) + 0.07 * lumps) * size / 3, 0, 1).astype(np.float32)
    tone = np.array([58, 84, 40], np.float32) * rng.uniform(0.6, 1.3) + rng.uniform(-12, 12, 3)
    shade = np.clip(1 - 0.5 * ys + 0.28 * fractal(rng, size, size, 12, 0.85), 0.3, 1.9)
    return (shade[..., None] * tone).astype(np.float32), cv2.GaussianBlur(cover, (0, 0), 0.7)
