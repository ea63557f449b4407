"""Simulated camera scenes: people and vehicles on a ground plane, seen by a camera and by a noisy detector.

The motion model is trained on these scenes and the tracker is tuned on them, on no recorded sequence.
A scene has a pinhole camera (fixed, carried or driven, panning and shaking), objects as upright cuboids that
walk, drive, turn, stop and go in groups, and things that only hide others. The detector misses in bursts,
more so what is hidden; its scores follow the same latent quality, and low scores come with coarser boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PERSON, CYCLE, CAR, TRUCK, OCCLUDER, GHOST = range(6)
"""Kinds of things. An occluder hides but is not detected; a ghost is detected but is not there."""

CLASS_NAMES = ("person", "cycle", "car", "truck", "person", "person")

SIZES_M = np.array(  # metres: width, length, height
    [[0.55, 0.4, 1.72], [0.6, 1.7, 1.75], [1.8, 4.3, 1.5], [2.5, 8.0, 3.2], [0.8, 0.8, 2.6], [0.6, 0.4, 1.7]]
)
SPEED_M_S = np.array([1.3, 4.5, 8.0, 7.0, 0.0, 0.0])  # metres per second
TURN_RAD_S = np.array([0.5, 0.25, 0.12, 0.06, 0.0, 0.0])  # radians per second, standard deviation
ACCELERATION_S = np.array([0.6, 1.5, 2.0, 3.0, 1.0, 1.0])  # time constant of changes of speed
_CORNERS = np.array([[sx, sy, sz] for sx in (-0.5, 0.5) for sy in (0.0, 1.0) for sz in (-0.5, 0.5)])


@dataclass(frozen=True)
class SceneSettings:
    """What a scene is like. `None` leaves a choice to chance."""

    duration_s: float = 10.0
    fps: float | None = None
    num_objects: int = 16
    camera: str | None = None  # fixed, carried or driven
    vehicles: float = 0.25  # share of the objects
    width_px: int = 1280
    height_px: int = 720
    ghosts: int | None = None  # 0 to 2
    ghost_spread: float = 0.0  # standard deviation of the logarithm of their size
    stream: float | None = None  # share that goes along one axis, either way; the others in any direction
    axis: float | None = None  # of the stream, radians from the camera's first direction; 0 is to and fro
    turns: tuple[float, ...] = (0.1, 0.4, 1.5)  # how restless things are; each draws one of these
    turn_odds: tuple[float, ...] | None = None  # equal
    stops_per_s: float = 0.08

    def __post_init__(self) -> None:
        if self.camera not in (None, "fixed", "carried", "driven"):
            raise ValueError(f"camera must be fixed, carried or driven, got {self.camera!r}")
        if self.duration_s <= 0 or self.num_objects <= 0:
            raise ValueError(
                f"a scene needs a duration and objects, got {self.duration_s=}, {self.num_objects=}"
            )


@dataclass(frozen=True)
class DetectorSettings:
    """How good the detector is. `quality` is the mean latent score (a logit), about 0 for a weak one."""

    quality: float = 2.0
    spread: float = 1.0  # standard deviation of the latent over time
    flicker_s: float = 0.3  # correlation time of the latent
    min_score: float = 0.3
    miss: float = 0.03  # share missed besides
    jitter: float = 0.03  # of the box's height, standard deviation of an edge at score 1
    false_per_frame: float = 0.1
    duplicates: float = 0.01


@dataclass(frozen=True)
class Scene:
    """Truth. Boxes are xyxy pixels; M things, T frames."""

    t: Array = field(repr=False)  # (T,) seconds
    boxes: Array = field(repr=False)  # (M, T, 4)
    present: NDArray[np.bool_] = field(repr=False)  # (M, T) in the picture
    visibility: Array = field(repr=False)  # (M, T) share that nothing hides, 0..1
    kinds: NDArray[np.int64] = field(repr=False)  # (M,)
    size_px: tuple[int, int] = (1280, 720)

    @property
    def real(self) -> NDArray[np.bool_]:
        """(M,) which things are objects, neither occluders nor ghosts."""
        return np.asarray(self.kinds < OCCLUDER)


@dataclass(frozen=True)
class Detections:
    """Rows in frame order. `thing` is the index into the scene, -1 for a false box."""

    frame: NDArray[np.int64] = field(repr=False)  # (N,)
    boxes: Array = field(repr=False)  # (N, 4) xyxy pixels
    scores: Array = field(repr=False)  # (N,) 0..1
    thing: NDArray[np.int64] = field(repr=False)  # (N,)


def simulate_scene(rng: np.random.Generator, settings: SceneSettings | None = None) -> Scene:
    """One scene with its truth; the same generator state gives the same scene."""
    settings = settings or SceneSettings()
    fps = settings.fps or float(rng.choice([30, 30, 25, 25, 15, 14, 12.5, 10, 10, 7.5, 5, 3.5]))
    t = np.arange(max(2, round(settings.duration_s * fps))) / fps
    kind = settings.camera or str(rng.choice(["fixed", "carried", "driven"], p=[0.55, 0.3, 0.15]))
    camera = Camera.sample(rng, kind, t, settings)
    kinds = _choose_kinds(rng, settings)
    paths, headings = _walk(rng, kinds, t, camera, settings)
    boxes, depth = camera.project(paths, headings, _sizes(rng, kinds, t, settings.ghost_spread))
    present = _in_picture(boxes, depth, settings)
    if rng.random() < 0.5:
        boxes = np.clip(boxes, 0, [settings.width_px, settings.height_px] * 2)
    visibility = _visibility_of(boxes, depth, present & (kinds != GHOST)[:, None])
    return Scene(t, boxes, present, visibility, kinds, (settings.width_px, settings.height_px))


@dataclass(frozen=True)
class Camera:
    position: Array  # (T, 2) metres on the ground
    yaw: Array  # (T,) radians
    pitch: Array  # (T,) radians, positive looks down
    height_m: float
    focal_px: float
    centre_px: tuple[float, float]

    @staticmethod
    def sample(rng: np.random.Generator, kind: str, t: Array, settings: SceneSettings) -> Camera:
        focal = settings.width_px * rng.uniform(0.6, 1.6)
        high = kind == "fixed" and rng.random() < 0.6
        height = rng.uniform(2.5, 8.0) if high else rng.uniform(0.9, 2.0)
        pitch = rng.uniform(0.15, 0.6) if high else rng.uniform(-0.02, 0.12)
        speed = {"fixed": 0.0, "carried": rng.uniform(0.0, 1.6), "driven": rng.uniform(0.0, 9.0)}[kind]
        shake = {"fixed": 0.0002 * (rng.random() < 0.3), "carried": 0.003, "driven": 0.0015}[kind]
        turn = {"fixed": 0.0, "carried": 0.15, "driven": 0.12}[kind]
        if kind == "fixed" and rng.random() < 0.15:  # a camera that pans
            turn = 0.2
        yaw = np.cumsum(wander(rng, (len(t),), t, 1.5) * turn) * _frame_step(t)
        bob = np.sin(2 * np.pi * rng.uniform(1.5, 2.2) * t + rng.uniform(0, 6)) * shake * rng.uniform(0, 1.5)
        nod = wander(rng, (2, len(t)), t, 0.15) * shake * rng.uniform(0.2, 1.0)
        way = np.stack([np.sin(yaw), np.cos(yaw)], axis=1) * speed * _frame_step(t)  # (T, 2)
        centre = (settings.width_px / 2, settings.height_px / 2)
        return Camera(np.cumsum(way, axis=0), yaw + nod[0], pitch + bob + nod[1], height, focal, centre)

    def project(self, paths: Array, headings: Array, sizes: Array) -> tuple[Array, Array]:
        """Boxes (M, T, 4) in pixels and depths (M, T) in metres of cuboids standing on the ground."""
        local = _CORNERS[None, None] * sizes[..., None, [0, 2, 1]]  # (M, T, 8, 3): across, up, along
        cos, sin = np.cos(headings)[..., None], np.sin(headings)[..., None]
        x = paths[..., None, 0] + local[..., 0] * cos + local[..., 2] * sin - self.position[None, :, None, 0]
        z = paths[..., None, 1] - local[..., 0] * sin + local[..., 2] * cos - self.position[None, :, None, 1]
        cos, sin = np.cos(self.yaw)[None, :, None], np.sin(self.yaw)[None, :, None]
        x, z = x * cos - z * sin, x * sin + z * cos
        y = self.height_m - local[..., 1]
        cos, sin = np.cos(self.pitch)[None, :, None], np.sin(self.pitch)[None, :, None]
        y, z = y * cos - z * sin, y * sin + z * cos
        near = np.maximum(z, 0.3)
        u = self.centre_px[0] + self.focal_px * x / near
        v = self.centre_px[1] + self.focal_px * y / near
        boxes = np.stack([u.min(-1), v.min(-1), u.max(-1), v.max(-1)], axis=-1)  # (M, T, 4)
        return boxes, z.min(-1)


def _frame_step(t: Array) -> float:
    return float(t[1] - t[0])


def wander(rng: np.random.Generator, shape: tuple[int, ...], t: Array, correlation_s: float) -> Array:
    """Ornstein-Uhlenbeck noise of unit variance along the last axis."""
    keep = np.exp(-_frame_step(t) / correlation_s)
    noise = rng.standard_normal(shape)
    out = np.empty(shape)
    out[..., 0] = noise[..., 0]
    for i in range(1, shape[-1]):
        out[..., i] = keep * out[..., i - 1] + np.sqrt(1 - keep**2) * noise[..., i]
    return out


def _choose_kinds(rng: np.random.Generator, settings: SceneSettings) -> NDArray[np.int64]:
    n = settings.num_objects
    kinds = np.where(rng.random(n) < settings.vehicles, rng.choice([CYCLE, CAR, CAR, TRUCK], n), PERSON)
    occluders = int(rng.integers(0, 4))
    ghosts = int(rng.integers(0, 3)) if settings.ghosts is None else settings.ghosts
    extra = [OCCLUDER] * occluders + [GHOST] * ghosts
    return np.concatenate([kinds, extra]).astype(np.int64)


def _sizes(rng: np.random.Generator, kinds: NDArray[np.int64], t: Array, ghost_spread: float) -> Array:
    """(M, T, 3) width, length, height in metres; a walker's width swings with the steps."""
    base = SIZES_M[kinds] * rng.uniform(0.85, 1.15, (len(kinds), 3))
    if ghost_spread > 0:
        base *= np.where(kinds == GHOST, np.exp(rng.normal(0, ghost_spread, len(kinds))), 1.0)[:, None]
    each = (len(kinds), 1)
    swing = np.sin(2 * np.pi * rng.uniform(0.8, 1.1, each) * t + rng.uniform(0, 6, each))
    share = np.where((kinds == PERSON)[:, None], rng.uniform(0, 0.3, each), 0.0)
    width = 1 + share * swing  # (M, T)
    return np.asarray(base[:, None] * np.stack([width, width, np.ones_like(width)], axis=-1))


