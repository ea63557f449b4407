"""Losses of the detector: which cells answer for which object, and what each answer costs.

Assignment: task-aligned (TOOD, arXiv 2108.07755). Class: binary cross-entropy towards the quality of the box.
Box: GIoU (arXiv 1902.09630) and distribution focal loss (arXiv 2006.04388). Appearance: InfoNCE between two
views of the same objects (arXiv 1807.03748).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.detector import RawOutput, cell_centres, decode_boxes


class Targets(NamedTuple):
    """Truth of N views, one object after the other, as tensors; boxes are xyxy in input pixels."""

    boxes: Tensor  # (T, 4)
    classes: Tensor  # (T,) int64
    weights: Tensor  # (T,), in (0, 1]
    objects: Tensor  # (T,) int64, -1 unknown
    views: Tensor  # (T,) int64, the view that each object is in
    ignore_boxes: Tensor  # (I, 4)
    ignore_classes: Tensor  # (I,) int64
    ignore_views: Tensor  # (I,) int64
    masked: Tensor  # (N, classes) bool


@dataclass(frozen=True)
class LossWeights:
    cls: float = 0.5
    box: float = 7.5
    dfl: float = 1.5
    appearance: float = 0.2
    frame: float = 0.05


class Assignment(NamedTuple):
    positive: Tensor  # (N, A) bool
    truth: Tensor  # (N, A) int64, index of the object where positive
    quality: Tensor  # (N, A), target score where positive
    best: Tensor  # (T,) int64, best cell of each object, -1 if none


def giou_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - generalised IoU of boxes, row by row (N,)."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (high - low).clamp(min=0).prod(dim=1)
    union = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1) - inter
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(dim=1)
    return 1 - inter / union.clamp(min=1e-6) + (hull - union) / hull.clamp(min=1e-6)


@torch.no_grad()
def assign(
    scores: Tensor, boxes: Tensor, target: Targets, centres: Tensor, strides: Tensor, top: int = 9
) -> Assignment:
    """The `top` cells inside each object whose class score and box agree best with it.

    Args:
        scores: (N, A, classes), in [0, 1].
        boxes: (N, A, 4), what the cells say now.
        target: T objects.
        centres: (A, 2).
        strides: (A,).
        top: cells for each object.
    """
    shape = scores.shape[:2]
    count, cells = len(target.boxes), shape[1]
    iou = _iou(target.boxes[:, None], boxes[target.views])  # (T, A)
    metric = scores[target.views, :, target.classes].sqrt() * iou.clamp(min=1e-4) ** 6
    metric = metric * _inside(target.boxes, centres, strides)
    values, chosen = metric.topk(min(top, cells), dim=1)
    mask = torch.zeros_like(metric, dtype=torch.bool).scatter_(1, chosen, values > 0)
    # A cell that several objects ask for serves the one that its box overlaps most, of equals the first.
    contested = torch.where(mask, iou + 1e-6, torch.zeros_like(iou))
    overlap = _by_view(contested, target.views, "amax", torch.zeros(shape, device=iou.device))
    rows = torch.arange(count, device=iou.device)[:, None]
    first = torch.where(mask & (contested == overlap[target.views]), rows, count)
    owner = _by_view(first, target.views, "amin", torch.full(shape, count, device=iou.device))
    own = mask & (first == owner[target.views])
    aligned = metric * own
    peak = aligned.amax(dim=1, keepdim=True).clamp(min=1e-9)
    reach = (iou * own).amax(dim=1, keepdim=True)
    asked = aligned / peak * reach * target.weights[:, None]
    quality = _by_view(asked, target.views, "amax", torch.zeros(shape, device=iou.device))
    best = torch.where(own.any(dim=1), aligned.argmax(dim=1), -1)
    return Assignment(overlap > 0, owner, quality, best)


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4), shapes broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inter = (high - low).clamp(min=0).prod(dim=-1)
    area_a, area_b = (a[..., 2:] - a[..., :2]).prod(dim=-1), (b[..., 2:] - b[..., :2]).prod(dim=-1)
    return inter / (area_a + area_b - inter).clamp(min=1e-6)


def _inside(boxes: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """(T, A) bool: the cell's centre lies in the box, or is the nearest to the centre of a small box."""
    # A small object may hold no centre: half a cell around its own centre counts as inside.
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = (centres[None] - middle[:, None]).abs().amax(dim=2) <= strides[None] / 2
    near &= strides[None] == strides.min()
    return _contained(boxes, centres) | near


def _contained(boxes: Tensor, centres: Tensor) -> Tensor:
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    return ((centres[None] > low) & (centres[None] < high)).all(dim=2)


