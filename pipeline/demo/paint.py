"""Drawing a vehicle's mesh on a layer, and choosing vehicles at random."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.demo.camera import Camera, Floats
from pipeline.demo.mesh import Faces, Mesh, Solid, Wheel, circle
from pipeline.demo.people import Pose
from pipeline.demo.raster import SUBPIXEL_BITS, Colour, Layer, grain_tile, polygon
from pipeline.demo.vehicles import RUBBER, SKY, Vehicle, mesh

SUPERSAMPLE = 2

SHAPES = {
    "car": ("sedan", "sedan", "hatch", "hatch", "estate", "suv", "suv"),
    "bus": ("bus",),
    "truck": ("van", "lorry", "lorry", "tipper"),
    "cycle": ("bicycle", "bicycle", "motorcycle"),
}
SIZES = {  # length, width, height in metres
    "sedan": (4.6, 1.82, 1.45), "hatch": (4.05, 1.76, 1.5), "estate": (4.7, 1.82, 1.48),
    "suv": (4.55, 1.88, 1.68), "bus": (11.0, 2.5, 3.0), "van": (5.5, 2.0, 2.35),
    "lorry": (8.0, 2.45, 3.3), "tipper": (7.2, 2.45, 2.9),
    "bicycle": (1.75, 0.5, 1.05), "motorcycle": (2.05, 0.7, 1.1),
}  # fmt: skip
PAINTS: tuple[Colour, ...] = (
    (225, 226, 224), (196, 198, 200), (150, 153, 156), (96, 98, 102), (44, 46, 50), (24, 25, 28),
    (140, 24, 28), (176, 44, 36), (34, 58, 112), (66, 98, 146), (42, 80, 58), (196, 158, 60),
    (206, 106, 38), (118, 86, 62), (110, 134, 150), (180, 172, 152),
)  # fmt: skip
Picture = npt.NDArray[np.uint8]


class Easel:
    """A supersampled RGBA picture over a layer's rectangle, and the way from metres to it."""

    def __init__(self, layer: Layer, pose: Pose, camera: Camera) -> None:
        height, width = layer.alpha.shape
        self.layer, self.camera, self.pose = layer, camera, pose
        self.picture: Picture = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE, 4), np.uint8)
        sin, cos = float(np.sin(pose.heading)), float(np.cos(pose.heading))
        self.turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float32)
        self.shift = np.array([pose.x, pose.y, 0], np.float32)
        eye = (camera.position - self.shift) @ self.turn
        self.eye: Floats = eye.astype(np.float32)
        self.sun: Floats = (np.array(layer.light.towards, np.float32) @ self.turn).astype(np.float32)

    def pixels(self, points: Floats) -> tuple[Floats, Floats]:
        """Easel pixels (N, 2) and depths (N,) of local points (N, 3)."""
        pixels, depth = self.camera.project(points @ self.turn.T + self.shift)
        corner = np.array([self.layer.x0, self.layer.y0], np.float32)
        return (pixels - corner) * SUPERSAMPLE - 0.5, depth

    def shade(self, faces: Faces, which: npt.NDArray[np.intp]) -> Floats:
        """Colours (K, 3), 0 to 255, of the faces with these numbers (K,): sun, sky, gloss."""
        light, normals = self.layer.light, faces.normals[which]
        up = np.maximum(normals[:, 2], 0)
        lit = light.ambient * (0.74 + 0.3 * normals[:, 2]) + light.sun * np.maximum(normals @ self.sun, 0)
        sight = self.eye - faces.corners[which].mean(axis=1)
        sight /= np.linalg.norm(sight, axis=1, keepdims=True)
        slant = 1 - np.abs((sight * normals).sum(axis=1))
        half_way = sight + self.sun
        half_way /= np.maximum(np.linalg.norm(half_way, axis=1, keepdims=True), 1e-6)
        gloss = faces.gloss[which]
        mirror = gloss * (0.05 + 0.22 * up + 0.35 * slant**3) * light.ambient * 1.3
        glint = gloss * light.sun * np.maximum((half_way * normals).sum(axis=1), 0) ** 40
        glow = faces.glow[which]
        lit, mirror, glint = np.where(glow, 1.0, lit), np.where(glow, 0.0, mirror), np.where(glow, 0.0, glint)
        seen = faces.colours[which] * lit[:, None] + np.outer(mirror, SKY) + 190 * glint[:, None]
        clipped: Floats = np.clip(seen, 0, 255)
        return clipped

    def paint(self, faces: Faces, sort: bool) -> None:
        """Fill the faces that look this way; sorted, the farthest come first, else in their order."""
        towards = (faces.normals * (self.eye - faces.corners[:, 0])).sum(axis=1)
        visible = np.flatnonzero(towards > 0)
        if len(visible) == 0:
            return
        pixels, depth = self.pixels(faces.corners[visible].reshape(-1, 3))
        fixed = np.round(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32).reshape(-1, 4, 2)
        colours = self.shade(faces, visible).tolist()
        order = np.argsort(-depth.reshape(-1, 4).mean(axis=1), kind="stable") if sort else range(len(visible))
        for k in order:
            cv2.fillConvexPoly(self.picture, fixed[k], (*colours[k], 255), cv2.LINE_8, SUBPIXEL_BITS)

    def fill(self, points: Floats, colour: Colour) -> None:
        polygon(self.picture, points, (*colour, 255))


