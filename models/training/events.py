"""Training of event models on clips whose features are known."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.checkpoint import CheckpointError, load, save
from models.event_config import EventModelConfig
from models.event_network import look
from models.temporal import EventModel, valid_steps
from models.training.clips import Features, augment, clip_scores, decide, joined_windows, pad
from models.training.event_settings import TrainSettings

_STATE = "event training"


@dataclass(frozen=True)
class Trained:
    """A model and how it came about; losses are (epochs,) of training and held-out clips.

    `held` are the numbers of the clips that were held out to decide when to stop.
    """

    model: EventModel
    train_loss: list[float]
    held_loss: list[float]
    best_epoch: int
    held_accuracy: float | None
    num_clips: dict[str, int] = field(default_factory=dict)
    held: tuple[int, ...] = ()


def train_events(
    features: Sequence[Features],
    labels: Sequence[str | None],
    groups: Sequence[str],
    config: EventModelConfig,
    settings: TrainSettings | None = None,
    state: Path | None = None,
) -> Trained:
    """Train on clips, each of one label or none throughout.

    Args:
        features: per clip the frame embeddings, (T, D) at `config.sample_fps`.
        labels: per clip one of `config.labels`, or None.
        groups: per clip its source; no source is both trained on and held out.
        config: the model to build.
        settings: how; None takes the defaults.
        state: file that is written after every round. A later call with the same clips, model and settings
            goes on from it and ends with the same weights; of another training it is written anew.

    Raises:
        ValueError: nothing to learn from: no clips, lengths differ, a label is unknown or has no clip.
    """
    settings = settings or TrainSettings()
    targets = _targets(features, labels, groups, config)
    held = _held_out(groups, targets, settings.held_out, np.random.default_rng(settings.seed))
    fit = _Fit(list(features), targets, held, config, settings)
    known = _fingerprint(features, labels, groups, config, settings) if state is not None else ""
    with torch.random.fork_rng(devices=[]):
        fit.resume(state, known)
        while not fit.ended:
            fit.epoch()
            fit.save(state, known)
    return fit.result()


def _targets(
    features: Sequence[Features],
    labels: Sequence[str | None],
    groups: Sequence[str],
    config: EventModelConfig,
) -> Tensor:
    """(clips, labels), 1 where the clip has the label."""
    if not len(features) == len(labels) == len(groups):
        raise ValueError(f"{len(features)} features, {len(labels)} labels and {len(groups)} groups")
    unknown = {label for label in labels if label is not None} - set(config.labels)
    if unknown:
        raise ValueError(f"labels {sorted(unknown)} are not among the model's {config.labels}")
    targets = torch.tensor([[float(label == name) for name in config.labels] for label in labels])
    if not len(targets) or bool((targets.sum(dim=0) == 0).any()) or bool((targets == 1).all()):
        raise ValueError(f"every label of {config.labels} needs clips with it and clips without it")
    return targets


def _held_out(
    groups: Sequence[str], targets: Tensor, share: float, random: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Whole groups, about `share` of the clips; none where what is left would lack a label."""
    names = random.permutation(sorted(set(groups)))
    held = np.zeros(len(groups), bool)
    for name in names:
        more = held | (np.asarray(groups) == name)
        rest = targets[torch.from_numpy(~more)]
        complete = len(rest) > 0 and bool(((rest.sum(dim=0) > 0) & (rest.sum(dim=0) < len(rest))).all())
        if more.mean() <= share and complete:
            held = more
    return held


def _fingerprint(
    features: Sequence[Features],
    labels: Sequence[str | None],
    groups: Sequence[str],
    config: EventModelConfig,
    settings: TrainSettings,
) -> str:
    """Digest of all that decides the weights."""
    sha = hashlib.sha256()
    for clip in features:
        sha.update(np.ascontiguousarray(clip).tobytes())
    told = [list(labels), list(groups), config.to_json(), asdict(settings)]
    sha.update(json.dumps(told, sort_keys=True).encode())
    return sha.hexdigest()


