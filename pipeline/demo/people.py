"""People: a jointed figure of tapering limbs, posed by a walking cycle and drawn from any side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from pipeline.demo.camera import Camera, Floats
from pipeline.demo.raster import Colour, Layer, capsule, darker, tube

STRIDE_M_PER_CYCLE = 0.86
"""Ground covered by one walking cycle (two steps), in body heights."""


BEHIND_M = -0.13
"""Legs count as this much nearer (farther, being negative), so that jackets and skirts fall over them."""


@dataclass(frozen=True)
class Pose:
    """Where and how a figure stands: metres, radians; heading 0 looks along +x, pi / 2 away from the camera.

    `phase` runs through 2 pi per walking cycle; `stride` is 0 for standing and 1 for walking.
    """

    x: float
    y: float
    heading: float
    phase: float = 0.0
    stride: float = 1.0
    riding: bool = False
    base_m: float = 0.0


@dataclass(frozen=True)
class Person:
    """How somebody looks. Colours are RGB 0 to 255, `build` is a factor on widths."""

    height_m: float = 1.74
    build: float = 1.0
    skin: Colour = (224, 178, 148)
    hair: Colour = (60, 42, 30)
    hair_style: str = "short"  # short, long, bald, hat
    top: Colour = (120, 40, 40)
    coat: str = "jacket"  # shirt, jacket, coat, stripes
    bottom: Colour = (40, 50, 80)
    legs: str = "trousers"  # trousers, shorts, skirt
    shoes: Colour = (40, 36, 34)
    backpack: Colour | None = None
    bag: Colour | None = None
    seed: int = 0

    @property
    def label(self) -> str:
        return "person"


SKINS: tuple[Colour, ...] = (
    (236, 196, 170),
    (222, 176, 146),
    (198, 148, 116),
    (150, 104, 78),
    (104, 70, 54),
    (72, 48, 38),
)
HAIRS: tuple[Colour, ...] = (
    (28, 22, 20),
    (56, 38, 26),
    (96, 66, 40),
    (168, 132, 84),
    (120, 118, 116),
    (88, 44, 26),
)
CLOTHES: tuple[Colour, ...] = (
    (28, 30, 34), (48, 52, 60), (90, 92, 96), (150, 150, 148), (212, 210, 204), (34, 46, 84),
    (58, 86, 140), (122, 150, 184), (118, 30, 34), (176, 52, 44), (196, 120, 48), (204, 172, 84),
    (46, 78, 52), (92, 112, 74), (96, 72, 52), (150, 122, 90), (98, 58, 104),
    (196, 128, 146), (44, 120, 126), (230, 196, 40),
)  # fmt: skip
BOTTOMS: tuple[Colour, ...] = (
    (30, 32, 38), (38, 46, 72), (58, 74, 106), (96, 112, 140), (70, 66, 62), (132, 118, 96),
    (170, 160, 140), (22, 22, 24),
)  # fmt: skip


def random_person(rng: np.random.Generator) -> Person:
    """Somebody else each time."""

    def pick(colours: tuple[Colour, ...], spread: float) -> Colour:
        base = np.array(colours[rng.integers(len(colours))], float)
        # cloth in the open is paler than its dye
        base += (base.mean() - base) * rng.uniform(0.0, 0.5)
        base = base * rng.uniform(0.75, 1.05) + rng.normal(0, spread, 3)
        red, green, blue = np.clip(base, 8, 245)
        return float(red), float(green), float(blue)

    legs = str(rng.choice(["trousers", "trousers", "trousers", "trousers", "shorts", "skirt"]))
    return Person(
        height_m=float(np.clip(rng.normal(1.71, 0.1), 1.35, 1.98)),
        build=float(rng.uniform(0.88, 1.22)),
        skin=pick(SKINS, 3),
        hair=pick(HAIRS, 4),
        hair_style=str(rng.choice(["short", "short", "short", "long", "long", "bald", "hat"])),
        top=pick(CLOTHES, 8),
        coat=str(rng.choice(["shirt", "shirt", "jacket", "jacket", "coat", "stripes"])),
        bottom=pick(BOTTOMS, 6),
        legs=legs,
        shoes=pick(CLOTHES[:9], 5),
        backpack=pick(CLOTHES, 8) if rng.random() < 0.22 else None,
        bag=pick(CLOTHES, 8) if rng.random() < 0.22 else None,
        seed=int(rng.integers(1 << 20)),
    )


@dataclass(frozen=True)
class Part:
    """A limb (two ends, two radii) or, with more points, an upright body of rings (half width, half depth).

    Body coordinates: metres, x forward, y to the left, z up. `nearer` metres are taken off the depth by which
    parts are ordered.
    """

    points: tuple[tuple[float, float, float], ...]
    sizes: tuple[tuple[float, float], ...]
    colour: Colour
    nearer: float = 0.0
    grain: float = 1.0
    stripe: Colour | None = None

    def moved(self, ahead: float, up: float) -> Part:
        """The same part elsewhere, metres."""
        return replace(self, points=tuple((x + ahead, y, z + up) for x, y, z in self.points))


def _limb(
    a: Floats, b: Floats, ra: float, rb: float, colour: Colour, nearer: float = 0.0, grain: float = 1.0
) -> Part:
    first, second = (float(a[0]), float(a[1]), float(a[2])), (float(b[0]), float(b[1]), float(b[2]))
    return Part((first, second), ((ra, ra), (rb, rb)), colour, nearer, grain)


def _swing(origin: Floats, angle: float, length: float, spread: float = 0.0) -> Floats:
    """The end of a limb that hangs from `origin`, turned forward by `angle`, outward by `spread`."""
    return origin + length * np.array([np.sin(angle), spread, -np.cos(angle)], np.float32)


def _leg(person: Person, pose: Pose, side: int, hip_z: float) -> tuple[list[Part], float]:
    """Thigh, shin and foot of one side (+1 left), and the height of the sole."""
    tall, wide = person.height_m, person.height_m * person.build
    swing = pose.phase + (0 if side > 0 else np.pi)
    thigh_angle = 0.44 * pose.stride * np.sin(swing) + 0.03
    bend = 0.1 + pose.stride * (0.12 + 0.85 * max(0.0, float(np.cos(swing))) ** 1.5)
    if pose.riding:
        thigh_angle, bend = 1.05 + 0.42 * np.sin(swing), 1.3 + 0.45 * np.sin(swing)
    hip = np.array([0, side * 0.052 * wide, hip_z], np.float32)
    knee = _swing(hip, thigh_angle, 0.245 * tall)
    ankle = _swing(knee, thigh_angle - bend, 0.245 * tall)
    toe_angle = thigh_angle - bend + np.pi / 2 - (0.1 if pose.riding else 0.0)
    heel = _swing(ankle, thigh_angle - bend, 0.022 * tall)
    toe = _swing(heel, float(np.clip(toe_angle, 0.75, np.pi / 2)), 0.1 * tall)
    cloth = person.bottom if person.legs == "trousers" else person.skin
    upper = person.skin if person.legs == "skirt" else person.bottom
    shade = 1.0 if side > 0 else 0.94
    width = 1.0 if person.legs == "trousers" else 0.88
    parts = [
        _limb(heel, toe, 0.022 * tall, 0.017 * tall, person.shoes, BEHIND_M, 0.5),
        _limb(knee, ankle, 0.036 * wide * width, 0.028 * wide * width, darker(cloth, shade * 0.97), BEHIND_M),
        _limb(hip, knee, 0.05 * wide, 0.038 * wide, darker(upper, shade), BEHIND_M),
    ]
    return parts, float(min(heel[2] - 0.022 * tall, toe[2] - 0.017 * tall))


def _arm(person: Person, pose: Pose, side: int, lift: float) -> list[Part]:
    tall, wide = person.height_m, person.height_m * person.build
    swing = pose.phase + (np.pi if side > 0 else 0)
    angle = 0.5 * pose.stride * np.sin(swing)
    bend = 0.18 + 0.3 * pose.stride * max(0.0, float(np.sin(swing)))
    if pose.riding:
        angle, bend = 0.95, 0.25
    elif pose.stride < 0.3 and side < 0 and person.seed % 3 == 0:
        angle, bend = 0.35, 1.7  # looks at a telephone
    shoulder = np.array([0.0, side * 0.104 * wide, 0.8 * tall + lift], np.float32)
    elbow = _swing(shoulder, angle, 0.165 * tall, side * 0.1)
    wrist = _swing(elbow, angle + bend, 0.145 * tall, -side * 0.02)
    hand = _swing(wrist, angle + bend, 0.045 * tall)
    sleeve = person.top if person.coat != "shirt" or person.seed % 2 else person.skin
    near = 0.02
    parts = [
        _limb(shoulder, elbow, 0.032 * wide, 0.027 * wide, person.top, near),
        _limb(elbow, wrist, 0.027 * wide, 0.02 * wide, darker(sleeve, 0.97), near + 0.01),
        _limb(wrist, hand, 0.018 * wide, 0.016 * wide, person.skin, near + 0.015, 0.3),
    ]
    if person.bag is not None and side < 0 and not pose.riding:
        drop = hand - np.array([0, 0, 0.13 * tall], np.float32)
        ring = (0.075 * tall, 0.03 * tall)
        points = tuple((float(drop[0]), float(drop[1]), float(drop[2]) + z * tall) for z in (0.13, 0.1, 0.0))
        parts.append(Part(points, ((0.02 * tall, 0.01 * tall), ring, ring), person.bag, near + 0.05))
    return parts


def _torso(person: Person, lift: float, lean: float) -> list[Part]:
    tall, wide = person.height_m, person.height_m * person.build
    rings = [
        (0.855, 0.03, 0.03), (0.835, 0.056, 0.042), (0.818, 0.092, 0.052), (0.795, 0.103, 0.058),
        (0.72, 0.1, 0.068), (0.61, 0.083, 0.062), (0.5, 0.088, 0.062),
    ]  # fmt: skip
    hem = {"coat": 0.31, "jacket": 0.455, "shirt": 0.48, "stripes": 0.47}[person.coat]
    flare = 0.104 if person.coat == "coat" else 0.091
    rings[-1] = (hem, flare, 0.07)

    def body(
        levels: list[tuple[float, float, float]], colour: Colour, nearer: float, stripe: Colour | None
    ) -> Part:
        points = tuple((lean * (z - 0.5) * tall, 0.0, z * tall + lift) for z, _, _ in levels)
        return Part(points, tuple((w * wide, d * wide) for _, w, d in levels), colour, nearer, stripe=stripe)

    stripe = darker(person.top, 0.45) if person.coat == "stripes" else None
    parts = [body(rings, person.top, 0.0, stripe)]
    if person.legs == "skirt":
        skirt = [(0.52, 0.08, 0.06), (0.45, 0.1, 0.075), (0.3, 0.118, 0.09)]
        parts.append(body(skirt, person.bottom, -0.03, None))
    else:
        pelvis = [(0.53, 0.082, 0.058), (0.48, 0.09, 0.064), (0.44, 0.075, 0.055)]
        parts.append(body(pelvis, person.bottom, BEHIND_M + 0.02, None))
    if person.backpack is not None:
        points = tuple(
            (-0.095 * tall + lean * 0.2 * tall, 0.0, z * tall + lift) for z in (0.82, 0.79, 0.62, 0.58)
        )
        sizes = tuple(
            (w * tall, d * tall) for w, d in ((0.05, 0.03), (0.08, 0.05), (0.085, 0.055), (0.07, 0.04))
        )
        parts.append(Part(points, sizes, person.backpack, 0.0, 1.3))
    return parts


def _head(person: Person, lift: float, lean: float) -> list[Part]:
    tall = person.height_m
    ahead = lean * 0.4 * tall

    def point(x: float, y: float, z: float) -> Floats:
        return np.array([x * tall + ahead, y * tall, z * tall + lift], np.float32)

    parts = [
        _limb(
            point(0, 0, 0.83),
            point(0.01, 0, 0.875),
            0.031 * tall,
            0.028 * tall,
            darker(person.skin, 0.82),
            0,
            0.3,
        ),
        _limb(
            point(0.018, 0, 0.9), point(0.008, 0, 0.945), 0.039 * tall, 0.049 * tall, person.skin, 0.01, 0.4
        ),
    ]
    for side in (1, -1):
        parts.append(
            _limb(
                point(0.05, side * 0.019, 0.932),
                point(0.05, side * 0.021, 0.932),
                0.006 * tall,
                0.0055 * tall,
                darker(person.hair, 0.6),
                0.012,
                0,
            )
        )
    parts.append(
        _limb(point(0.055, 0.009, 0.897), point(0.055, -0.009, 0.897), 0.005 * tall, 0.005 * tall,
              darker(person.skin, 0.66), 0.012, 0)
    )  # fmt: skip
    if person.hair_style == "bald":
        return parts
    colour = person.top if person.hair_style == "hat" else person.hair
    crown = 0.051 if person.hair_style == "hat" else 0.05
    parts.append(
        _limb(point(-0.016, 0, 0.94), point(0.0, 0, 0.957), 0.05 * tall, crown * tall, colour, 0.0, 0.8)
    )
    parts.append(
        _limb(
            point(0.014, 0.018, 0.975), point(0.014, -0.018, 0.975), 0.022 * tall, 0.022 * tall, colour, 0.02
        )
    )
    if person.hair_style == "long":
        parts.append(
            _limb(point(-0.026, 0, 0.94), point(-0.034, 0, 0.83), 0.052 * tall, 0.038 * tall, colour, 0.0)
        )
    return parts


def _parts(person: Person, pose: Pose) -> Iterator[Part]:
    hip_z = 0.535 * person.height_m
    left, left_sole = _leg(person, pose, 1, hip_z)
    right, right_sole = _leg(person, pose, -1, hip_z)
    lift = (pose.base_m if pose.riding else 0.0) - min(left_sole, right_sole)
    for part in (*left, *right):
        yield part.moved(0.0, lift)
    lean = 0.45 if pose.riding else 0.06 * pose.stride
    torso_lift = lift - 0.005 * person.height_m
    yield from _torso(person, torso_lift, lean)
    for part in (*_arm(person, pose, 1, torso_lift), *_arm(person, pose, -1, torso_lift)):
        yield part.moved(lean * 0.3 * person.height_m, 0.0)
    yield from _head(person, torso_lift, lean)


@dataclass(frozen=True)
class Body:
    """A posed person in world coordinates: the parts, and for each the range of its points."""

    parts: tuple[Part, ...]
    ranges: tuple[slice, ...]
    points: Floats
    heading: float


@lru_cache(maxsize=64)
def pose_person(person: Person, pose: Pose) -> Body:
    """Body parts turned by the heading and set on the ground at the pose's place."""
    parts = tuple(_parts(person, pose))
    local = np.array([p for part in parts for p in part.points], np.float32)
    sin, cos = np.sin(pose.heading), np.cos(pose.heading)
    world = local.copy()
    world[:, 0] = pose.x + local[:, 0] * cos - local[:, 1] * sin
    world[:, 1] = pose.y + local[:, 0] * sin + local[:, 1] * cos
    stops = np.cumsum([len(part.points) for part in parts])
    ranges = tuple(
        slice(int(stop) - len(part.points), int(stop)) for part, stop in zip(parts, stops, strict=True)
    )
    return Body(parts, ranges, world, pose.heading)


