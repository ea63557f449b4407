"""The detector: anchor-free heads on the frame encoder, and boxes from their outputs.

Per cell of strides 8, 16 and 32: class scores, the four distances from the cell's centre to the sides of the
box as distributions over bins (Generalized Focal Loss, arXiv 2006.04388), and an appearance embedding.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoder import STRIDES, FrameEncoder, Separable

CLASSES = ("person", "cycle", "car", "bus", "truck")

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DetectorConfig:
    """What a checkpoint needs to build its network again."""

    classes: tuple[str, ...] = CLASSES
    channels: int = 96
    bins: int = 10
    appearance: int = 32
    embedding: int = 64
    input_width: int = field(default=512)
    input_height: int = field(default=288)

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("a detector needs at least one class")
        if self.input_width % 32 or self.input_height % 32:
            raise ValueError(f"input {self.input_width}x{self.input_height}: not multiples of 32")

    def to_json(self) -> dict[str, object]:
        return {"kind": "detector", **asdict(self), "classes": list(self.classes)}


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
    classes: npt.NDArray[np.int64]  # (K,), index into DetectorConfig.classes
    appearance: Array  # (K, E), unit length


class Head(nn.Module):
    """Heads of one level: a tower for the class, one for the box, a layer for the appearance."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        c = config.channels
        self.class_tower = nn.Sequential(Separable(c, c), Separable(c, c))
        self.box_tower = nn.Sequential(Separable(c, c), Separable(c, c))
        self.logits = nn.Conv2d(c, len(config.classes), 1)
        self.sides = nn.Conv2d(c, 4 * config.bins, 1)
        self.appearance = nn.Conv2d(c, config.appearance, 1)
        nn.init.constant_(self.logits.bias, -4.6)  # type: ignore[arg-type]  # 1% of cells hold an object

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = self.class_tower(x)
        return self.logits(seen), self.sides(self.box_tower(x)), self.appearance(seen)


class Detector(nn.Module):
    """Encoder and heads."""

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config or DetectorConfig()
        self.encoder = FrameEncoder(self.config.channels, self.config.embedding)
        self.heads = nn.ModuleList(Head(self.config) for _ in STRIDES)

    def forward(self, images: Tensor) -> RawOutput:
        """`images` (N, 3, H, W), RGB in [0, 255], H and W multiples of 32."""
        maps, embedding = self.encoder(images)
        parts = [head(x) for head, x in zip(self.heads, maps, strict=True)]
        logits, sides, appearance = (
            torch.cat([p[i].flatten(2) for p in parts], dim=2).transpose(1, 2) for i in range(3)
        )  # each (N, A, channels)
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


class Decoded(nn.Module):
    """Network and box decoding in one graph: what an exported model computes.

    `forward` takes (N, H, W, 3) uint8 RGB and returns scores (N, A, classes) in [0, 1], boxes (N, A, 4) xyxy
    in input pixels, appearance (N, A, E) and the frame embedding (N, D).
    """

    centres: Tensor
    strides: Tensor

    def __init__(self, detector: Detector, height: int, width: int) -> None:
        super().__init__()
        self.detector = detector
        centres, strides = cell_centres(height, width)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dtype = next(self.detector.parameters()).dtype
        images = pictures.permute(0, 3, 1, 2).to(dtype)  # (N, 3, H, W), channels last in memory
        raw = self.detector(images)
        boxes = decode_boxes(raw.sides.float(), self.centres, self.strides)
        # In float64, since the last elements of a float32 tensor are rounded differently from the others.
        scores = raw.logits.double().sigmoid().float()
        return scores, boxes, raw.appearance.float(), raw.embedding.float()


def select(
    scores: Array,
    boxes: Array,
    appearance: Array,
    *,
    min_score: float,
    nms_iou: float,
    max_detections: int,
    size: tuple[int, int],
) -> Detections:
    """Boxes of one picture from the outputs of all cells.

    Args:
        scores: (A, classes).
        boxes: (A, 4), xyxy in input pixels.
        appearance: (A, E).
        min_score: cells and classes below it are dropped.
        nms_iou: per class, of two boxes that overlap more the lower-scored is dropped.
        max_detections: number of boxes kept.
        size: width and height that boxes are clipped to, input pixels.
    """
    cells, classes = np.nonzero(scores >= min_score)
    values = scores[cells, classes]
    order = np.argsort(-values, kind="stable")[: 10 * max_detections]
    cells, classes, values = cells[order], classes[order], values[order]
    kept_boxes = boxes[cells]
    kept_boxes = np.clip(kept_boxes, 0, np.array([*size, *size], np.float32)).astype(np.float32)
    alive = (kept_boxes[:, 2] - kept_boxes[:, 0] > 1) & (kept_boxes[:, 3] - kept_boxes[:, 1] > 1)
    cells, classes, values, kept_boxes = cells[alive], classes[alive], values[alive], kept_boxes[alive]
    keep = suppress(kept_boxes, classes, nms_iou)[:max_detections]
    return Detections(
        kept_boxes[keep],
        values[keep].astype(np.float32),
        classes[keep].astype(np.int64),
        appearance[cells[keep]].astype(np.float32),
    )


def suppress(boxes: Array, classes: npt.NDArray[np.int64], max_iou: float) -> npt.NDArray[np.int64]:
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
