"""The detector: anchor-free heads on the frame encoder, and boxes from their outputs.

Per cell of strides 8, 16 and 32: class scores, the four distances from the cell's centre to the sides of the
box as distributions over bins (Generalized Focal Loss, arXiv 2006.04388), and an appearance embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoder import FAST_BLOCKS, STRIDES, FrameEncoder, Separable

CLASSES = ("person", "cycle", "car", "bus", "truck")

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

VOTE_IOU = 0.7
"""From this overlap on a box has a say in where a better one of its class lies."""


@dataclass(frozen=True)
class DetectorConfig:
    """What a checkpoint needs to build its network again."""

    classes: tuple[str, ...] = CLASSES
    channels: int = 96
    bins: int = 10
    appearance: int = 32
    embedding: int = 64
    blocks: tuple[int, ...] = FAST_BLOCKS  # of the backbone's stages
    towers: tuple[int, ...] = (1, 2, 2)  # separable convolutions of the heads at strides 8, 16, 32
    input_width: int = field(default=512)
    input_height: int = field(default=288)

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("a detector needs at least one class")
        if len(self.towers) != len(STRIDES):
            raise ValueError(f"towers {self.towers}: one depth for each of the strides {STRIDES}")
        if self.input_width % 32 or self.input_height % 32:
            raise ValueError(f"input {self.input_width}x{self.input_height}: not multiples of 32")

    def to_json(self) -> dict[str, object]:
        return {"kind": "detector", **asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DetectorConfig:
        """The inverse of `to_json`.

        Raises:
            TypeError, ValueError: a key or value that no detector has.
        """
        ready: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "kind"
        }
        return cls(**ready)


class RawOutput(NamedTuple):
    """Outputs over all cells, levels one after the other, row by row; A = sum of H/s * W/s."""

    logits: Tensor  # (N, A, classes), before the sigmoid
    sides: Tensor  # (N, A, 4, bins), before the softmax: left, top, right, bottom
    appearance: Tensor  # (N, A, E), unit length
    embedding: Tensor  # (N, D), unit length


class Detections(NamedTuple):
    """Boxes of one picture, best first."""

    boxes: Array  # (K, 4), xyxy in input pixels
    scores: Array  # (K,), in [0, 1]
    classes: Indices  # (K,), index into DetectorConfig.classes
    appearance: Array  # (K, E), unit length


class Head(nn.Module):
    """Heads of one level: one tower of `depth` separable convolutions, and a layer for each output."""

    def __init__(self, config: DetectorConfig, depth: int) -> None:
        super().__init__()
        c = config.channels
        self.tower = nn.Sequential(*(Separable(c, c) for _ in range(depth)))
        self.logits = nn.Conv2d(c, len(config.classes), 1)
        self.sides = nn.Conv2d(c, 4 * config.bins, 1)
        self.appearance = nn.Conv2d(c, config.appearance, 1)
        nn.init.constant_(self.logits.bias, -4.6)  # type: ignore[arg-type]  # 1% of cells hold an object

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.tower(x)
        return self.logits(x), self.sides(x), self.appearance(x)


class Detector(nn.Module):
    """Encoder and heads."""

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config or DetectorConfig()
        self.encoder = FrameEncoder(self.config.channels, self.config.embedding, self.config.blocks)
        self.heads = nn.ModuleList(Head(self.config, depth) for depth in self.config.towers)

    def cells(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `forward`, but sides (N, A, 4 * bins) and appearance (N, A, E) of any length."""
        maps, embedding = self.encoder(images)
        parts = [head(x) for head, x in zip(self.heads, maps, strict=True)]
        logits, sides, appearance = (
            torch.cat([p[i].flatten(2) for p in parts], dim=2).transpose(1, 2) for i in range(3)
        )  # each (N, A, channels)
        return logits, sides, appearance, embedding

    def forward(self, images: Tensor) -> RawOutput:
        """`images` (N, 3, H, W), RGB in [0, 255], H and W multiples of 32."""
        logits, sides, appearance, embedding = self.cells(images)
        n, cells, _ = logits.shape
        return RawOutput(
            logits,
            sides.reshape(n, cells, 4, self.config.bins),
            F.normalize(appearance, dim=2),
            embedding,
        )


def cell_centres(height: int, width: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Centres (A, 2) in input pixels and strides (A,) of all cells, in the order of `RawOutput`."""
    centres, strides = [], []
    for stride in STRIDES:
        ys = (torch.arange(height // stride, device=device) + 0.5) * stride
        xs = (torch.arange(width // stride, device=device) + 0.5) * stride
        grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).reshape(-1, 2)
        centres.append(grid)
        strides.append(torch.full((len(grid),), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)


def decode_boxes(sides: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Boxes (N, A, 4), xyxy in input pixels, from the distributions `sides` (N, A, 4, bins)."""
    bins = torch.arange(sides.shape[-1], dtype=sides.dtype, device=sides.device)
    distance = sides.softmax(dim=-1) @ bins * strides[:, None]  # (N, A, 4)
    low, high = distance[..., :2], distance[..., 2:]
    return torch.cat([centres - low, centres + high], dim=-1)


class Exported(nn.Module):
    """The network as it is run, without what is cheaper done for the few cells that count.

    `forward` takes (N, H, W, 3) uint8 RGB and returns scores (N, A, classes) in [0, 1], sides before the
    softmax (N, A, 4 * bins), appearance (N, A, E) of any length and the frame embedding (N, D).
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dtype = next(self.detector.parameters()).dtype
        images = pictures.permute(0, 3, 1, 2).to(dtype)  # (N, 3, H, W), channels last in memory
        logits, sides, appearance, embedding = self.detector.cells(images)
        # In float64, since the last elements of a float32 tensor are rounded differently from the others.
        scores = logits.double().sigmoid().float()
        return scores, sides.float(), appearance.float(), embedding.float()


class Grid(NamedTuple):
    """Cells of the input, in the order of `RawOutput`."""

    centres: Array  # (A, 2), input pixels
    strides: Array  # (A,)
    size: tuple[int, int]  # width and height of the input

    @classmethod
    def of(cls, width: int, height: int) -> Grid:
        centres, strides = cell_centres(height, width)
        return cls(centres.numpy(), strides.numpy(), (width, height))

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
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    area_a = (a[:, 2:] - a[:, :2]).prod(axis=1)
    area_b = (b[:, 2:] - b[:, :2]).prod(axis=1)
    union = area_a[:, None] + area_b[None, :] - inter
    out: Array = inter / np.maximum(union, 1e-9)
    return out
