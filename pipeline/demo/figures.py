"""Figures on the ground: people and vehicles as sprites with their boxes and shadows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.demo.camera import Camera, Floats, Light
from pipeline.demo.mesh import Mesh
from pipeline.demo.paint import draw_vehicle
from pipeline.demo.people import Body, Person, Pose, body_reach, draw_body, pose_person
from pipeline.demo.raster import Layer
from pipeline.demo.vehicles import Vehicle, mesh

Figure = Person | Vehicle
Box = tuple[float, float, float, float]
Mask = npt.NDArray[np.bool_]

SOLID = 0.5
"""A pixel belongs to a figure where the figure covers at least this share of it."""

BEYOND = 1.0
"""Figures are drawn this many picture sizes beyond the border, so that their full boxes are known."""


@dataclass(frozen=True)
class Sprite:
    """A drawn figure. The layer holds all of it, also what lies beyond the picture's border."""

    layer: Layer
    depth_m: float

    @property
    def solid(self) -> Mask:
        """Where the figure is, in the layer's own pixels (h, w)."""
        return self.layer.alpha >= SOLID

    def box(self) -> Box | None:
        """The whole figure's box xyxy in picture pixels, border or not; None if it covers no pixel."""
        return solid_box(self.solid, self.layer.x0, self.layer.y0)

    def cropped(self) -> Sprite:
        """The same with a layer that holds nothing around the figure."""
        box = solid_box(self.layer.alpha > 0)
        if box is None:
            return self
        x1, y1, x2, y2 = (int(v) for v in box)
        rgb, alpha = self.layer.rgb[y1:y2, x1:x2].copy(), self.layer.alpha[y1:y2, x1:x2].copy()
        return Sprite(Layer(self.layer.x0 + x1, self.layer.y0 + y1, rgb, alpha), self.depth_m)

    def inside(self, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Rows and columns that sprite and picture share: in the picture, and in the layer."""
        rows, columns = self.layer.alpha.shape
        x0, y0 = self.layer.x0, self.layer.y0
        left, right = min(max(x0, 0), width), max(min(x0 + columns, width), 0)
        top, bottom = min(max(y0, 0), height), max(min(y0 + rows, height), 0)
        right, bottom = max(right, left), max(bottom, top)
        here = slice(top, bottom), slice(left, right)
        return here, (slice(top - y0, bottom - y0), slice(left - x0, right - x0))

    def paste(self, canvas: Floats) -> None:
        """Lay the sprite on a picture (height, width, 3), float32, in place."""
        here, own = self.inside(canvas.shape[1], canvas.shape[0])
        target = canvas[here]
        target *= (1 - self.layer.alpha[own])[..., None]
        target += self.layer.rgb[own]


def solid_box(mask: Mask, x0: int = 0, y0: int = 0) -> Box | None:
    """The box xyxy around a mask whose top left pixel is (x0, y0); None if the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    return float(x0 + columns[0]), float(y0 + rows[0]), float(x0 + columns[-1] + 1), float(y0 + rows[-1] + 1)


def _blank(pixels: Floats, reach_px: Floats | float, camera: Camera, light: Light) -> Layer | None:
    """A layer for all that lies within `reach_px` of the pixels; None where the picture shows none of it."""
    low, high = (pixels.T - reach_px).min(axis=1) - 2, (pixels.T + reach_px).max(axis=1) + 2
    size = np.array([camera.width, camera.height], np.float32)
    if (high < 0).any() or (low > size).any():
        return None
    x0, y0 = np.maximum(low, -BEYOND * size).astype(int).tolist()
    x1, y1 = np.minimum(high, (1 + BEYOND) * size).astype(int).tolist()
    return Layer.blank(x0, y0, x1 - x0, y1 - y0, camera, light)


def _world(shapes: Mesh, pose: Pose) -> Floats:
    sin, cos = float(np.sin(pose.heading)), float(np.cos(pose.heading))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float32)
    return shapes.outline @ turn.T + np.array([pose.x, pose.y, 0], np.float32)


