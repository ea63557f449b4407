"""The demo's scene: a street with people and cars on known paths.

Places on the ground are given in street coordinates, metres: `across` to the right of the road's middle,
`along` away from the camera. Nothing here knows how `pipeline.rules` finds events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from pipeline.demo.camera import Camera, Floats, Light
from pipeline.demo.figures import Figure, Sprite
from pipeline.demo.paint import random_vehicle
from pipeline.demo.people import STRIDE_M_PER_CYCLE, Person, Pose, random_person
from pipeline.demo.places import Plane, StreetPlan, cast, facade, noise_tile, sky, street_ground, tree
from pipeline.demo.raster import Layer, tube

FPS = 25
DURATION_S = 30.0
WIDTH, HEIGHT = 640, 360

STREET = StreetPlan(heading=1.42, offset_m=2.6, road_m=7.0, pavement_m=4.6, crossing_m=9.6)
KERB = -STREET.road_m / 2
FRONT = KERB - STREET.pavement_m
"""Where the houses on the left stand, metres across."""

PAVEMENT_LINE = ((FRONT, 12.5), (KERB, 12.5))
ROAD_LINE = ((KERB, 19.0), (-KERB, 19.0))
SHOP_ZONE = ((FRONT + 0.1, 14.0), (-5.5, 14.0), (-5.5, 17.5), (FRONT + 0.1, 17.5))
"""Lines and zones as (across, along); lines run from the left of the picture to the right."""

DWELL_S = 4.0
STOPPED_S = 3.0

Spot = tuple[float, float]


def on_ground(spot: Spot) -> Spot:
    """World (x, y) of a place in street coordinates."""
    across, along = spot[0] + STREET.offset_m, spot[1]
    sin, cos = float(np.sin(STREET.heading)), float(np.cos(STREET.heading))
    return across * sin + along * cos, -across * cos + along * sin


def demo_camera(width: int = WIDTH, height: int = HEIGHT) -> Camera:
    """Some 5 m above the ground, looking down the street."""
    return Camera(width, height, 0.95 * width, 4.8, 0.3)


def demo_light() -> Light:
    return Light.at(azimuth=-0.5, elevation=0.85, ambient=0.62, sun=0.42, shadow=0.4)


def in_picture(spot: Spot, camera: Camera) -> Spot:
    """Where a ground place is seen, as fractions of the picture's width and height."""
    pixels, _ = camera.project(np.array([[*on_ground(spot), 0.0]], np.float32))
    return float(pixels[0, 0]) / camera.width, float(pixels[0, 1]) / camera.height


# -- who moves where ---------------------------------------------------------------------------------------

STEP_S = 0.01


@dataclass(frozen=True)
class Actor:
    """A figure on a path of (t seconds, across, along) points; between them it moves evenly.

    `smooth_s` is the time over which corners and starts are rounded. Standing still it turns to `faces`
    (radians, world), if given. `track_id` is its number in the truth.
    """

    track_id: int
    name: str
    figure: Figure
    path: tuple[tuple[float, float, float], ...]
    smooth_s: float = 0.7
    faces: float | None = None

    def spots(self, t: Floats) -> Floats:
        """Street coordinates (N, 2) at times (N,), float64."""
        times, across, along = np.array(self.path).T
        taps = np.linspace(-self.smooth_s / 2, self.smooth_s / 2, 15)
        at = np.asarray(t, float)[:, None] + taps
        mean = [np.interp(at, times, values).mean(axis=1) for values in (across, along)]
        return np.stack(mean, axis=1)

    @cached_property
    def _motion(self) -> tuple[Floats, Floats, Floats, Floats]:
        """On a grid of STEP_S from the path's first time: x, y; heading; speed in m/s; distance in metres."""
        first, last = self.path[0][0], self.path[-1][0]
        spots = self.spots(np.arange(first, last + STEP_S, STEP_S))
        world = np.array([on_ground((a, b)) for a, b in spots])
        velocity = np.gradient(world, STEP_S, axis=0)
        speed = np.hypot(velocity[:, 0], velocity[:, 1])
        face = (
            np.zeros(2) if self.faces is None else 0.12 * np.array([np.cos(self.faces), np.sin(self.faces)])
        )
        pointed = velocity + face
        moving = np.hypot(pointed[:, 0], pointed[:, 1]) > 0.02
        kept = np.maximum.accumulate(np.where(moving, np.arange(len(moving)), np.argmax(moving)))
        heading = np.arctan2(pointed[kept, 1], pointed[kept, 0])
        return world, heading, speed, np.cumsum(speed) * STEP_S

    def pose(self, t: float) -> Pose | None:
        """Where it is and how it stands at a time; None before its path begins and after it ends."""
        first, last = self.path[0][0], self.path[-1][0]
        if not first <= t <= last:
            return None
        world, heading, speed, distance = self._motion
        k = min(round((t - first) / STEP_S), len(world) - 1)
        tall = self.figure.height_m
        phase = 2 * np.pi * float(distance[k]) / (STRIDE_M_PER_CYCLE * tall) + self.track_id
        return Pose(
            float(world[k, 0]), float(world[k, 1]), float(heading[k]), phase, min(float(speed[k]) / 1.2, 1.1)
        )


TO_THE_SHOP = STREET.heading + float(np.pi) / 2

