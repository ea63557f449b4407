"""Augmented training views: scale, crop, mirror, mosaic, colour, blur, noise, compression, night."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from models.training.coco import Array, TrainingImage
from models.training.pictures import Image

FILL = 114


@dataclass(frozen=True)
class Patch:
    """A window of an image as it stands in a view that is not mirrored."""

    image: TrainingImage
    scale: float  # pixels of the view per pixel of the image
    shift: tuple[float, float]  # x and y in the scaled image of the window's first pixel
    region: tuple[int, int, int, int]  # of the view, xyxy


@dataclass(frozen=True)
class Plan:
    """What a training view shows. Boxes are xyxy in its pixels."""

    patches: tuple[Patch, ...]
    mirrored: bool
    boxes: Array  # (K, 4)
    classes: npt.NDArray[np.int64]  # (K,)
    weights: Array  # (K,)
    objects: npt.NDArray[np.int64]  # (K,): index of the object in its image, or -1 in a mosaic
    ignore_boxes: Array  # (I, 4)
    ignore_classes: npt.NDArray[np.int64]  # (I,)
    masked: npt.NDArray[np.bool_]  # (classes,)


@dataclass(frozen=True)
class AugmentSettings:
    size: int = 288  # pixels, width and height of a view
    reference: tuple[int, int] = (512, 288)  # input size of analysis, that scales are relative to
    scale: tuple[float, float] = (0.6, 1.5)
    mosaic: float = 0.2  # share of views made of four images
    min_visible: float = 0.3  # objects cut to less of their area are ignored


def plan_view(image: TrainingImage, settings: AugmentSettings, rng: np.random.Generator) -> Plan:
    """A random crop at a random scale, mirrored half the time."""
    scale = _fitting(image, settings) * np.exp(rng.uniform(*np.log(settings.scale)))
    return _mirrored(_crop(image, scale, (0, 0, settings.size, settings.size), settings, rng), settings, rng)


def plan_mosaic(images: list[TrainingImage], settings: AugmentSettings, rng: np.random.Generator) -> Plan:
    """Four images, smaller, around a random point (as in YOLOv4, arXiv 2004.10934)."""
    size = settings.size
    cx, cy = (int(c) for c in rng.integers(int(0.3 * size), int(0.7 * size) + 1, 2))
    corners = ((0, 0, cx, cy), (cx, 0, size, cy), (0, cy, cx, size), (cx, cy, size, size))
    parts = [
        _crop(image, _fitting(image, settings) * rng.uniform(0.35, 0.9), region, settings, rng)
        for image, region in zip(images, corners, strict=True)
    ]
    whole = Plan(
        tuple(patch for p in parts for patch in p.patches),
        False,
        np.concatenate([p.boxes for p in parts]),
        np.concatenate([p.classes for p in parts]),
        np.concatenate([p.weights for p in parts]),
        np.full(sum(len(p.classes) for p in parts), -1),
        np.concatenate([p.ignore_boxes for p in parts]),
        np.concatenate([p.ignore_classes for p in parts]),
        np.logical_or.reduce([p.masked for p in parts]),
    )
    return _mirrored(whole, settings, rng)


def draw(plan: Plan, size: int) -> Image:
    """The view (size, size, 3), RGB, that a plan describes."""
    pixels = np.full((size, size, 3), FILL, np.uint8)
    for patch in plan.patches:
        x1, y1, x2, y2 = patch.region
        pixels[y1:y2, x1:x2] = _draw_patch(patch)
    return np.ascontiguousarray(pixels[:, ::-1]) if plan.mirrored else pixels


def _draw_patch(patch: Patch) -> Image:
    image, scale = patch.image, patch.scale
    x1, y1, x2, y2 = patch.region
    matrix = np.array([[scale, 0, -patch.shift[0]], [0, scale, -patch.shift[1]]])
    source = image.pixels()
    if scale < 0.8:  # warpAffine has no area interpolation: shrink first, then cut
        shrunk = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        source = cv2.resize(source, shrunk, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        matrix[:, :2] = np.eye(2)
    window = cv2.warpAffine(source, matrix, (x2 - x1, y2 - y1), borderValue=(FILL, FILL, FILL))
    return np.asarray(window, np.uint8)


def _fitting(image: TrainingImage, settings: AugmentSettings) -> float:
    """The scale at which analysis would show the whole image."""
    return min(settings.reference[0] / image.width, settings.reference[1] / image.height)


def _crop(
    image: TrainingImage,
    scale: float,
    region: tuple[int, int, int, int],
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> Plan:
    """A window of the image at `scale` for a region of a view; what lies outside the image is grey."""
    x1, y1, x2, y2 = region
    width, height = x2 - x1, y2 - y1
    shift = (
        _offset(image.width * scale, width, image.boxes[:, 0::2] * scale, rng),
        _offset(image.height * scale, height, image.boxes[:, 1::2] * scale, rng),
    )
    move, corner = np.array(shift * 2), np.array([x1, y1, x1, y1], np.float32)
    boxes, visible = _clip(image.boxes * scale - move, width, height)
    ignored, ignored_visible = _clip(image.ignore_boxes * scale - move, width, height)
    big = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) >= 3
    keep = (visible >= settings.min_visible) & big
    cut = (visible > 0) & ~keep
    return Plan(
        (Patch(image, scale, shift, region),),
        False,
        boxes[keep] + corner,
        image.classes[keep],
        image.weights[keep],
        np.flatnonzero(keep),
        np.concatenate([ignored[ignored_visible > 0], boxes[cut]]) + corner,
        np.concatenate([image.ignore_classes[ignored_visible > 0], image.classes[cut]]),
        image.masked,
    )


def _offset(length: float, window: int, spans: Array, rng: np.random.Generator) -> float:
    """Where a window begins along one axis: anywhere, but mostly so that it holds some object's centre."""
    low, high = min(0.0, length - window), max(0.0, length - window)
    if len(spans) and rng.random() < 0.7:
        centre = float(spans[rng.integers(len(spans))].mean())
        low, high = max(low, centre - window), min(high, centre)
        if low > high:
            low = high = min(max(centre - window / 2, 0.0), max(0.0, length - window))
    return float(rng.uniform(low, high))


