"""Boxes from the detector's outputs, for the few cells that count. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

STRIDES = (8, 16, 32)

VOTE_IOU = 0.7
"""From this overlap on a box has a say in where a better one of its class lies."""

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Pictures = npt.NDArray[np.uint8]


class CellOutputs(NamedTuple):
    """Outputs of all cells for one picture; see `models.detector.Exported`."""

    scores: Array  # (A, classes)
    sides: Array  # (A, 4 * bins), before the softmax
    appearance: Array  # (A, E), of any length
    embedding: Array  # (D,)


Take = Callable[[int, CellOutputs], None]
"""Is given a picture's place and what came out for it, which is valid during the call."""

Run = Callable[[Pictures, Take], None]
"""Runs pictures (N, H, W, 3) and hands over each one's outputs, in any order, one at a time."""


def all_outputs(run: Run, pictures: Pictures) -> list[CellOutputs]:
    """Outputs of each picture, the caller's to keep."""
    found: dict[int, CellOutputs] = {}

    def take(place: int, out: CellOutputs) -> None:
        found[place] = CellOutputs(*(values.copy() for values in out))

    run(pictures, take)
    return [found[place] for place in range(len(pictures))]


def padded(pictures: Pictures, batch: int) -> Pictures:
    """With black pictures behind the given ones (N, H, W, 3), up to `batch`."""
    empty = np.zeros((batch - len(pictures), *pictures.shape[1:]), np.uint8)
    return np.concatenate([pictures, empty]) if len(empty) else pictures


class Detections(NamedTuple):
    """Boxes of one picture, best first."""

    boxes: Array  # (K, 4), xyxy in input pixels
    scores: Array  # (K,), in [0, 1]
    classes: Indices  # (K,), index into DetectorConfig.classes
    appearance: Array  # (K, E), unit length