class _Fit:
    """A training between two rounds. What a round sees depends on the seed and its number alone."""

    def __init__(
        self,
        features: list[Features],
        targets: Tensor,
        held: npt.NDArray[np.bool_],
        config: EventModelConfig,
        settings: TrainSettings,
    ) -> None:
        self._features, self._targets, self._settings = features, targets, settings
        self._inside, self._outside = np.flatnonzero(~held), np.flatnonzero(held)
        clips, lengths = pad([features[i] for i in self._inside])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self._model = EventModel(config, look(config.parts, clips[:1, :1].numpy()).shape[-1])
        self._model.standardise_by(clips, lengths)
        self._optimiser = torch.optim.AdamW(
            self._model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._weight = _balance(targets[self._inside])
        self._best, self._best_epoch = copy.deepcopy(self._model.state_dict()), 0
        self._train_loss: list[float] = []
        self._held_loss: list[float] = []

    @property
    def ended(self) -> bool:
        done = len(self._train_loss)
        return done >= self._settings.max_epochs or done - 1 - self._best_epoch >= self._settings.patience

    def epoch(self) -> None:
        """One round over the clips."""
        number = len(self._train_loss)
        random = np.random.default_rng([self._settings.seed, number])
        torch.manual_seed(int(random.integers(2**31)))
        losses = []
        self._model.train()
        for batch in _batches(self._inside, self._settings.batch_size, random):
            loss = self._batch_loss([self._features[i] for i in batch], self._targets[batch], random)
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            self._optimiser.step()
            losses.append(loss.item())
        self._train_loss.append(float(np.mean(losses)))
        self._held_loss.append(self._held())
        if not len(self._outside) or self._held_loss[-1] <= min(self._held_loss):
            self._best, self._best_epoch = copy.deepcopy(self._model.state_dict()), number

    def _batch_loss(self, batch: list[Features], targets: Tensor, random: np.random.Generator) -> Tensor:
        settings, config = self._settings, self._model.config
        clips, lengths = pad([augment(clip, config, settings, random) for clip in batch])
        loss = _loss(self._model(clips, lengths), lengths, targets, self._weight, settings.frame_weight)
        if settings.joined:
            windows, present = joined_windows(batch, targets, config, settings, random)
            loss = loss + settings.joined * _window_loss(self._model, windows, present, self._weight)
        return loss

    @torch.no_grad()
    def _held(self) -> float:
        """Loss of the clips that were held out."""
        if not len(self._outside):
            return float("nan")
        self._model.eval()
        clips, lengths = pad([self._features[i] for i in self._outside])
        logits, targets = self._model(clips, lengths), self._targets[self._outside]
        return _loss(logits, lengths, targets, self._weight, self._settings.frame_weight).item()

    def result(self) -> Trained:
        """The best round's model."""
        self._model.load_state_dict(self._best)
        self._model.eval()
        targets, names, accuracy = self._targets, self._model.config.labels, None
        if len(self._outside):
            scores = clip_scores(self._model, [self._features[i] for i in self._outside])
            accuracy = float((decide(scores) == decide(targets[self._outside].numpy())).mean())
        counts = {name: int(n) for name, n in zip(names, targets.sum(dim=0).tolist(), strict=True)}
        counts["none"] = int((targets.sum(dim=1) == 0).sum())
        held = tuple(self._outside.tolist())
        return Trained(
            self._model, self._train_loss, self._held_loss, self._best_epoch, accuracy, counts, held
        )

    def save(self, path: Path | None, fingerprint: str) -> None:
        if path is None:
            return
        tensors = {f"net.{key}": value for key, value in self._model.state_dict().items()}
        tensors |= {f"best.{key}": value for key, value in self._best.items()}
        for name, parameter in self._model.named_parameters():
            state = self._optimiser.state[parameter]
            tensors |= {f"optimiser.{name}.{key}": torch.as_tensor(value) for key, value in state.items()}
        told = {
            "kind": _STATE,
            "of": fingerprint,
            "best_epoch": self._best_epoch,
            "train_loss": self._train_loss,
            "held_loss": self._held_loss,
        }
        save(path, tensors, told)

    def resume(self, path: Path | None, fingerprint: str) -> None:
        """Go on where this training was left, if it was."""
        try:
            tensors, told = load(path, _STATE) if path is not None else ({}, {})
        except CheckpointError:  # not there, or not whole
            return
        if told.get("of") != fingerprint or not tensors:
            return
        self._model.load_state_dict(_below("net.", tensors))
        self._best = _below("best.", tensors)
        for name, parameter in self._model.named_parameters():
            self._optimiser.state[parameter] = _below(f"optimiser.{name}.", tensors)
        self._best_epoch = told["best_epoch"]
        self._train_loss, self._held_loss = told["train_loss"], told["held_loss"]


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _window_loss(model: EventModel, windows: Tensor, present: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of the frames in the middle half: of those the detector takes a window's scores."""
    steps = windows.shape[1]
    middle = slice(steps // 4, steps - steps // 4)
    logits = model(windows, torch.full((len(windows),), steps))
    return nn.functional.binary_cross_entropy_with_logits(
        logits[:, middle], present[:, middle], pos_weight=weight
    )


def _batches(
    indices: npt.NDArray[np.int64], size: int, random: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    order = random.permutation(indices)
    return np.array_split(order, max(1, round(len(order) / size)))


def _balance(targets: Tensor) -> Tensor:
    """Weight of a present label, (labels,): how much rarer it is than its absence."""
    share = targets.mean(dim=0).clamp(0.02, 0.98)
    return (1 - share) / share


def _loss(logits: Tensor, lengths: Tensor, targets: Tensor, weight: Tensor, frame_weight: float) -> Tensor:
    """Cross-entropy of the clips' mean logits and, with `frame_weight`, of every frame's."""
    valid = valid_steps(lengths, logits.shape[1])[..., None]  # (B, T, 1)
    mean = (logits * valid).sum(dim=1) / lengths[:, None]  # (B, labels)
    clip = nn.functional.binary_cross_entropy_with_logits(mean, targets, pos_weight=weight)
    every = nn.functional.binary_cross_entropy_with_logits(
        logits, targets[:, None].expand_as(logits), pos_weight=weight, reduction="none"
    )
    frame = (every * valid).sum() / (valid.sum() * logits.shape[2])
    return (1 - frame_weight) * clip + frame_weight * frame