def _walk(
    rng: np.random.Generator, kinds: NDArray[np.int64], t: Array, camera: Camera, settings: SceneSettings
) -> tuple[Array, Array]:
    """Paths (M, T, 2) in metres and headings (M, T) in radians."""
    m, step = len(kinds), _frame_step(t)
    cruise = SPEED_M_S[kinds] * rng.uniform(0.5, 1.5, m)
    cruise *= np.where(rng.random(m) < 0.15, 0.0, np.where(rng.random(m) < 0.08, 2.0, 1.0))
    restless = wander(rng, (m, len(t)), t, 1.2)
    turning = restless * (TURN_RAD_S[kinds] * rng.choice(settings.turns, m, p=settings.turn_odds))[:, None]
    headings = _first_headings(rng, m, settings)[:, None] + np.cumsum(turning * step, axis=1)
    flips = rng.random((m, len(t))) < (settings.stops_per_s * step)  # stop or go again
    goes = np.logical_xor.accumulate(flips, axis=1) ^ True
    speed = np.empty((m, len(t)))
    speed[:, 0] = cruise
    follow = np.clip(step / ACCELERATION_S[kinds], 0, 1)
    for i in range(1, len(t)):
        speed[:, i] = speed[:, i - 1] + follow * (cruise * goes[:, i] - speed[:, i - 1])
    way = np.stack([np.sin(headings), np.cos(headings)], axis=-1) * (speed * step)[..., None]
    paths = np.cumsum(way, axis=1)
    paths += _places(rng, kinds, paths, camera)
    for i in range(1, m):  # companions
        if kinds[i] == kinds[i - 1] == PERSON and rng.random() < 0.3:
            beside = rng.uniform(0.4, 0.9) * rng.choice([-1, 1])
            drift = wander(rng, (2, len(t)), t, 2.0).T * 0.12
            across = np.stack([np.cos(headings[i - 1]), -np.sin(headings[i - 1])], axis=-1)
            paths[i] = paths[i - 1] + beside * across + drift
            headings[i] = headings[i - 1]
    return paths, headings