def body_reach(body: Body) -> Floats:
    """The largest radius around each of the body's points, in metres (N,)."""
    return np.array([max(size) for part in body.parts for size in part.sizes], np.float32)


def draw_body(layer: Layer, body: Body, camera: Camera, seed: int = 0) -> None:
    """Draw the parts, the farthest first."""
    pixels, depth = camera.project(body.points)
    starts, sizes = [at.start for at in body.ranges], [len(part.points) for part in body.parts]
    nearer = np.array([part.nearer for part in body.parts])
    order = np.argsort(nearer - np.add.reduceat(depth, starts) / sizes, kind="stable").tolist()
    for index in order:
        part, at = body.parts[index], body.ranges[index]
        scale = camera.focal_px / depth[at]
        ends = pixels[at]
        if len(part.points) == 2:
            radii = [max(part.sizes[k][0] * float(scale[k]), 0.4) for k in (0, 1)]
            capsule(layer, ends.tolist(), radii, part.colour, part.grain, seed + index * 7)
            continue
        # how wide a ring of half width (across the body) and half depth (along it) looks from here
        sight = float(np.arctan2(body.points[at][0, 1], body.points[at][0, 0]))
        turned = body.heading - sight
        halves = [
            float(np.hypot(wide * np.cos(turned), deep * np.sin(turned)) * s)
            for (wide, deep), s in zip(part.sizes, scale, strict=True)
        ]
        stripe = None if part.stripe is None else (part.stripe, 0.07 * float(scale.mean()))
        rows = ends[:, 1].tolist()
        if rows[-1] - rows[0] >= 1:
            tube(layer, rows, ends[:, 0].tolist(), halves, part.colour, part.grain, seed + index * 7, stripe)
