"""Which box belongs to which track: likelihood under the prediction, overlap and appearance.

All parameters are relative: standard deviations, shares of boxes. Boxes are z, as in `models.motion`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from models.motion import to_xyxy

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True)
class Weighing:
    """How evidence is weighed, in nats. Tuned on simulated scenes, see `models.training.trajectories`."""

    tail: float = 4.0  # degrees of freedom of the likelihood's tail: reality errs more than the model thinks
    floor: float = 0.04  # share of the box's height that every prediction errs besides
    most_cost: float = 0.0  # negative log-likelihood per box from which a new object is the better guess
    most_cost_low: float = 0.0  # the same for doubtful detections
    buffer: float = 0.3  # share of its size by which a box is widened on each side before overlap, as C-BIoU
    overlap: float = 2.0  # nats for full overlap
    appearance: float = 3.0  # nats for equal appearance against unrelated, where both have one


def gains(
    mean: Array, variance: Array, boxes: Array, looks: tuple[Array, Array] | None, weighing: Weighing
) -> Array:
    """(T, D) nats by which "the same object" beats "another one"; -inf where boxes are far apart.

    The likelihood counts positions in box heights: a wide prediction, which fits everything, is an unlikely
    one, so a track that was just seen goes before one that is long lost.

    Args:
        mean: (T, 4) predicted boxes.
        variance: (T, 4) of the prediction.
        boxes: (D, 4) detected boxes.
        looks: appearance vectors of tracks (T, E) and boxes (D, E), NaN where unknown.
        weighing: parameters.
    """
    scale = np.ones_like(mean)
    scale[:, :2] = np.exp(mean[:, 3:])
    spread = variance / (scale * scale) + weighing.floor**2
    error = (boxes[None] - mean[:, None]) / scale[:, None]  # (T, D, 4)
    squares = (error * error / spread[:, None]).sum(axis=2)
    tail = weighing.tail
    wide = 0.5 * np.log(2 * np.pi * spread).sum(axis=1)
    cost = wide[:, None] + 0.5 * (tail + 4) * np.log1p(squares / tail)
    overlap = pair_iou(widened(mean, weighing.buffer), widened(boxes, weighing.buffer))
    total = weighing.most_cost - cost + weighing.overlap * overlap
    if looks is not None:
        cosine = looks[0] @ looks[1].T
        total += weighing.appearance * np.where(np.isnan(cosine), 0, cosine - 0.5)
    return np.where(overlap > 0, total, -np.inf)


def widened(z: Array, share: float) -> Array:
    """Corners (N, 4) of boxes grown on each side by a share of their size."""
    half = np.exp(z[:, 2:]) * (0.5 + share)
    return np.concatenate([z[:, :2] - half, z[:, :2] + half], axis=1)


def pair_iou(a: Array, b: Array) -> Array:
    """(A, B) intersection over union of corner boxes (A, 4) and (B, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - low
    np.maximum(size, 0, out=size)
    both = size[..., 0] * size[..., 1]
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return np.asarray(both / (area_a[:, None] + area_b[None] - both))


def assign(gain: Array) -> tuple[Ints, Ints]:
    """Rows and columns of the pairs whose summed gain is greatest; only pairs with a gain are made."""
    possible = gain > 0
    if not possible.any():
        return np.empty(0, np.intp), np.empty(0, np.intp)
    if possible.sum(axis=0).max() == 1 and possible.sum(axis=1).max() == 1:
        rows, columns = np.nonzero(possible)
        return rows, columns
    rows, columns = linear_sum_assignment(np.where(possible, gain, 0), maximize=True)
    good = possible[rows, columns]
    return rows[good], columns[good]


def doubles(z: Array, candidates: Ints, group: NDArray[np.int64], limit: float) -> NDArray[np.bool_]:
    """(C,) which candidates overlap a better-scored box of their group by more than `limit`."""
    if not len(candidates):
        return np.zeros(0, np.bool_)
    corners = to_xyxy(z)
    iou = pair_iou(corners[candidates], corners)
    better = np.arange(len(z))[None] < candidates[:, None]
    same = group[candidates][:, None] == group[None]
    return np.asarray(((iou > limit) & better & same).any(axis=1))
