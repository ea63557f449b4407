"""Simulated camera scenes: people and vehicles on a ground plane, seen by a camera.

The tracker is compared on these scenes, never tuned on a recorded sequence. Camera and objects are those of
`models/training/trajectories.py`, on which the motion model was trained; here are also streams of people, and
ghosts as many as wanted: places of the background that a detector takes for a person. The detector is in
`bench.tracking.detector`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training import trajectories
from models.training.trajectories import (
    ACCELERATION_S,
    CAR,
    CYCLE,
    GHOST,
    OCCLUDER,
    PERSON,
    SIZES_M,
    SPEED_M_S,
    TRUCK,
    TURN_RAD_S,
    Camera,
    Scene,
    frame_step,
    in_picture,
    places,
    visibility_of,
    wander,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SceneSettings(trajectories.SceneSettings):
    """What a scene is like. `None` leaves a choice to chance."""

    ghosts: int | None = None  # places that look like a person; None: 0 to 2
    stream: float | None = None  # share of the people who walk along one axis, both ways
    axis: float | None = None  # radians from the camera's first direction; 0 is towards and away


def simulate_scene(rng: np.random.Generator, settings: SceneSettings | None = None) -> Scene:
    """One scene with its truth; the same generator state gives the same scene."""
    settings = settings or SceneSettings()
    fps = settings.fps or float(rng.choice([30, 30, 25, 25, 15, 14, 12.5, 10, 10, 7.5, 5, 3.5]))
    t = np.arange(max(2, round(settings.duration_s * fps))) / fps
    kind = settings.camera or str(rng.choice(["fixed", "carried", "driven"], p=[0.55, 0.3, 0.15]))
    camera = Camera.sample(rng, kind, t, settings)
    kinds = _choose_kinds(rng, settings)
    paths, headings = _walk(rng, kinds, t, camera, settings)
    boxes, depth = camera.project(paths, headings, _sizes(rng, kinds, t))
    present = in_picture(boxes, depth, settings)
    if rng.random() < 0.5:
        boxes = np.clip(boxes, 0, [settings.width_px, settings.height_px] * 2)
    visibility = visibility_of(boxes, depth, present & (kinds != GHOST)[:, None])
    return Scene(t, boxes, present, visibility, kinds, (settings.width_px, settings.height_px))


def _choose_kinds(rng: np.random.Generator, settings: SceneSettings) -> NDArray[np.int64]:
    n = settings.num_objects
    kinds = np.where(rng.random(n) < settings.vehicles, rng.choice([CYCLE, CAR, CAR, TRUCK], n), PERSON)
    ghosts = int(rng.integers(0, 3)) if settings.ghosts is None else settings.ghosts
    extra = [OCCLUDER] * int(rng.integers(0, 4)) + [GHOST] * ghosts
    return np.concatenate([kinds, extra]).astype(np.int64)


def _sizes(rng: np.random.Generator, kinds: NDArray[np.int64], t: Array) -> Array:
    """(M, T, 3) width, length, height in metres; a walker's width swings with the steps."""
    base = SIZES_M[kinds] * rng.uniform(0.85, 1.15, (len(kinds), 3))
    base *= np.where(kinds == GHOST, np.exp(rng.normal(0, 0.35, len(kinds))), 1.0)[:, None]
    each = (len(kinds), 1)
    swing = np.sin(2 * np.pi * rng.uniform(0.8, 1.1, each) * t + rng.uniform(0, 6, each))
    share = np.where((kinds == PERSON)[:, None], rng.uniform(0, 0.3, each), 0.0)
    width = 1 + share * swing  # (M, T)
    return np.asarray(base[:, None] * np.stack([width, width, np.ones_like(width)], axis=-1))


def _walk(
    rng: np.random.Generator, kinds: NDArray[np.int64], t: Array, camera: Camera, settings: SceneSettings
) -> tuple[Array, Array]:
    """Paths (M, T, 2) in metres and headings (M, T) in radians."""
    m, step = len(kinds), frame_step(t)
    cruise = SPEED_M_S[kinds] * rng.uniform(0.5, 1.5, m)
    cruise *= np.where(rng.random(m) < 0.15, 0.0, np.where(rng.random(m) < 0.08, 2.0, 1.0))
    turning = (
        wander(rng, (m, len(t)), t, 1.2)
        * (TURN_RAD_S[kinds] * rng.choice([0.05, 0.2, 0.5, 1.5], m, p=[0.4, 0.3, 0.2, 0.1]))[:, None]
    )
    headings = _first_headings(rng, kinds, settings)[:, None] + np.cumsum(turning * step, axis=1)
    flips = rng.random((m, len(t))) < (0.06 * step)  # stop or go again
    goes = np.logical_xor.accumulate(flips, axis=1) ^ True
    speed = np.empty((m, len(t)))
    speed[:, 0] = cruise
    follow = np.clip(step / ACCELERATION_S[kinds], 0, 1)
    for i in range(1, len(t)):
        speed[:, i] = speed[:, i - 1] + follow * (cruise * goes[:, i] - speed[:, i - 1])
    way = np.stack([np.sin(headings), np.cos(headings)], axis=-1) * (speed * step)[..., None]
    paths = np.cumsum(way, axis=1)
    paths += places(rng, kinds, paths, camera)
    for i in range(1, m):  # companions
        if kinds[i] == kinds[i - 1] == PERSON and rng.random() < 0.3:
            beside = rng.uniform(0.4, 0.9) * rng.choice([-1, 1])
            drift = wander(rng, (2, len(t)), t, 2.0).T * 0.12
            across = np.stack([np.cos(headings[i - 1]), -np.sin(headings[i - 1])], axis=-1)
            paths[i] = paths[i - 1] + beside * across + drift
            headings[i] = headings[i - 1]
    return paths, headings


def _first_headings(rng: np.random.Generator, kinds: NDArray[np.int64], settings: SceneSettings) -> Array:
    """(M,) radians: in any direction, or along the stream's axis one way or the other."""
    stream = rng.random() if settings.stream is None else settings.stream
    axis = rng.uniform(0, np.pi) if settings.axis is None else settings.axis
    along = axis + np.pi * rng.integers(0, 2, len(kinds)) + rng.normal(0, 0.12, len(kinds))
    return np.where(rng.random(len(kinds)) < stream, along, rng.uniform(0, 2 * np.pi, len(kinds)))
