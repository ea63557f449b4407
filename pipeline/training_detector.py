"""`marey train detector`: data, start and settings of a stretch of training."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.checkpoint import load_detector
from models.cores import usable_cores
from models.detector import DetectorConfig
from models.precision import best_for_training
from models.runtime import refusal
from models.training.augment import AugmentSettings
from models.training.coco import TrainingImage, load_images, read_coco, read_json
from models.training.detector import Progress, new_detector, train_detector
from models.training.detector_settings import TrainSettings
from pipeline.errors import UsageError
from pipeline.weights import weights_path

_TELL_EVERY_S = 10.0


@dataclass(frozen=True)
class DetectorJob:
    """One stretch of training; see `models.training.detector.TrainSettings` for what is not set here."""

    data: tuple[tuple[Path, Path], ...]  # COCO file, folder of its images
    out: Path
    start: str = "default"  # default, imagenet or a path
    steps: int = 2000
    batch: int = 16
    size: int = 256
    learning_rate: float = 2e-3
    teacher: Path | None = None  # for the first of `data`
    skip_kinds: tuple[str, ...] = ()
    repeat_kinds: tuple[tuple[str, int], ...] = ()  # kind, how often its images are seen for once of others
    repeat_classes: tuple[tuple[str, int], ...] = ()  # class, the same for images that show one
    device: str = "cpu"
    threads: int = 0
    seed: int = 0


def train(job: DetectorJob, say: Callable[[str], None]) -> Path:
    """Train, or go on with the training that `job.out` holds; returns the weights' path.

    Raises:
        UsageError: data or settings cannot be used, `job.out` holds a training with others, or the device has
            too little memory; checkpoints stay.
    """
    try:
        settings, start = _settings(job), _start(job)
        classes = _classes(job, start)
        images = _images(job, classes)
        torch.set_num_threads(job.threads or min(torch.get_num_threads(), usable_cores()))
        torch.manual_seed(job.seed)
        detector = new_detector(DetectorConfig(classes=classes), start)
        unknown = _of_nothing(images, classes)
        kept = f"; the data says nothing of {', '.join(unknown)}" if unknown else ""
        say(f"{len(images)} images, classes {', '.join(classes)}, from {job.start}{kept}")
        weights = train_detector(
            images, detector, job.out, settings, device=job.device, on_progress=_teller(say)
        )
        if not draw_losses(job.out / "losses.csv", job.out / "losses.png"):
            say("picture of the losses: none, pip install 'marey[train]'")
        return weights
    except FloatingPointError as exc:
        raise UsageError(f"training failed: {exc}", remedy="try a smaller --learning-rate") from exc
    except torch.OutOfMemoryError as exc:  # also of the pictures, which lie there whole
        raise UsageError(
            f"{job.device} has too little memory for this training; checkpoints in {job.out} stay",
            remedy="free it of other programs, or give fewer pictures, a smaller --batch or --size, or "
            "--device cpu, with another --out",
        ) from exc
    except (OSError, ValueError, KeyError) as exc:
        raise UsageError("training cannot go on", remedy=str(exc)) from exc


def draw_losses(table: Path, picture: Path) -> bool:
    """Plot the losses of a training, and its learning rate, over the steps; a running mean of ten rows.

    Returns:
        False, and nothing is drawn, where matplotlib (extra `train`) is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    with table.open(newline="") as handle:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(handle)]
    names = [name for name in (rows[0] if rows else {}) if name != "step"]
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, name in zip(figure.subplots(2, 4).flat, names, strict=False):
        values = np.array([row[name] for row in rows])
        width = min(10, len(values))
        smooth = np.convolve(values, np.full(width, 1 / width), "valid")
        axes.plot([row["step"] for row in rows][width - 1 :], smooth)
        axes.set(title=name.replace("_", " "), xlabel="step")
    figure.savefig(picture, dpi=100)
    return True


def _settings(job: DetectorJob) -> TrainSettings:
    if job.size <= 0 or job.size % 32:
        raise ValueError(f"--size is a multiple of 32, got {job.size}")
    if why := refusal(job.device):
        raise ValueError(f"--device {job.device}: {why}")
    return TrainSettings(
        steps=job.steps,
        batch=job.batch,
        pairs=min(3, job.batch // 4),
        learning_rate=job.learning_rate,
        warmup=min(200, job.steps // (5 if job.start == "imagenet" else 20)),
        seed=job.seed,
        precision=best_for_training(job.device),
        augment=AugmentSettings(size=job.size),
    )


def _start(job: DetectorJob) -> Path | None:
    """The weights that training begins with; None: those of ImageNet."""
    if job.start == "imagenet":
        return None
    return weights_path("detector" if job.start == "default" else job.start)


def _classes(job: DetectorJob, start: Path | None) -> tuple[str, ...]:
    """The data's own; if one is a class of the starting weights, theirs and behind them the others."""
    known = load_detector(start).config.classes if start else ()
    own = [category["name"] for path, _ in job.data for category in read_coco(path)["categories"]]
    return tuple(dict.fromkeys([*known, *own] if set(known) & set(own) else own))


def _of_nothing(images: Sequence[TrainingImage], classes: Sequence[str]) -> list[str]:
    """Classes without a loss: no image shows one, or is known to show none."""
    return [
        name
        for number, name in enumerate(classes)
        if all(image.masked[number] and number not in image.classes for image in images)
    ]


def _images(job: DetectorJob, classes: tuple[str, ...]) -> list[TrainingImage]:
    images = []
    for number, (path, folder) in enumerate(job.data):
        hints = read_json(job.teacher) if job.teacher and number == 0 else None
        if hints is not None and not isinstance(hints, dict):
            raise ValueError(f"{job.teacher} holds no predictions by the number of the image")
        images += load_images(
            path,
            folder,
            classes,
            skip_kinds=job.skip_kinds,
            repeat_kinds=dict(job.repeat_kinds),
            repeat_classes=dict(job.repeat_classes),
            teacher=hints,
        )
    return images


def _teller(say: Callable[[str], None]) -> Callable[[Progress], None]:
    """A line now and then."""
    last = 0.0

    def tell(p: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > _TELL_EVERY_S or p.step == p.steps:
            last = time.monotonic()
            losses = ", ".join(f"{k} {v:.3f}" for k, v in p.losses.items())
            left = f"{p.images_per_s:.1f} images/s, {p.eta_s / 60:.0f} min left"
            say(f"step {p.step}/{p.steps}, {left}: {losses}")

    return tell