def random_vehicle(rng: np.random.Generator, label: str) -> Vehicle:
    """Some car, bus, truck or cycle."""
    paint = np.array(PAINTS[rng.integers(len(PAINTS))], float)
    paint += (paint.mean() - paint) * rng.uniform(0, 0.4)
    red, green, blue = np.clip(paint * rng.uniform(0.75, 1.05) + rng.normal(0, 6, 3), 10, 240).tolist()
    shape = str(rng.choice(SHAPES[label]))
    length, width, height = SIZES[shape]
    grow = rng.uniform(0.93, 1.07, 3)
    if shape == "bus":
        grow[0] = rng.uniform(0.75, 1.2)
    trim = (35.0, 36.0, 40.0) if rng.random() < 0.7 else (120.0, 122.0, 126.0)
    return Vehicle(
        label,
        shape,
        length * float(grow[0]),
        width * float(grow[1]),
        height * float(grow[2]),
        (red, green, blue),
        trim,
        bool(rng.random() < 0.25),
        int(rng.integers(1 << 20)),
    )


def _draw_solid(easel: Easel, solid: Solid) -> None:
    easel.paint(solid.skin, True)
    easel.paint(solid.marks, False)


def _draw_wheel(easel: Easel, wheel: Wheel, near: bool) -> None:
    ambient = easel.layer.light.ambient + 0.25 * easel.layer.light.sun
    outer = wheel.y + 0.02 * np.sign(wheel.y)
    inner = wheel.y - 0.18 * np.sign(wheel.y)

    def disc(y: float, radius: float, colour: Colour, strength: float) -> None:
        pixels, _ = easel.pixels(circle(wheel.x, y, wheel.radius, radius))
        red, green, blue = (min(c * strength, 255.0) for c in colour)
        easel.fill(pixels, (red, green, blue))

    if not near:
        disc(inner, wheel.radius, RUBBER, ambient * 0.7)
        return
    if wheel.arch:
        arch = circle(wheel.x, wheel.y, wheel.radius, wheel.radius * 1.16)
        arch[:, 2] = np.maximum(arch[:, 2], wheel.radius * 0.75)
        easel.fill(easel.pixels(arch)[0], (12, 12, 13))
    disc(inner, wheel.radius, RUBBER, ambient * 0.6)
    disc(outer, wheel.radius, RUBBER, ambient)
    disc(outer, wheel.radius * 0.64, (150, 152, 156), ambient)
    disc(outer, wheel.radius * 0.5, (84, 86, 90), ambient)
    disc(outer, wheel.radius * 0.2, (170, 170, 172), ambient)


def _draw_bars(easel: Easel, shapes: Mesh) -> None:
    strength = easel.layer.light.ambient + 0.5 * easel.layer.light.sun
    for bar in shapes.bars:
        pixels, depth = easel.pixels(bar.points)
        width = bar.width_m * easel.camera.focal_px * SUPERSAMPLE / float(depth.mean())
        red, green, blue = (min(c * strength, 255.0) for c in bar.colour)
        fixed = np.round(pixels * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(
            easel.picture, [fixed], False, (red, green, blue, 255), max(1, round(width)), cv2.LINE_8, 4
        )


def draw_vehicle(layer: Layer, vehicle: Vehicle, pose: Pose, camera: Camera) -> None:
    """Draw the vehicle on the layer (which must be blank), the farthest parts first."""
    shapes = mesh(vehicle)
    easel = Easel(layer, pose, camera)
    near_side = np.sign(easel.eye[1])
    wheels = sorted(shapes.wheels, key=lambda w: -abs(float(easel.eye[0]) - w.x))
    for wheel in wheels:
        if np.sign(wheel.y) != near_side:
            _draw_wheel(easel, wheel, False)
    centres = [solid.skin.corners.mean(axis=(0, 1)) for solid in shapes.solids]
    for k in sorted(range(len(centres)), key=lambda i: -float(np.linalg.norm(easel.eye - centres[i]))):
        _draw_solid(easel, shapes.solids[k])
    for wheel in wheels:
        if np.sign(wheel.y) == near_side:
            _draw_wheel(easel, wheel, True)
    _draw_bars(easel, shapes)
    _settle(easel, vehicle)


def _settle(easel: Easel, vehicle: Vehicle) -> None:
    """Bring the supersampled picture down to the layer, with a little grain and dirt."""
    height, width = easel.layer.alpha.shape
    small = cv2.resize(easel.picture, (width, height), interpolation=cv2.INTER_AREA)
    top = (vehicle.seed * 37) % 64
    tile = (
        np.resize(grain_tile()[top:], (height, width))
        if max(height, width) > 448
        else grain_tile()[top : top + height, :width]
    )
    easel.layer.rgb[:] = small[..., :3] * (1 + 0.2 * (tile - 1))[..., None]
    easel.layer.alpha[:] = small[..., 3] * np.float32(1 / 255)
