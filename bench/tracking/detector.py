"""A simulated detector: what it finds in a simulated scene, with what errors.

A thing's latent quality wanders, fast and slowly, so that misses come in runs; it falls with what hides the
thing and where the thing is small. Scores follow the latent; boxes err by a part that stays with the object,
a part that wanders and a part that is new in each frame, all larger at low scores; what is hidden is cut off.
Of two boxes that overlap the better one stays, as in non-maximum suppression. False boxes are ghosts, which
stay at their place in the world, doubles and parts of people, and boxes out of nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training import trajectories
from models.training.trajectories import GHOST, OCCLUDER, Detections, Scene, false_boxes, wander

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Boxes = tuple[Ints, Array, Array, Ints]  # frame, xyxy, score, thing


@dataclass(frozen=True)
class DetectorSettings(trajectories.DetectorSettings):
    """How good the detector is, in more respects than the motion model was trained on."""

    hidden: float = 9.0  # loss of latent from 55% visible to none, per unit
    small_px: float = 0.0  # height at which a thing loses one spread, two at half of it
    overlap: float = 1.0  # boxes that overlap a better one by more (IoU) are suppressed
    cut: float = 0.0  # share of the hidden part that the box leaves out


def detect(rng: np.random.Generator, scene: Scene, settings: DetectorSettings | None = None) -> Detections:
    """What a detector of that quality finds in the scene."""
    settings = settings or DetectorSettings()
    scores = 1 / (1 + np.exp(-_latent(rng, scene, settings)))  # (M, T)
    seen = scene.present & (scores >= settings.min_score) & (scene.kinds != OCCLUDER)[:, None]
    seen &= rng.random(seen.shape) >= settings.miss
    seen &= (scene.visibility > 0.12) | (scene.kinds == GHOST)[:, None]
    boxes = _jitter(rng, scene, scores, settings)
    thing, frame = np.nonzero(seen)
    true = (frame, boxes[seen], scores[seen], np.where(scene.kinds[thing] == GHOST, -1, thing))
    parts = (true, _doubles(rng, scene, true, settings), false_boxes(rng, scene, settings))
    frame, found, score, thing = (np.concatenate(column) for column in zip(*parts, strict=True))
    good = (found[:, 2] - found[:, 0] > 2) & (found[:, 3] - found[:, 1] > 4)
    order = np.lexsort((-score, frame))
    order = order[good[order]]
    if settings.overlap < 1:
        order = order[~_suppressed(frame[order], found[order], settings.overlap)]
    return Detections(frame[order], found[order], score[order], thing[order])


def _latent(rng: np.random.Generator, scene: Scene, settings: DetectorSettings) -> Array:
    """(M, T) logits of the scores."""
    spread = settings.spread
    latent = 0.8 * spread * wander(rng, scene.present.shape, scene.t, settings.flicker_s)
    latent += 0.6 * spread * wander(rng, scene.present.shape, scene.t, 6 * settings.flicker_s)
    latent += settings.quality + rng.normal(0, 0.5 * spread, (len(scene.kinds), 1))
    latent -= settings.hidden * np.clip(0.55 - scene.visibility, 0, None)
    latent -= np.where(scene.kinds == GHOST, settings.quality + rng.uniform(-1, 2.5) * spread, 0.0)[:, None]
    if settings.small_px > 0:
        tall = np.maximum(scene.boxes[..., 3] - scene.boxes[..., 1], 1)
        latent -= spread * np.clip(1 + np.log2(settings.small_px / tall), 0, None)
    return np.asarray(latent)


def _jitter(rng: np.random.Generator, scene: Scene, scores: Array, settings: DetectorSettings) -> Array:
    """Boxes (M, T, 4) with errors."""
    m, frames = scene.present.shape
    boxes = scene.boxes.copy()
    tall = boxes[..., 3] - boxes[..., 1]
    cut = settings.cut * (1 - scene.visibility) * (wander(rng, (m, frames), scene.t, 1.0) > 0)
    boxes[..., 3] -= np.clip(cut, 0, 0.6) * tall  # what hides stands nearer, so lower in the picture
    slow = np.moveaxis(wander(rng, (m, 4, frames), scene.t, 0.5), 1, -1)  # (M, T, 4)
    noise = 0.6 * rng.standard_normal((m, frames, 4)) + 0.6 * slow + 0.5 * rng.standard_normal((m, 1, 4))
    noise *= settings.jitter * (1 + 1.5 * (1 - scores) + 1.5 * (1 - scene.visibility))[..., None]
    noise = np.where(rng.random((m, frames, 1)) < 0.01, 4 * noise, noise)
    noise[..., [0, 2]] *= 0.6  # people are narrow: across, edges err less
    return np.asarray(boxes + np.clip(noise, -0.4, 0.4) * tall[..., None])


def _doubles(rng: np.random.Generator, scene: Scene, true: Boxes, settings: DetectorSettings) -> Boxes:
    """A second box of the same thing, in short runs: shifted, or a part of it, or with what stands beside."""
    frame, boxes, scores, thing = true
    runs = wander(rng, scene.present.shape, scene.t, 0.2)
    level = np.quantile(runs, 1 - settings.duplicates) if settings.duplicates > 0 else np.inf
    twice = np.nonzero((thing >= 0) & (runs[thing, frame] > level))[0]
    chosen = boxes[twice]
    size = np.tile(chosen[:, 2:] - chosen[:, :2], 2)
    which = rng.integers(0, len(_DOUBLES), len(scene.kinds))[thing[twice]]
    moved = chosen + size * (_DOUBLES[which] + rng.normal(0, 0.06, chosen.shape))
    score = settings.min_score + (scores[twice] - settings.min_score) * rng.beta(1.5, 1.5, len(twice))
    return frame[twice], moved, score, np.full(len(twice), -1)


_DOUBLES = np.array([  # shifts of the edges, in widths and heights
    [0.0, 0.0, 0.0, 0.0], [0.1, 0.0, -0.1, -0.5], [0.0, 0.45, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0],
    [-1.0, -0.05, 0.0, 0.0], [-0.25, -0.3, 0.25, 0.1],
])  # fmt: skip


def _suppressed(frame: Ints, boxes: Array, limit: float) -> NDArray[np.bool_]:
    """(N,) which boxes overlap a better one of their frame that stays; rows by frame, the best first."""
    out = np.zeros(len(frame), np.bool_)
    starts = np.flatnonzero(np.diff(frame, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        part = boxes[start:end]
        size = np.minimum(part[:, None, 2:], part[None, :, 2:]) - np.maximum(
            part[:, None, :2], part[None, :, :2]
        )
        both = np.prod(np.clip(size, 0, None), axis=-1)
        area = np.prod(part[:, 2:] - part[:, :2], axis=1)
        close = both / (area[:, None] + area[None] - both) > limit
        for i in range(1, end - start):
            out[start + i] = (close[i, :i] & ~out[start : start + i]).any()
    return out
