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
    """Truth of one view, as tensors; boxes are xyxy in input pixels."""

    boxes: Tensor  # (K, 4)
    classes: Tensor  # (K,) int64
    weights: Tensor  # (K,), in (0, 1]
    objects: Tensor  # (K,) int64, -1 unknown
    ignore_boxes: Tensor  # (I, 4)
    ignore_classes: Tensor  # (I,) int64
    masked: Tensor  # (classes,) bool


@dataclass(frozen=True)
class LossWeights:
    cls: float = 0.5
    box: float = 7.5
    dfl: float = 1.5
    appearance: float = 0.2
    frame: float = 0.05


class Assignment(NamedTuple):
    positive: Tensor  # (A,) bool
    truth: Tensor  # (A,) int64, index of the object where positive
    quality: Tensor  # (A,), target score where positive
    best: Tensor  # (K,) int64, best cell of each object, -1 if none


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (len(a), len(b))."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = (high - low).clamp(min=0).prod(dim=2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(dim=1), (b[:, 2:] - b[:, :2]).prod(dim=1)
    return inter / (area_a[:, None] + area_b[None, :] - inter).clamp(min=1e-6)


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
    """The `top` cells inside each object whose class score and box agree best with it."""
    cells = len(boxes)
    positive = torch.zeros(cells, dtype=torch.bool, device=boxes.device)
    truth = torch.zeros(cells, dtype=torch.long, device=boxes.device)
    quality = torch.zeros(cells, device=boxes.device)
    best = torch.full((len(target.boxes),), -1, dtype=torch.long, device=boxes.device)
    if len(target.boxes) == 0:
        return Assignment(positive, truth, quality, best)
    # A small object may hold no centre: half a cell around its own centre counts as inside.
    middle = (target.boxes[:, :2] + target.boxes[:, 2:]) / 2
    near = (centres[None] - middle[:, None]).abs().amax(dim=2) <= strides[None] / 2
    near &= strides[None] == strides.min()
    low = centres[None] - target.boxes[:, None, :2]
    high = target.boxes[:, None, 2:] - centres[None]
    inside = (torch.cat([low, high], dim=2).amin(dim=2) > 0) | near  # (K, A)
    iou = box_iou(target.boxes, boxes)  # (K, A)
    metric = scores[:, target.classes].T.sqrt() * iou.clamp(min=1e-4) ** 6
    metric = metric * inside
    values, chosen = metric.topk(min(top, cells), dim=1)
    mask = torch.zeros_like(inside).scatter_(1, chosen, values > 0)
    contested = torch.where(mask, iou + 1e-6, torch.zeros_like(iou))
    overlap, owner = contested.max(dim=0)
    positive = overlap > 0
    own = mask & (torch.arange(len(target.boxes), device=boxes.device)[:, None] == owner[None])
    aligned = metric * own
    peak = aligned.amax(dim=1, keepdim=True).clamp(min=1e-9)
    reach = (iou * own).amax(dim=1, keepdim=True)
    quality = (aligned / peak * reach * target.weights[:, None]).amax(dim=0)
    best = torch.where(own.any(dim=1), aligned.argmax(dim=1), best)
    return Assignment(positive, owner, quality, best)


def _inside_any(centres: Tensor, boxes: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """(A, classes) bool: the cell's centre lies in an ignored box of the class."""
    out = torch.zeros(len(centres), num_classes, dtype=torch.bool, device=centres.device)
    if len(boxes):
        low = (centres[None] > boxes[:, None, :2]).all(dim=2)
        high = (centres[None] < boxes[:, None, 2:]).all(dim=2)
        inside = low & high  # (I, A)
        for label in set(classes.tolist()):
            out[:, label] = inside[classes == label].any(dim=0)
    return out


def detection_loss(
    raw: RawOutput,
    targets: list[Targets],
    size: tuple[int, int],
    pairs: list[tuple[int, int]],
    weights: LossWeights,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of a batch and its parts.

    Args:
        raw: outputs for N views.
        targets: N truths.
        size: height and width of the views.
        pairs: indices of views that show the same image.
        weights: weights of the parts.
    """
    centres, strides = cell_centres(*size, device=raw.logits.device)
    boxes = decode_boxes(raw.sides, centres, strides)
    scores = raw.logits.detach().sigmoid()
    found = [
        assign(s, b, t, centres, strides) for s, b, t in zip(scores, boxes.detach(), targets, strict=True)
    ]
    norm = torch.stack([a.quality.sum() for a in found]).sum().clamp(min=1.0)
    cls_target = torch.zeros_like(raw.logits)
    keep = torch.ones_like(raw.logits)
    parts: dict[str, list[Tensor]] = {"box": [], "dfl": []}
    for i, (a, target) in enumerate(zip(found, targets, strict=True)):
        ignored = _inside_any(centres, target.ignore_boxes, target.ignore_classes, raw.logits.shape[2])
        keep[i] = (~(ignored | target.masked)).float()
        cells = a.positive.nonzero()[:, 0]
        if len(cells) == 0:
            continue
        which = a.truth[cells]
        cls_target[i, cells, target.classes[which]] = a.quality[cells]
        keep[i, cells, target.classes[which]] = 1.0
        weight, truth = a.quality[cells], target.boxes[which]
        parts["box"].append((giou_loss(boxes[i, cells], truth) * weight).sum())
        parts["dfl"].append((_dfl(raw.sides[i, cells], centres[cells], strides[cells], truth) * weight).sum())
    bce = F.binary_cross_entropy_with_logits(raw.logits, cls_target, reduction="none")
    losses = {"cls": (bce * keep).sum() / norm}
    losses |= {k: torch.stack(v).sum() / norm if v else raw.sides.sum() * 0 for k, v in parts.items()}
    losses["appearance"], losses["frame"] = _contrast(raw, targets, found, pairs)
    total = torch.stack([losses[k] * getattr(weights, k) for k in losses]).sum()
    return total, {k: float(v.detach()) for k, v in losses.items()}


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
    raw: RawOutput, targets: list[Targets], found: list[Assignment], pairs: list[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """InfoNCE over objects seen in both views of a pair, and over the pairs' frames."""
    first, second = [], []
    for i, j in pairs:
        shared = {int(o): k for k, o in enumerate(targets[j].objects) if found[j].best[k] >= 0}
        for k, o in enumerate(targets[i].objects):
            if found[i].best[k] >= 0 and int(o) in shared:
                first.append(raw.appearance[i, found[i].best[k]])
                second.append(raw.appearance[j, found[j].best[shared[int(o)]]])
    zero = raw.appearance.sum() * 0
    objects = _info_nce(torch.stack(first), torch.stack(second)) if len(first) > 1 else zero
    if len(pairs) < 2:
        return objects, raw.embedding.sum() * 0
    left, right = zip(*pairs, strict=True)
    return objects, _info_nce(raw.embedding[list(left)], raw.embedding[list(right)])


def _info_nce(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    similar = a @ b.T / temperature
    truth = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(similar, truth) + F.cross_entropy(similar.T, truth)) / 2