def _first_headings(rng: np.random.Generator, m: int, settings: SceneSettings) -> Array:
    """(M,) radians."""
    if settings.stream is None:
        return rng.uniform(0, 2 * np.pi, m)
    axis = rng.uniform(0, np.pi) if settings.axis is None else settings.axis
    along = axis + np.pi * rng.integers(0, 2, m) + rng.normal(0, 0.12, m)
    return np.where(rng.random(m) < settings.stream, along, rng.uniform(0, 2 * np.pi, m))


def _places(rng: np.random.Generator, kinds: NDArray[np.int64], paths: Array, camera: Camera) -> Array:
    """(M, 1, 2) shifts that put every thing into the view at some moment of its own."""
    m, moments = len(kinds), paths.shape[1]
    when = rng.integers(0, moments, m)
    near = np.where((kinds == CAR) | (kinds == TRUCK), 6.0, 2.5) * (1 + 0.3 * camera.height_m)
    depth = near * np.exp(rng.uniform(0, np.log(9), m))
    half_view = camera.centre_px[0] / camera.focal_px
    across = depth * half_view * rng.uniform(-1, 1, m)
    yaw = camera.yaw[when]
    x = camera.position[when, 0] + across * np.cos(yaw) + depth * np.sin(yaw)
    z = camera.position[when, 1] - across * np.sin(yaw) + depth * np.cos(yaw)
    return np.asarray((np.stack([x, z], axis=-1) - paths[np.arange(m), when])[:, None])


