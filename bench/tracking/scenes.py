"""Simulated sequences like those of street cameras, with detections as a Faster R-CNN gives.

A set to develop on: a change of the tracker is judged on these and on no recorded sequence. Kinds of scenes
and cameras follow what the literature says of pedestrian benchmarks (arXiv 1504.01942): squares seen from
above, streets at eye level, walked and pushed cameras, cars; 7 to 30 frames/s; scores from 0.5 on, half of
them above 0.95 in the better scenes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.tracking.detector import DetectorSettings, detect
from bench.tracking.score import overlap
from models.training.trajectories import PERSON, SceneSettings, simulate_scene

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sequence:
    """Truth and detections as MOT rows: frame from 1, id (-1), x1, y1, x2, y2, score."""

    name: str
    fps: float
    num_frames: int
    size_px: tuple[int, int]
    truth: Array = field(repr=False)  # (N, 7)
    found: Array = field(repr=False)  # (N, 7)
    true_id: NDArray[np.int64] = field(repr=False)  # (N,) of each found box, -1 for a false one

    def perfect(self) -> Array:
        """The found boxes by their true ids, without those that overlap their truth by less than half."""
        best = {(int(r[0]), int(r[1])): r[2:6] for r in self.truth}
        rows = self.found.copy()
        rows[:, 1] = self.true_id
        pairs = [(i, best.get((int(r[0]), int(r[1])))) for i, r in enumerate(rows)]
        keep = [
            i for i, box in pairs if box is not None and overlap(box[None], rows[i : i + 1, 2:6])[0, 0] >= 0.5
        ]
        _, first = np.unique(rows[keep][:, :2], axis=0, return_index=True)
        return rows[keep][np.sort(first)]


@dataclass(frozen=True)
class Kind:
    """A kind of scene."""

    scene: SceneSettings
    quality: float  # mean latent of the detector
    small_px: float


def _scene(
    fps: float, seconds: float, objects: int, size: tuple[int, int], camera: str, **more: float
) -> SceneSettings:
    width, height = size
    return SceneSettings(
        duration_s=seconds, fps=fps, num_objects=objects, camera=camera, vehicles=0.0, width_px=width,
        height_px=height, ghost_spread=0.35, turns=(0.05, 0.2, 0.5, 1.5), turn_odds=(0.4, 0.3, 0.2, 0.1),
        stops_per_s=0.06, **more,  # type: ignore[arg-type]
    )  # fmt: skip


KINDS = {
    "square": Kind(_scene(7, 60, 26, (768, 576), "fixed", ghosts=4, stream=0.3), 3.6, 60),
    "pavement": Kind(_scene(25, 8, 12, (640, 480), "fixed", ghosts=3, stream=0.9, axis=1.4), 4.0, 120),
    "mall": Kind(_scene(30, 16, 30, (1920, 1080), "fixed", ghosts=8, stream=0.7, axis=0.3), 4.0, 180),
    "plaza": Kind(_scene(30, 18, 24, (1920, 1080), "fixed", ghosts=12, stream=0.8, axis=1.2), 3.2, 180),
    "pushed": Kind(_scene(14, 24, 26, (640, 480), "carried", ghosts=8, stream=0.9, axis=0.1), 3.8, 90),
    "pushed crowd": Kind(_scene(14, 40, 60, (640, 480), "carried", ghosts=8, stream=0.9, axis=0.2), 3.8, 90),
    "walked": Kind(_scene(30, 17, 26, (1920, 1080), "carried", ghosts=12, stream=0.8, axis=0.2), 3.4, 180),
    "car": Kind(_scene(10, 25, 30, (1242, 375), "driven", ghosts=16, stream=0.6, axis=0.2), 3.6, 60),
    "bus": Kind(_scene(10, 15, 14, (1242, 375), "driven", ghosts=8, stream=0.9, axis=0.1), 4.0, 60),
}


def simulate(name: str, seed: int) -> Sequence:
    """A sequence of that kind; the seed decides all."""
    kind = KINDS[name]
    rng = np.random.default_rng([seed, list(KINDS).index(name)])
    scene = simulate_scene(rng, kind.scene)
    detector = DetectorSettings(
        quality=kind.quality + 0.4 + rng.normal(0, 0.4), spread=2.0, flicker_s=0.35, min_score=0.5,
        miss=0.03, jitter=rng.uniform(0.045, 0.065), false_per_frame=rng.uniform(0.05, 0.3),
        duplicates=rng.uniform(0.02, 0.06), hidden=9.0, small_px=kind.small_px, overlap=0.3, cut=0.8,
    )  # fmt: skip
    found = detect(rng, scene, detector)
    tall = scene.boxes[..., 3] - scene.boxes[..., 1]
    known = scene.present & (scene.kinds == PERSON)[:, None]
    known &= (scene.visibility > 0.1) & (tall > 0.45 * kind.small_px)
    frame, thing = np.nonzero(known.T)
    truth = np.column_stack([frame + 1, thing + 1, scene.boxes[thing, frame], np.ones(len(frame))])
    boxes = np.column_stack([found.frame + 1, np.full(len(found.frame), -1), found.boxes, found.scores])
    fps = 1 / (scene.t[1] - scene.t[0])
    ids = np.where(found.thing >= 0, found.thing + 1, -1)
    return Sequence(name, fps, len(scene.t), scene.size_px, truth, boxes, ids)


def crossing(count: int, num_frames: int = 120, seed: int = 0) -> Sequence:
    """That many people who walk to and fro over a square at 25 frames/s; for timing."""
    rng = np.random.default_rng(seed)
    t = np.arange(num_frames) / 25
    place = (
        rng.uniform([0, 100], [1920, 1080], (count, 2))[:, None]
        + rng.uniform(-60, 60, (count, 1, 2)) * t[:, None]
    )
    tall = 20 + 0.1 * place[..., 1]
    boxes = np.stack(
        [place[..., 0] - 0.2 * tall, place[..., 1] - tall, place[..., 0] + 0.2 * tall, place[..., 1]], axis=-1
    )
    boxes += rng.normal(0, 0.02, boxes.shape) * tall[..., None]
    frame, thing = np.nonzero((rng.random((count, num_frames)) > 0.1).T)
    scores = rng.uniform(0.6, 1.0, len(frame))
    found = np.column_stack([frame + 1, np.full(len(frame), -1), boxes[thing, frame], scores])
    return Sequence(f"{count} objects", 25.0, num_frames, (1920, 1080), found, found, thing)