def _by_view(values: Tensor, views: Tensor, how: str, start: Tensor) -> Tensor:
    """`start` (N, A) with the greatest (`amax`) or least (`amin`) of its `values` (T, A) in each view."""
    rows = views[:, None].expand(-1, values.shape[1])
    return start.to(values.dtype).scatter_reduce(0, rows, values, how)


def _ignored(target: Targets, centres: Tensor, num_classes: int) -> Tensor:
    """(N, A, classes) bool: nothing is known of the class there, in an ignored place or in the whole view."""
    views, cells = len(target.masked), len(centres)
    inside = _contained(target.ignore_boxes, centres).byte()  # (I, A)
    rows = target.ignore_views * num_classes + target.ignore_classes
    start = torch.zeros(views * num_classes, cells, dtype=torch.uint8, device=centres.device)
    found = _by_view(inside, rows, "amax", start).bool()
    return found.view(views, num_classes, cells).transpose(1, 2) | target.masked[:, None]


def detection_loss(
    raw: RawOutput,
    target: Targets,
    size: tuple[int, int],
    pairs: list[tuple[int, int]],
    weights: LossWeights,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of a batch and its parts.

    Args:
        raw: outputs for N views.
        target: their truth.
        size: height and width of the views.
        pairs: indices of views that show the same image.
        weights: weights of the parts.
    """
    centres, strides = cell_centres(*size, device=raw.logits.device)
    boxes = decode_boxes(raw.sides, centres, strides)
    found = assign(raw.logits.detach().sigmoid(), boxes.detach(), target, centres, strides)
    norm = found.quality.sum().clamp(min=1.0)
    view, cell = found.positive.nonzero(as_tuple=True)
    which, quality = found.truth[view, cell], found.quality[view, cell]
    cls_target = torch.zeros_like(raw.logits)
    cls_target[view, cell, target.classes[which]] = quality
    keep = ~_ignored(target, centres, raw.logits.shape[2])
    keep[view, cell, target.classes[which]] = True
    bce = F.binary_cross_entropy_with_logits(raw.logits, cls_target, reduction="none")
    truth = target.boxes[which]
    dfl = _dfl(raw.sides[view, cell], centres[cell], strides[cell], truth)
    objects, frame = _contrast(raw, target, found.best, pairs)
    losses = {
        "cls": (bce * keep).sum() / norm,
        "box": (giou_loss(boxes[view, cell], truth) * quality).sum() / norm,
        "dfl": (dfl * quality).sum() / norm,
        "appearance": objects,
        "frame": frame,
    }
    total = torch.stack([losses[k] * getattr(weights, k) for k in losses]).sum()
    values = torch.stack(list(losses.values())).detach().tolist()
    return total, dict(zip(losses, values, strict=True))


def _dfl(sides: Tensor, centres: Tensor, strides: Tensor, truth: Tensor) -> Tensor:
    """Distribution focal loss (P,): cross-entropy towards the two bins beside each true distance."""
    bins = sides.shape[-1]
    distance = torch.cat([centres - truth[:, :2], truth[:, 2:] - centres], dim=1) / strides[:, None]
    distance = distance.clamp(0, bins - 1.01)  # (P, 4)
    low = distance.floor().long()
    share = distance - low
    logp = sides.log_softmax(dim=-1)
    left = logp.gather(2, low[..., None])[..., 0]
    right = logp.gather(2, low[..., None] + 1)[..., 0]
    return -(left * (1 - share) + right * share).mean(dim=1)


def _contrast(
    raw: RawOutput, target: Targets, best: Tensor, pairs: list[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """InfoNCE over objects seen in both views of a pair, and over the pairs' frames."""
    none = raw.appearance.sum() * 0, raw.embedding.sum() * 0
    if not pairs:
        return none
    left, right = torch.tensor(pairs, device=best.device).T
    partner = torch.full((len(target.masked),), -1, device=best.device)
    partner[left] = right
    same = target.objects[:, None] == target.objects[None]
    same &= partner[target.views][:, None] == target.views[None]
    same &= (best >= 0)[:, None] & (best >= 0)[None] & (target.objects >= 0)[:, None]
    first, second = same.nonzero(as_tuple=True)
    here, there = (raw.appearance[target.views[k], best[k]] for k in (first, second))
    objects = _info_nce(here, there) if len(first) > 1 else none[0]
    frame = _info_nce(raw.embedding[left], raw.embedding[right]) if len(pairs) > 1 else none[1]
    return objects, frame


def _info_nce(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    similar = a @ b.T / temperature
    truth = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(similar, truth) + F.cross_entropy(similar.T, truth)) / 2