class Grid(NamedTuple):
    """Cells of the input, in the order of `models.detector.RawOutput`."""

    centres: Array  # (A, 2), input pixels
    strides: Array  # (A,)
    size: tuple[int, int]  # width and height of the input

    @classmethod
    def of(cls, width: int, height: int) -> Grid:
        centres, strides = [], []
        for stride in STRIDES:
            rows, columns = np.mgrid[: height // stride, : width // stride]
            centres.append((np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5) * stride)
            strides.append(np.full(len(centres[-1]), stride))
        flat = np.concatenate(centres).astype(np.float32), np.concatenate(strides).astype(np.float32)
        return cls(*flat, (width, height))

    def boxes(self, cells: Indices, sides: Array) -> Array:
        """Boxes (K, 4), xyxy in input pixels, of `cells` (K,) from their `sides` (K, 4 * bins)."""
        bins = sides.reshape(len(cells), 4, sides.shape[1] // 4)
        weights = np.exp(bins - bins.max(axis=2, keepdims=True))
        mean = weights @ np.arange(bins.shape[2], dtype=np.float32) / weights.sum(axis=2)
        distance = mean * self.strides[cells, None]  # (K, 4)
        centres = self.centres[cells]
        return np.concatenate([centres - distance[:, :2], centres + distance[:, 2:]], axis=1)

    def looks(self, boxes: Array, scores: Array, appearance: Array) -> Array:
        """Appearance (K, E) of boxes from elsewhere: of the three cells at each centre the surest one's."""
        width, height = self.size
        middle = np.clip((boxes[:, :2] + boxes[:, 2:]) / 2, 0, np.array([width - 1, height - 1], np.float32))
        candidates, begin = [], 0
        for stride in STRIDES:
            columns, rows = (middle // stride).astype(np.int64).T
            candidates.append(begin + rows * (width // stride) + columns)
            begin += (width // stride) * (height // stride)
        cells = np.stack(candidates)  # (strides, K)
        surest = scores[cells].max(axis=2).argmax(axis=0)
        return unit(appearance[cells[surest, np.arange(len(boxes))]])


@dataclass(frozen=True)
class Selection:
    """Which boxes of a picture are kept."""

    min_score: float  # cells and classes below it are dropped
    nms_iou: float  # per class, of two boxes that overlap more the lower-scored is dropped
    max_detections: int


def select(scores: Array, sides: Array, appearance: Array, grid: Grid, selection: Selection) -> Detections:
    """Boxes of one picture from `scores` (A, classes), `sides` (A, 4 * bins), `appearance` (A, E)."""
    cells, classes, values = best_first(scores, selection)
    boxes = grid.boxes(cells, sides[cells])
    kept = keep_best(boxes, classes, grid.size, selection)
    looks = unit(appearance[cells[kept]])
    return Detections(clip(vote(boxes, values, classes, kept), grid.size), values[kept], classes[kept], looks)


def vote(boxes: Array, scores: Array, classes: Indices, kept: Indices) -> Array:
    """Boxes (K, 4) of `kept` (K,), each the mean of itself and the boxes that it stood for, by their scores.

    A box overlaps and is of the class of those that it stands for. One cell's guess at an object errs, the
    cells around it err otherwise (box voting: Gidaris and Komodakis, ICCV 2015, section 4.2).

    Args:
        boxes: (M, 4), all of a picture.
        scores: (M,), in [0, 1].
        classes: (M,).
        kept: (K,), indices of the boxes that are kept.
    """
    same = iou_matrix(boxes[kept], boxes) >= VOTE_IOU
    same &= classes[kept, None] == classes[None, :]
    weights = same * np.maximum(scores, 1e-9)
    share: Array = weights / weights.sum(axis=1, keepdims=True)
    return share @ boxes


def unit(vectors: Array) -> Array:
    """Rows (K, E) brought to length 1."""
    out: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return out


def best_first(scores: Array, selection: Selection) -> tuple[Indices, Indices, Array]:
    """Cells, classes and scores of what `scores` (A, classes) holds at or above the lowest score."""
    cells, classes = np.nonzero(scores >= selection.min_score)
    values = scores[cells, classes]
    order = np.argsort(-values, kind="stable")[: 10 * selection.max_detections]
    return cells[order], classes[order], values[order]


def clip(boxes: Array, size: tuple[int, int]) -> Array:
    """Boxes cut to a picture of `size`, width and height."""
    out: Array = np.clip(boxes, 0, np.array([*size, *size], np.float32)).astype(np.float32)
    return out


def keep_best(boxes: Array, classes: Indices, size: tuple[int, int], selection: Selection) -> Indices:
    """Indices of the boxes, given best first, that are over a pixel in size and overlap no better one."""
    inside = clip(boxes, size)
    alive = np.flatnonzero((inside[:, 2:] - inside[:, :2] > 1).all(axis=1))
    return alive[suppress(inside[alive], classes[alive], selection.nms_iou)[: selection.max_detections]]


def suppress(boxes: Array, classes: Indices, max_iou: float) -> Indices:
    """Greedy non-maximum suppression per class; `boxes` (K, 4) best first. Returns the indices kept."""
    if len(boxes) == 0:
        return np.zeros(0, np.int64)
    overlap = iou_matrix(boxes, boxes) > max_iou
    overlap &= classes[:, None] == classes[None, :]
    alive = np.ones(len(boxes), bool)
    for index in range(len(boxes)):
        if alive[index]:
            alive[index + 1 :] &= ~overlap[index, index + 1 :]
    return np.flatnonzero(alive)


def iou_matrix(a: Array, b: Array) -> Array:
    """Intersection over union (len(a), len(b)) of xyxy boxes."""
    # (len(a), 2, len(b)), width and height: what is next to each other in memory is counted at once.
    sides = np.minimum(a[:, 2:, None], b.T[None, 2:]) - np.maximum(a[:, :2, None], b.T[None, :2])
    np.maximum(sides, 0, out=sides)
    inter = sides[:, 0] * sides[:, 1]
    union = _areas(a)[:, None] + _areas(b)[None, :] - inter
    out: Array = inter / np.maximum(union, 1e-9)
    return out


def _areas(boxes: Array) -> Array:
    out: Array = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return out
