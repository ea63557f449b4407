"""Weights with ranges for 8 bits: `python -m models.training.ranges COCO IMAGES WEIGHTS OUT`.

For weights that were trained before there were such; `marey train detector` measures them itself, on views of
the same kind.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from models.checkpoint import load_detector, save_detector
from models.quantize import measured_ranges
from models.training.augment import AugmentSettings
from models.training.batches import draw_batch, plan_batch
from models.training.coco import load_images
from models.training.detector_settings import TrainSettings

_BATCHES, _SIZE = 4, 384


def main(annotations: Path, images: Path, weights: Path, out: Path) -> None:
    """Measure on the first views of a training, and write."""
    detector = load_detector(weights)
    settings = TrainSettings(steps=_BATCHES, augment=AugmentSettings(size=_SIZE))
    pictures = load_images(annotations, images, detector.config.classes)
    drawn = [draw_batch(plan_batch(pictures, settings, step), settings, step) for step in range(_BATCHES)]
    views = [torch.from_numpy(batch).permute(0, 3, 1, 2).float() for batch in drawn]
    save_detector(out, detector, ranges=measured_ranges(detector, views))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