def draw(figure: Figure, pose: Pose, camera: Camera, light: Light) -> Sprite | None:
    """Draw a figure as the camera sees it; None if the picture shows nothing of it."""
    _, depth = camera.project(np.array([[pose.x, pose.y, 0.0]], np.float32))
    if isinstance(figure, Person):
        body = pose_person(figure, pose)
        pixels, depths = camera.project(body.points)
        layer = _blank(pixels, body_reach(body) * camera.focal_px / depths, camera, light)
        if layer is not None:
            draw_body(layer, body, camera, figure.seed)
    else:
        pixels, _ = camera.project(_world(mesh(figure), pose))
        layer = _blank(pixels, 4.0, camera, light)
        if layer is not None:
            draw_vehicle(layer, figure, pose, camera)
    if layer is None:
        return None
    layer.rgb *= np.array(light.tint, np.float32)
    return Sprite(layer, float(depth[0]))


# -- shadows -----------------------------------------------------------------------------------------------

SHADOW_SCALE = 2
"""Shadows are soft: they are drawn at 1 / SHADOW_SCALE of the picture's size."""


def _limb_shadows(mask: npt.NDArray[np.uint8], body: Body, camera: Camera, light: Light) -> None:
    pixels, depth = camera.project(light.on_ground(body.points))
    pixels /= SHADOW_SCALE
    reach = body_reach(body) * camera.focal_px / depth / SHADOW_SCALE
    for part, at in zip(body.parts, body.ranges, strict=True):
        width = float(reach[at.start]) * (1.6 if len(part.points) == 2 else 1.3)
        fixed = np.round(pixels[at] * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(mask, [fixed], False, 255, max(1, round(width)), cv2.LINE_8, 4)


def cast_shadow(
    mask: npt.NDArray[np.uint8], figure: Figure, pose: Pose, camera: Camera, light: Light
) -> None:
    """Draw a figure's shadow, 255 where it falls, on a mask (height, width) / SHADOW_SCALE."""
    if isinstance(figure, Person):
        _limb_shadows(mask, pose_person(figure, pose), camera, light)
        return
    world = _world(mesh(figure), pose)
    under = world * np.array([1, 1, 0], np.float32)
    for points in (light.on_ground(world), under):
        pixels, _ = camera.project(points)
        hull = cv2.convexHull(np.round(pixels / SHADOW_SCALE * 16).astype(np.int32).reshape(-1, 1, 2))
        if figure.label != "cycle" or points is under:
            cv2.fillConvexPoly(mask, hull, 255, cv2.LINE_8, 4)


def darken(canvas: Floats, mask: npt.NDArray[np.uint8], light: Light) -> None:
    """Apply a mask of shadows to a picture (height, width, 3), float32, in place, softened."""
    if not mask.any():
        return
    left, top, width, height = cv2.boundingRect(mask)
    margin = mask.shape[0] // 40 + 3
    rows = slice(max(top - margin, 0), min(top + height + margin, canvas.shape[0] // SHADOW_SCALE))
    columns = slice(max(left - margin, 0), min(left + width + margin, canvas.shape[1] // SHADOW_SCALE))
    soft = cv2.GaussianBlur(mask[rows, columns], (0, 0), max(1.0, mask.shape[0] / 200))
    size = (soft.shape[1] * SHADOW_SCALE, soft.shape[0] * SHADOW_SCALE)
    light_left = cv2.resize(soft.astype(np.float32), size) * np.float32(-light.shadow / 255) + 1
    shaded = canvas[
        rows.start * SHADOW_SCALE : rows.stop * SHADOW_SCALE,
        columns.start * SHADOW_SCALE : columns.stop * SHADOW_SCALE,
    ]
    shaded *= light_left[..., None]
