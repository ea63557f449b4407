"""Recorded pedestrians: public detections, and truth that noise makes into detections. They only measure."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from bench.tracking.scenes import Sequence
from bench.tracking.score import Array, overlap
from pipeline.mot import read_mot, read_seqinfo

TRACKING = Path(os.environ.get("MAREY_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "tracking"
MOT15 = {name: TRACKING / "mot15" / name / "gt.txt" for name in ("TUD-Campus", "ETH-Sunnyday")}
_SEQUENCES = ("MOT17-04", "MOT17-11", "MOT17-13")
MOT17 = {name: TRACKING / "mot17-gt" / name / "gt.txt.gz" for name in _SEQUENCES}

MISSED, FALSE, JITTER, HIDDEN = 0.10, 0.05, 0.05, 0.3
"""Shares of boxes missed, false, and of their size that edges err by; visibility from which one is seen."""


def public(name: str) -> Sequence:
    """A MOT15 sequence with the detections published with SORT."""
    truth, info = _rows(MOT15[name]), read_seqinfo(MOT15[name])
    truth = truth[truth[:, 6] != 0]
    found = _rows(MOT15[name].with_name("det.txt"))
    true_id = np.full(len(found), -1)
    for frame in np.unique(found[:, 0]):
        here, there = np.nonzero(found[:, 0] == frame)[0], truth[truth[:, 0] == frame]
        if len(there):
            likeness = overlap(found[here, 2:6], there[:, 2:6])
            best = likeness.argmax(axis=1)
            true_id[here] = np.where(likeness.max(axis=1) >= 0.5, there[best, 1], -1)
    return Sequence(name, info.fps, info.num_frames, (info.width_px, info.height_px), truth, found, true_id)


def noisy(name: str, every: int, seed: int = 0) -> Sequence:
    """A MOT17 truth, every so many frames, with misses, false boxes and jitter; who is hidden is not seen."""
    table, info = read_mot(MOT17[name]), read_seqinfo(MOT17[name])
    truth, seen = _rows(MOT17[name]), table["visibility"].to_numpy()
    counts = (truth[:, 6] != 0) & (table["class"].to_numpy() == 1) & ((truth[:, 0] - 1) % every == 0)
    truth, seen = truth[counts], seen[counts]
    truth[:, 0] = (truth[:, 0] - 1) // every + 1
    rng = np.random.default_rng(seed)
    found = truth[(seen >= HIDDEN) & (rng.random(len(truth)) >= MISSED)].copy()
    ids = found[:, 1].astype(np.int64)
    found[:, 2:6] += rng.normal(0, JITTER, (len(found), 4)) * np.tile(found[:, 4:6] - found[:, 2:4], 2)
    found[:, 6] = np.clip(rng.normal(0.85, 0.08, len(found)), 0.3, 1)
    false = found[rng.integers(0, len(found), round(FALSE * len(found)))]
    centre = rng.uniform(0, [info.width_px, info.height_px], (len(false), 2))
    false[:, 2:6] += np.tile(centre - (false[:, 2:4] + false[:, 4:6]) / 2, 2)
    false[:, 6] = np.clip(rng.normal(0.6, 0.15, len(false)), 0.3, 1)
    found, ids = np.concatenate([found, false]), np.concatenate([ids, np.full(len(false), -1)])
    found[:, 1] = -1
    order = np.argsort(found[:, 0], kind="stable")
    order = order[(found[order, 4:6] > found[order, 2:4] + 1).all(axis=1)]
    length = -(-info.num_frames // every)
    size = (info.width_px, info.height_px)
    return Sequence(name, info.fps / every, length, size, truth, found[order], ids[order])


def _rows(path: Path) -> Array:
    table = read_mot(path)
    names = ("frame", "id", "x1", "y1", "x2", "y2", "score")
    return np.column_stack([table[name].to_numpy() for name in names]).astype(np.float64)
