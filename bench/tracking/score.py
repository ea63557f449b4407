"""Scores by TrackEval, in memory, and what is done to the tracks of every peer."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def score(truth: Array, tracks: Array, num_frames: int) -> dict[str, float]:
    """HOTA, DetA, AssA, MOTA, IDF1 in percent, IDSW; rows are frame, id, x1, y1, x2, y2, ..."""
    with contextlib.redirect_stdout(io.StringIO()):
        from trackeval.metrics import CLEAR, HOTA, Identity

        data = _sequence(truth, tracks, num_frames)
        hota = HOTA().eval_sequence(data)
        clear = CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
        identity = Identity({"PRINT_CONFIG": False}).eval_sequence(data)
    out = {name: 100 * float(hota[name].mean()) for name in ("HOTA", "DetA", "AssA")}
    return {
        **out,
        "MOTA": 100 * float(clear["MOTA"]),
        "IDF1": 100 * float(identity["IDF1"]),
        "IDSW": float(clear["IDSW"]),
    }


def _sequence(truth: Array, tracks: Array, num_frames: int) -> dict[str, object]:
    sides = []
    for rows in (truth, tracks):
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        ids = np.unique(rows[:, 1], return_inverse=True)[1]
        edges = np.searchsorted(rows[:, 0], np.arange(1, num_frames + 2))
        sides.append((rows[:, 2:6], ids, edges))
    (a, a_ids, a_edges), (b, b_ids, b_edges) = sides
    frames = range(num_frames)
    gt = [a_ids[a_edges[i] : a_edges[i + 1]] for i in frames]
    found = [b_ids[b_edges[i] : b_edges[i + 1]] for i in frames]
    likeness = [overlap(a[a_edges[i] : a_edges[i + 1]], b[b_edges[i] : b_edges[i + 1]]) for i in frames]
    return {
        "num_timesteps": num_frames, "gt_ids": gt, "tracker_ids": found, "similarity_scores": likeness,
        "num_gt_dets": len(a), "num_tracker_dets": len(b),
        "num_gt_ids": int(a_ids.max(initial=-1)) + 1, "num_tracker_ids": int(b_ids.max(initial=-1)) + 1,
    }  # fmt: skip


def overlap(a: Array, b: Array) -> Array:
    """(A, B) intersection over union of corner boxes."""
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    both = np.prod(np.clip(size, 0, None), axis=-1)
    areas = np.prod(a[:, 2:] - a[:, :2], axis=1)[:, None] + np.prod(b[:, 2:] - b[:, :2], axis=1)[None]
    return np.asarray(both / np.maximum(areas - both, 1e-12))


def filled(tracks: Array, fps: float, min_boxes: int = 3, max_gap_s: float = 1.0) -> Array:
    """Tracks without those of fewer boxes, gaps filled by straight lines: the same for every peer."""
    out = [tracks[:0]]
    for number in np.unique(tracks[:, 1]):
        rows = tracks[tracks[:, 1] == number]
        rows = rows[np.argsort(rows[:, 0])]
        if len(rows) < min_boxes:
            continue
        out.append(rows)
        for i in np.nonzero((np.diff(rows[:, 0]) > 1) & (np.diff(rows[:, 0]) <= max_gap_s * fps))[0]:
            frames = np.arange(rows[i, 0] + 1, rows[i + 1, 0])
            share = ((frames - rows[i, 0]) / (rows[i + 1, 0] - rows[i, 0]))[:, None]
            line = rows[i] + share * (rows[i + 1] - rows[i])
            line[:, 0], line[:, 1] = frames, number
            out.append(line)
    return np.concatenate(out)
