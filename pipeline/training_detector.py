"""`marey train detector`: data, start and settings of a stretch of training."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError


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
    device: str = "cpu"
    threads: int = 0
    seed: int = 0


def train(job: DetectorJob, say: Callable[[str], None]) -> Path:
    """Train; returns the weights' path.

    The classes are those of the starting weights if the data has one of them, else the data's own.

    Raises:
        UsageError: data or settings cannot be used.
    """
    import torch

    from models.checkpoint import load_detector, weights_path
    from models.detector import DetectorConfig
    from models.training.augment import AugmentSettings
    from models.training.coco import load_images, read_json
    from models.training.detector import Progress, TrainSettings, new_detector, train_detector

    if job.threads:
        torch.set_num_threads(job.threads)
    try:
        settings = TrainSettings(
            steps=job.steps,
            batch=job.batch,
            pairs=min(3, job.batch // 4),
            learning_rate=job.learning_rate,
            warmup=min(200, job.steps // 5),
            seed=job.seed,
            augment=AugmentSettings(size=job.size),
        )
        start = None if job.start == "imagenet" else weights_path("detector" if job.start == "default" else job.start)
        known = load_detector(start).config if start else DetectorConfig()
        names = [c["name"] for path, _ in job.data for c in read_json(path)["categories"]]
        classes = known.classes if set(names) & set(known.classes) else tuple(dict.fromkeys(names))
        images = []
        for number, (path, folder) in enumerate(job.data):
            hints = read_json(job.teacher) if job.teacher and number == 0 else None
            images += load_images(path, folder, classes, skip_kinds=job.skip_kinds, teacher=hints)
        torch.manual_seed(job.seed)
        detector = new_detector(DetectorConfig(classes=classes), start)
    except (OSError, ValueError, KeyError) as exc:
        raise UsageError(f"training cannot begin: {exc}") from exc
    say(f"{len(images)} images, classes {', '.join(classes)}, from {job.start}")
    last = 0.0

    def progress(p: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > 10 or p.step == p.steps:
            last = time.monotonic()
            losses = ", ".join(f"{k} {v:.3f}" for k, v in p.losses.items())
            say(f"step {p.step}/{p.steps}, {p.images_per_s:.1f} images/s, {p.eta_s / 60:.0f} min left: {losses}")

    return train_detector(images, detector, job.out, settings, device=job.device, on_progress=progress)