def _in_picture(boxes: Array, depth: Array, settings: SceneSettings) -> NDArray[np.bool_]:
    inside = np.clip(boxes, 0, [settings.width_px, settings.height_px] * 2)
    area = _area(boxes)
    share = _area(inside) / np.maximum(area, 1e-9)
    tall = boxes[..., 3] - boxes[..., 1]
    return (depth > 0.8) & (share > 0.4) & (tall > 14) & (tall < 1.6 * settings.height_px)


def _area(boxes: Array) -> Array:
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))


def _visibility_of(boxes: Array, depth: Array, hides: NDArray[np.bool_]) -> Array:
    """(M, T) one minus the largest share of a box that one nearer thing covers."""
    low = np.maximum(boxes[:, None, :, :2], boxes[None, :, :, :2])
    high = np.minimum(boxes[:, None, :, 2:], boxes[None, :, :, 2:])
    overlap = np.prod(np.clip(high - low, 0, None), axis=-1)  # (M, M, T): of the first, by the second
    nearer = (depth[None] < depth[:, None]) & hides[None]
    covered = np.where(nearer, overlap, 0).max(axis=1) / np.maximum(_area(boxes), 1e-9)
    return np.asarray(np.clip(1 - covered, 0, 1))


def detect(rng: np.random.Generator, scene: Scene, settings: DetectorSettings | None = None) -> Detections:
    """What a detector of that quality finds in the scene."""
    settings = settings or DetectorSettings()
    latent = settings.spread * wander(rng, scene.present.shape, scene.t, settings.flicker_s)
    latent += settings.quality
    latent += rng.normal(0, 0.5 * settings.spread, (len(scene.kinds), 1))
    latent -= 9.0 * np.clip(0.55 - scene.visibility, 0, None)
    latent -= np.where(scene.kinds == GHOST, 2.5 * settings.spread, 0.0)[:, None]
    scores = 1 / (1 + np.exp(-latent))  # (M, T)
    seen = scene.present & (scores >= settings.min_score) & (scene.kinds != OCCLUDER)[:, None]
    seen &= rng.random(seen.shape) >= settings.miss
    seen &= (scene.visibility > 0.12) | (scene.kinds == GHOST)[:, None]
    boxes = _jitter(rng, scene, scores, settings)
    thing, frame = np.nonzero(seen)
    rows = [(frame, boxes[seen], scores[seen], np.where(scene.kinds[thing] == GHOST, -1, thing))]
    twice = np.nonzero(rng.random(len(frame)) < settings.duplicates)[0]
    tall = (rows[0][1][twice, 3] - rows[0][1][twice, 1])[:, None]
    rows.append((frame[twice], rows[0][1][twice] + rng.normal(0, 0.08, (len(twice), 4)) * tall,
                 rows[0][2][twice] * 0.7, np.full(len(twice), -1)))  # fmt: skip
    rows.append(false_boxes(rng, scene, settings))
    frame, found, score, thing = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    good = (found[:, 2] - found[:, 0] > 2) & (found[:, 3] - found[:, 1] > 4)
    order = np.lexsort((-score, frame))
    order = order[good[order]]
    return Detections(frame[order], found[order], score[order], thing[order])


