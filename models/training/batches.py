"""What each step of the detector's training sees. It depends on the seed and the step's number alone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from models.training.augment import Plan, disturb, draw, plan_mosaic, plan_view
from models.training.coco import TrainingImage
from models.training.detector_loss import Targets
from models.training.detector_settings import TrainSettings
from models.training.pictures import Image

Batch = tuple[int, list[Plan], Image | None]
"""Number of the step, what its views show, and their pixels (N, size, size, 3) if the CPU draws them."""


def targets_of(plans: Sequence[Plan], device: torch.device | str) -> Targets:
    """The truth of a batch."""
    counts, ignored = [len(p.classes) for p in plans], [len(p.ignore_classes) for p in plans]
    numbers = np.arange(len(plans))
    values = (
        np.concatenate([p.boxes for p in plans]),
        np.concatenate([p.classes for p in plans]),
        np.concatenate([p.weights for p in plans]),
        np.concatenate([p.objects for p in plans]),
        np.repeat(numbers, counts),
        np.concatenate([p.ignore_boxes for p in plans]),
        np.concatenate([p.ignore_classes for p in plans]),
        np.repeat(numbers, ignored),
        np.stack([p.masked for p in plans]),
    )
    return Targets(*(torch.from_numpy(v).to(device, non_blocking=True) for v in values))


def plan_batch(images: Sequence[TrainingImage], settings: TrainSettings, step: int) -> list[Plan]:
    """The views of a step: each image once an epoch in random order, then second views of the first ones."""
    rng = random_of(settings, step, 0)
    distinct = settings.batch - settings.pairs
    picks = [_pick(len(images), settings.seed, step * distinct + i) for i in range(distinct)]
    plans = []
    for position, pick in enumerate(picks):
        if position >= settings.pairs and rng.random() < settings.augment.mosaic:
            others = [images[int(i)] for i in rng.integers(len(images), size=3)]
            plans.append(plan_mosaic([images[pick], *others], settings.augment, rng))
        else:
            plans.append(plan_view(images[pick], settings.augment, rng))
    again = [plan_view(images[pick], settings.augment, rng) for pick in picks[: settings.pairs]]
    return plans + again


def draw_batch(plans: Sequence[Plan], settings: TrainSettings, step: int) -> Image:
    """The views (N, size, size, 3) of a step, with disturbed pixels."""
    rng = random_of(settings, step, 1)
    return np.stack([disturb(draw(plan, settings.augment.size), rng) for plan in plans])


def random_of(settings: TrainSettings, step: int, use: int) -> np.random.Generator:
    """Random numbers of a step: 0 for what its views show, 1 for how their pixels are disturbed."""
    return np.random.default_rng([settings.seed, step, use])


def _pick(count: int, seed: int, position: int) -> int:
    epoch, place = divmod(position, count)
    return int(_order(count, seed, epoch)[place])


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, 7, epoch]).permutation(count)


def batches(
    images: Sequence[TrainingImage], settings: TrainSettings, start: int, *, pixels: bool
) -> Iterator[Batch]:
    """Batches in order, made by a thread ahead of the training (OpenCV frees the interpreter meanwhile)."""
    ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=4)
    stop = threading.Event()

    def work() -> None:
        try:
            for step in range(start, settings.steps):
                plans = plan_batch(images, settings, step)
                item = (step, plans, draw_batch(plans, settings, step) if pixels else None)
                while not stop.is_set():
                    try:
                        ready.put(item, timeout=0.5)
                        break
                    except queue.Full:
                        continue
                if stop.is_set():
                    return
        except Exception as exc:
            ready.put(exc)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in range(start, settings.steps):
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
