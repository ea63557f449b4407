"""Which box belongs to which track: likelihood under the prediction, overlap and appearance.

All parameters are relative: standard deviations, shares of boxes. Boxes are z, as in `models.motion`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.motion import to_xyxy

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True)
class Weighing:
    """How evidence is weighed, in nats. Tuned on simulated scenes, see `models.training.trajectories`."""

    tail: float = 4.0  # degrees of freedom of the likelihood's tail: reality errs more than the model thinks
    floor: float = 0.04  # share of the box's height that every prediction errs besides
    most_cost: float = 0.0  # negative log-likelihood per box from which a new object is the better guess
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
    near_mean, near_boxes = widened(mean, weighing.buffer), widened(boxes, weighing.buffer)
    out = np.full((len(mean), len(boxes)), -np.inf)
    i, j = np.nonzero(_touch(near_mean, near_boxes))  # K pairs; all below is (K,) or (K, 4)
    scale = np.ones(mean.shape)
    scale[:, :2] = np.exp(mean[:, 3:])
    spread = variance / (scale * scale) + weighing.floor**2
    wide = 0.5 * np.log(2 * np.pi * spread).sum(axis=1)
    error = (boxes[j] - mean[i]) / scale[i]
    squares = (error * error / spread[i]).sum(axis=1)
    tail = weighing.tail
    cost = wide[i] + 0.5 * (tail + 4) * np.log1p(squares / tail)
    gain = weighing.most_cost - cost + weighing.overlap * _iou(near_mean[i], near_boxes[j])
    if looks is not None:
        cosine = (looks[0][i] * looks[1][j]).sum(axis=1)
        gain += weighing.appearance * np.where(np.isnan(cosine), 0, cosine - 0.5)
    out[i, j] = gain
    return out


def widened(z: Array, share: float) -> Array:
    """Corners (N, 4) of boxes grown on each side by a share of their size."""
    half = np.exp(z[:, 2:]) * (0.5 + share)
    return np.concatenate([z[:, :2] - half, z[:, :2] + half], axis=1)


def _touch(a: Array, b: Array) -> NDArray[np.bool_]:
    """(A, B) which corner boxes overlap."""
    across = (a[:, None, 0] < b[None, :, 2]) & (a[:, None, 2] > b[None, :, 0])
    return np.asarray(across & (a[:, None, 1] < b[None, :, 3]) & (a[:, None, 3] > b[None, :, 1]))


def _iou(a: Array, b: Array) -> Array:
    """(K,) intersection over union of corner boxes, row by row."""
    size = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    both = size[:, 0] * size[:, 1]
    areas = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1]) + (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return np.asarray(both / (areas - both))


def best_pairs(gain: Array) -> tuple[Ints, Ints]:
    """Rows and columns of the pairs whose summed gain is greatest."""
    # A quarter of a second, which a run spends while its first frames are decoded: `Tools.load`.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(gain, maximize=True)
    return rows, columns


def assign(gain: Array) -> tuple[Ints, Ints]:
    """Rows and columns of the pairs whose summed gain is greatest; only pairs with a gain are made."""
    possible = gain > 0
    if not possible.any():
        return np.empty(0, np.intp), np.empty(0, np.intp)
    if possible.sum(axis=0).max() == 1 and possible.sum(axis=1).max() == 1:
        rows, columns = np.nonzero(possible)
        return rows, columns
    rows, columns = best_pairs(np.where(possible, gain, 0))
    good = possible[rows, columns]
    return rows[good], columns[good]


def doubles(
    z: Array,
    candidates: Ints,
    group: NDArray[np.int64],
    limit: float,
    kind: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """(C,) which candidates overlap a better-scored box of their group by more than `limit`.

    With kinds, only boxes of another kind count.
    """
    if not len(candidates):
        return np.zeros(0, np.bool_)
    corners = to_xyxy(z)
    rows, better = np.nonzero(_touch(corners[candidates], corners))
    mine = candidates[rows]
    worse = (better < mine) & (group[mine] == group[better]) & (_iou(corners[mine], corners[better]) > limit)
    if kind is not None:
        worse &= kind[mine] != kind[better]
    out = np.zeros(len(candidates), np.bool_)
    out[rows[worse]] = True
    return out
