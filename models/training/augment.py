"""Augmented training views: scale, crop, mirror, mosaic, colour, blur, noise, compression, night."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from models.training.coco import Array, Image, TrainingImage

FILL = 114


@dataclass(frozen=True)
class View:
    """A picture as the network sees it in training. Boxes are xyxy in its pixels."""

    pixels: Image  # (size, size, 3), RGB
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


def make_view(image: TrainingImage, settings: AugmentSettings, rng: np.random.Generator) -> View:
    """A random crop at a random scale, mirrored half the time, with disturbed pixels."""
    base = min(settings.reference[0] / image.width, settings.reference[1] / image.height)
    scale = base * np.exp(rng.uniform(*np.log(settings.scale)))
    view = _crop(image, scale, (settings.size, settings.size), settings, rng)
    return _finish(view, rng)


def make_mosaic(images: list[TrainingImage], settings: AugmentSettings, rng: np.random.Generator) -> View:
    """Four images, smaller, around a random point (as in YOLOv4, arXiv 2004.10934)."""
    size = settings.size
    cx, cy = rng.integers(int(0.3 * size), int(0.7 * size) + 1, 2)
    corners = ((0, 0, cx, cy), (cx, 0, size, cy), (0, cy, cx, size), (cx, cy, size, size))
    pixels = np.full((size, size, 3), FILL, np.uint8)
    parts = []
    for image, (x1, y1, x2, y2) in zip(images, corners, strict=True):
        base = min(settings.reference[0] / image.width, settings.reference[1] / image.height)
        part = _crop(image, base * rng.uniform(0.35, 0.9), (x2 - x1, y2 - y1), settings, rng)
        pixels[y1:y2, x1:x2] = part.pixels
        parts.append((part, np.array([x1, y1, x1, y1], np.float32)))
    masked_somewhere = np.logical_or.reduce([p.masked for p, _ in parts])
    view = View(
        pixels,
        np.concatenate([p.boxes + shift for p, shift in parts]),
        np.concatenate([p.classes for p, _ in parts]),
        np.concatenate([p.weights for p, _ in parts]),
        np.full(sum(len(p.classes) for p, _ in parts), -1),
        np.concatenate([p.ignore_boxes + shift for p, shift in parts]),
        np.concatenate([p.ignore_classes for p, _ in parts]),
        masked_somewhere,
    )
    return _finish(view, rng)


def _crop(
    image: TrainingImage,
    scale: float,
    size: tuple[int, int],
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> View:
    """A window of `size` (width, height) of the image at `scale`; what lies outside the image is grey."""
    width, height = size
    shift = np.array(
        [
            _offset(image.width * scale, width, image.boxes[:, 0::2] * scale, rng),
            _offset(image.height * scale, height, image.boxes[:, 1::2] * scale, rng),
        ]
    )
    matrix = np.array([[scale, 0, -shift[0]], [0, scale, -shift[1]]])
    how = cv2.INTER_AREA if scale < 0.8 else cv2.INTER_LINEAR
    source = image.pixels()
    if how == cv2.INTER_AREA:  # warpAffine has no area interpolation: shrink first, then cut
        shrunk = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        source = cv2.resize(source, shrunk, interpolation=how)  # type: ignore[assignment]
        matrix[:, :2] = np.eye(2)
    pixels = cv2.warpAffine(source, matrix, (width, height), borderValue=(FILL, FILL, FILL))
    move = np.array([shift[0], shift[1]] * 2)
    boxes, visible = _clip(image.boxes * scale - move, width, height)
    ignored, ignored_visible = _clip(image.ignore_boxes * scale - move, width, height)
    big = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) >= 3
    keep = (visible >= settings.min_visible) & big
    cut = (visible > 0) & ~keep
    return View(
        np.asarray(pixels, np.uint8),
        boxes[keep],
        image.classes[keep],
        image.weights[keep],
        np.flatnonzero(keep),
        np.concatenate([ignored[ignored_visible > 0], boxes[cut]]),
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


def _finish(view: View, rng: np.random.Generator) -> View:
    pixels, boxes, ignored = view.pixels, view.boxes, view.ignore_boxes
    if rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        boxes, ignored = _mirror(boxes, pixels.shape[1]), _mirror(ignored, pixels.shape[1])
    return replace(view, pixels=disturb(pixels, rng), boxes=boxes, ignore_boxes=ignored)


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