def _clip(boxes: Array, width: int, height: int) -> tuple[Array, Array]:
    """Boxes cut to the window, and the share of each one's area that is left."""
    limits = np.array([width, height, width, height], np.float32)
    clipped = np.clip(boxes, 0, limits).astype(np.float32)
    before = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    after = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1])
    return clipped, np.asarray(after / np.maximum(before, 1e-6), np.float32)


def _mirrored(plan: Plan, settings: AugmentSettings, rng: np.random.Generator) -> Plan:
    """The plan itself or, half the time, its mirror image."""
    if rng.random() >= 0.5:
        return plan
    boxes, ignored = (_mirror(b, settings.size) for b in (plan.boxes, plan.ignore_boxes))
    return replace(plan, mirrored=True, boxes=boxes, ignore_boxes=ignored)


def _mirror(boxes: Array, width: int) -> Array:
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def disturb(pixels: Image, rng: np.random.Generator) -> Image:
    """Colour, brightness, contrast; now and then grey, night, blur, noise and JPEG blocks."""
    out = pixels.astype(np.float32)
    if rng.random() < 0.8:
        out *= rng.uniform(0.85, 1.15, 3).astype(np.float32)
        mean = out.mean()
        out = (out - mean) * rng.uniform(0.7, 1.3) + mean + rng.uniform(-35, 35)
        grey = out.mean(axis=2, keepdims=True)
        out = grey + (out - grey) * rng.uniform(0.4, 1.5)
    if rng.random() < 0.06:
        out = np.repeat(out.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.08:  # night: dark, low contrast, noisy
        dark = (np.clip(out, 0, 255) / 255) ** rng.uniform(1.5, 2.5) * rng.uniform(0.4, 0.9)
        out = np.asarray(255 * dark, np.float32)
        out += rng.normal(0, 10, out.shape[:2])[..., None]
    if rng.random() < 0.15:
        out += rng.normal(0, rng.uniform(2, 12), out.shape)
    ready = np.clip(out, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        ready = cv2.GaussianBlur(ready, (0, 0), rng.uniform(0.5, 1.6))  # type: ignore[assignment]
    if rng.random() < 0.25:
        quality = int(rng.integers(20, 70))
        _, coded = cv2.imencode(".jpg", ready, [cv2.IMWRITE_JPEG_QUALITY, quality])
        ready = cv2.imdecode(coded, cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return ready