WALKERS: tuple[tuple[str, tuple[tuple[float, float, float], ...], float | None], ...] = (
    ("walks away on the pavement", ((0, -4.1, 2), (17.5, -4.4, 25.5)), None),
    ("comes along the pavement", ((1.5, -4.7, 27), (19.5, -5.3, 3), (20.5, -5.4, 1.5)), None),
    (
        "crosses the road to the right",
        ((8.5, -4.2, 1.5), (13.5, -4.3, 8.2), (14.5, -3.6, 9.3), (22.5, 7.2, 9.3)),
        None,
    ),
    (
        "crosses the road to the left, behind the other",
        ((11.5, 7.2, 9.9), (19.5, -3.4, 9.9), (20.5, -4.2, 9.3), (26.5, -4.6, 1.5)),
        None,
    ),
    (
        "stops at the shop window",
        ((5.5, -6.0, 28), (14.5, -6.3, 15.6), (20.5, -6.3, 15.6), (29, -5.4, 4.5), (31, -5.2, 2)),
        TO_THE_SHOP,
    ),
    ("walks away, late", ((19.5, -5.0, 1.5), (35, -4.5, 22)), None),
)

DRIVERS: tuple[tuple[str, str, tuple[tuple[float, float, float], ...]], ...] = (
    ("drives away", "hatch", ((2.5, 1.7, -4), (9.5, 1.75, 62))),
    (
        "comes, stops at the crossing, drives on",
        "sedan",
        ((6.5, -1.8, 62), (11.6, -1.8, 20), (12.6, -1.8, 15), (13.2, -1.8, 14.2), (21.3, -1.8, 14.2),
         (22.4, -1.8, 11.5), (25, -1.8, -6)),
    ),
    ("drives away, late", "suv", ((23.5, 1.7, -4), (30.5, 1.75, 58))),
)  # fmt: skip


def demo_actors(seed: int) -> tuple[Actor, ...]:
    """People first, then cars; the seed changes how they look, never how they move."""
    rng = np.random.default_rng([seed, 1])
    actors: list[Actor] = []
    for name, path, faces in WALKERS:
        person: Person = replace(random_person(rng), coat=str(rng.choice(["shirt", "jacket", "stripes"])))
        actors.append(Actor(len(actors) + 1, name, person, path, 0.7, faces))
    for name, shape, path in DRIVERS:
        vehicle = random_vehicle(rng, "car")
        while vehicle.shape != shape:
            vehicle = random_vehicle(rng, "car")
        actors.append(Actor(len(actors) + 1, name, vehicle, path, 1.4))
    return tuple(actors)


# -- the place ---------------------------------------------------------------------------------------------


def demo_background(seed: int, camera: Camera) -> Floats:
    """The empty street (height, width, 3), float32 RGB."""
    rng = np.random.default_rng([seed, 2])
    fine = replace(camera, width=camera.width * 2, height=camera.height * 2, focal_px=camera.focal_px * 2)
    tile = noise_tile(rng)
    right = np.array([np.sin(STREET.heading), -np.cos(STREET.heading)])
    along = (float(np.cos(STREET.heading)), float(np.sin(STREET.heading)), 0.0)
    planes = [Plane((0, 0, 0), (1, 0, 0), (0, 1, 0), street_ground(STREET, tile))]
    for front, wall, tall in ((FRONT, (158, 132, 112), 15.0), (-FRONT + 2, (150, 148, 144), 12.0)):
        base = right * (STREET.offset_m + front)
        texture = facade(rng, tile, wall, 3.4, 3.3)
        planes.append(
            Plane((float(base[0]), float(base[1]), 0), along, (0, 0, 1), texture, (-50, 90, 0, tall))
        )
    picture = cv2.resize(
        cast(fine, planes, sky(rng, fine)), (camera.width, camera.height), interpolation=cv2.INTER_AREA
    )
    return np.clip(picture, 0, 255).astype(np.float32)


def street_furniture(seed: int, camera: Camera, light: Light) -> list[Sprite]:
    """Things that stand in the way: a lamp post at the kerb and a young tree across the road."""
    rng = np.random.default_rng([seed, 3])
    sprites = []
    for spot, tall, half, colour in (
        ((KERB - 0.4, 10.9), 6.5, 0.07, (70, 74, 76)),
        ((-KERB + 0.8, 24.0), 3.0, 0.1, (84, 66, 48)),
    ):
        x, y = on_ground(spot)
        pixels, depth = camera.project(np.array([[x, y, 0], [x, y, tall]], np.float32))
        (foot_x, foot_y), (top_x, top_y) = pixels.tolist()
        layer = Layer.blank(0, 0, camera.width, camera.height, camera, light)
        scale = (camera.focal_px / depth).tolist()
        tube(layer, [top_y, foot_y], [top_x, foot_x], [half * scale[1] * 0.8, half * scale[0]], colour, 0.5)
        sprites.append(Sprite(layer, float(depth[0])).cropped())
        if tall < 4:
            side = int(3.2 * scale[1])
            rgb, cover = tree(rng, side)
            crown = Layer(int(top_x - side / 2), int(top_y - side / 2), rgb * cover[..., None], cover)
            sprites.append(Sprite(crown, float(depth[0]) - 0.01))
    return sprites