def _jitter(rng: np.random.Generator, scene: Scene, scores: Array, settings: DetectorSettings) -> Array:
    """Boxes (M, T, 4) with errors that are partly white, partly slow, and larger at low scores."""
    m, frames = scene.present.shape
    tall = (scene.boxes[..., 3] - scene.boxes[..., 1])[..., None]
    slow = np.moveaxis(wander(rng, (m, 4, frames), scene.t, 0.4), 1, -1)  # (M, T, 4)
    noise = 0.7 * rng.standard_normal((m, frames, 4)) + 0.7 * slow
    noise *= settings.jitter * (1 + 1.5 * (1 - scores) + 1.5 * (1 - scene.visibility))[..., None]
    noise = np.where(rng.random((m, frames, 1)) < 0.01, 4 * noise, noise)
    noise[..., [0, 2]] *= 0.6  # people are narrow: across, edges err less
    return np.asarray(scene.boxes + np.clip(noise, -0.4, 0.4) * tall)


def false_boxes(
    rng: np.random.Generator, scene: Scene, settings: DetectorSettings
) -> tuple[NDArray[np.int64], Array, Array, NDArray[np.int64]]:
    count = int(rng.poisson(settings.false_per_frame * len(scene.t)))
    width, height = scene.size_px
    tall = height * np.exp(rng.uniform(np.log(0.05), np.log(0.6), count))
    wide = tall * rng.uniform(0.3, 1.0, count)
    x, y = rng.uniform(0, width, count), rng.uniform(0.2, 0.9, count) * height
    boxes = np.stack([x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2], axis=1)
    score = settings.min_score + (1 - settings.min_score) * rng.beta(1, 3, count)
    return rng.integers(0, len(scene.t), count), boxes, score, np.full(count, -1)


def random_detector(rng: np.random.Generator) -> DetectorSettings:
    """A detector between weak and strong, as the motion model should know them all."""
    weak = rng.random() < 0.4
    return DetectorSettings(
        quality=rng.uniform(-0.8, 0.8) if weak else rng.uniform(1.0, 3.5),
        spread=rng.uniform(0.3, 1.2),
        flicker_s=float(np.exp(rng.uniform(np.log(0.05), np.log(1.0)))),
        min_score=rng.uniform(0.1, 0.3) if weak else rng.uniform(0.2, 0.6),
        miss=rng.uniform(0, 0.3) if weak else rng.uniform(0, 0.1),
        jitter=float(np.exp(rng.uniform(np.log(0.005), np.log(0.06)))),
        false_per_frame=rng.uniform(0, 0.6),
        duplicates=rng.uniform(0, 0.03),
    )


