"""How well the vectors tell things apart: which object, which picture is it, seen again in another view?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.boxes import Array, all_outputs
from models.runtime import Network
from models.training.augment import AugmentSettings, Plan, disturb, draw, plan_view
from models.training.coco import TrainingImage, load_images
from models.training.pictures import Image
from pipeline.config import PerceiveConfig
from pipeline.errors import UsageError
from pipeline.perceive import Perceiver

VIEW_PX = 288


def retrieval(
    weights: str,
    data: Path,
    images: Path,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Two augmented views of each image (crop, scale, mirror, colour, blur, noise, compression).

    An object of the first view is right if, of all objects of its class in the second view, its own vector is
    the nearest; counted where there are two or more to choose from, at the true boxes. A picture is right if,
    of all second views, its own frame embedding is the nearest.

    Raises:
        UsageError: the data cannot be read.
        ModelError: the weights cannot be used.
    """
    size = {"input_width": VIEW_PX, "input_height": VIEW_PX, "batch_size": 2}
    perceiver = Perceiver(PerceiveConfig(weights=weights, **size))
    network = perceiver.network
    if not isinstance(network, Network):
        raise TypeError("a perceiver without a brought detector runs our own")
    try:
        pictures = load_images(data, images, network.classes)
    except (ValueError, OSError) as exc:
        raise UsageError("the data cannot be read", got=str(exc)) from exc
    right = asked = 0
    chance = 0.0
    frames: list[list[Array]] = []
    for number, image in enumerate(pictures):
        try:
            views, pixels = _views(image, np.random.default_rng([seed, number]))
        except ValueError as exc:  # of a picture of which only the beginning is whole
            raise UsageError("the data cannot be read", got=str(exc)) from exc
        found = all_outputs(network.run, pixels)
        frames.append([out.embedding for out in found])
        looks = [
            network.grid.looks(view.boxes, out.scores, out.appearance)
            for view, out in zip(views, found, strict=True)
        ]
        for hit, choices in _matches(views, looks):
            right, asked, chance = right + hit, asked + 1, chance + 1 / choices
        on_progress(number + 1, len(pictures))
    nearest = np.stack([f[0] for f in frames]) @ np.stack([f[1] for f in frames]).T
    return {
        "objects_right": right / max(asked, 1),
        "objects_by_chance": chance / max(asked, 1),
        "objects": asked,
        "frames_right": float((nearest.argmax(axis=1) == np.arange(len(frames))).mean()) if frames else 0.0,
        "frames_by_chance": 1 / max(len(frames), 1),
        "frames": len(frames),
    }


def _views(image: TrainingImage, rng: np.random.Generator) -> tuple[tuple[Plan, Plan], Image]:
    settings = AugmentSettings(size=VIEW_PX)
    one = plan_view(image, settings, rng)
    first = disturb(draw(one, VIEW_PX), rng)
    two = plan_view(image, settings, rng)
    return (one, two), np.stack([first, disturb(draw(two, VIEW_PX), rng)])


def _matches(views: tuple[Plan, Plan], looks: list[Array]) -> list[tuple[bool, int]]:
    """For each object of the first view that the second one shows too: found or not, among how many."""
    first, second = views
    found = []
    for place, (label, number) in enumerate(zip(first.classes, first.objects, strict=True)):
        rivals = np.flatnonzero(second.classes == label)
        if len(rivals) > 1 and number in second.objects[rivals]:
            nearest = rivals[(looks[1][rivals] @ looks[0][place]).argmax()]
            found.append((bool(second.objects[nearest] == number), len(rivals)))
    return found