RECORDED_S = 10.0
"""Seconds of a recorded scene that one training scene takes, as long as a simulated one."""

FUTURE_S = (0.1, 3.0)
"""Seconds ahead, between which each observation of a training trajectory gets a later one to forecast."""


def sequences(
    rng: np.random.Generator,
    num_scenes: int,
    length: int,
    settings: SceneSettings | None = None,
    recorded: Sequence[Scene] = (),
) -> Array:
    """Observed trajectories for training, (N, length, 11).

    Columns are t in seconds, x1, y1, x2, y2, score, and t, x1, y1, x2, y2 of a later observation, drawn from
    `FUTURE_S` ahead, NaN where the trajectory ends before. Trajectories are single objects as a random
    detector sees them, cut at random; shorter ones are padded with NaN at the end, and those of fewer than 6
    observations are left out. Where there are recorded scenes, every second scene is ten seconds of one.
    """
    out = []
    for i in range(num_scenes):
        if recorded and i % 2:
            scene = _stretch(rng, recorded[int(rng.integers(len(recorded)))], RECORDED_S)
        else:
            scene = simulate_scene(rng, settings)
        found = detect(rng, scene, random_detector(rng))
        table = np.column_stack([scene.t[found.frame], found.boxes, found.scores])
        for thing in np.unique(found.thing[found.thing >= 0]):
            rows = _with_future(rng, table[found.thing == thing])
            start = int(rng.integers(0, max(1, len(rows) - length + 1)))
            rows = rows[start : start + length]
            if len(rows) >= 6:
                padded = np.full((length, 11), np.nan)
                padded[: len(rows)] = rows
                out.append(padded)
    return np.stack(out) if out else np.empty((0, length, 11))


def recorded_scene(
    frame: NDArray[np.int64], number: NDArray[np.int64], boxes: Array, visibility: Array, fps: float
) -> Scene:
    """A scene of persons from a recording's true boxes.

    Args:
        frame: (N,) from 0.
        number: (N,) which object.
        boxes: (N, 4) xyxy pixels.
        visibility: (N,) 0..1.
        fps: frames per second.
    """
    things, thing = np.unique(number, return_inverse=True)
    shape = (len(things), int(frame.max()) + 1)
    whole = np.zeros((*shape, 4))
    present, seen = np.zeros(shape, np.bool_), np.zeros(shape)
    whole[thing, frame], present[thing, frame], seen[thing, frame] = boxes, True, visibility
    right, bottom = boxes[:, 2:].max(axis=0)
    size = (max(1, round(float(right))), max(1, round(float(bottom))))
    return Scene(np.arange(shape[1]) / fps, whole, present, seen, np.full(shape[0], PERSON), size)


def _stretch(rng: np.random.Generator, scene: Scene, seconds: float) -> Scene:
    """A random part of a scene, without what is not in it; now and then only every second to fourth frame."""
    every = int(rng.choice([1, 1, 2, 3, 4]))
    frames = max(2, int(seconds / (scene.t[1] - scene.t[0])))
    start = int(rng.integers(0, max(1, len(scene.t) - frames)))
    part = slice(start, start + frames, every)
    there = scene.present[:, part].any(axis=1)
    return Scene(
        scene.t[part] - scene.t[start], scene.boxes[there, part], scene.present[there, part],
        scene.visibility[there, part], scene.kinds[there], scene.size_px,
    )  # fmt: skip


def _with_future(rng: np.random.Generator, rows: Array) -> Array:
    wanted = rows[:, 0] + rng.uniform(*FUTURE_S, len(rows))
    index = np.searchsorted(rows[:, 0], wanted)
    later = np.where((index < len(rows))[:, None], rows[np.minimum(index, len(rows) - 1), :5], np.nan)
    return np.concatenate([rows, later], axis=1)
