"""Training and cross-validation of event models on clips whose features are known."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.temporal import (
    GRID_CHANNELS,
    GRID_COLUMNS,
    GRID_ROWS,
    EventModel,
    EventModelConfig,
    look,
    valid_steps,
)

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainSettings:
    """How an event model is trained.

    `max_epochs` rounds over the clips, ended when the held-out loss has not fallen for `patience` rounds.
    `held_out` is the share of groups kept for that. `frame_weight` is the share of the loss that looks at
    single frames instead of the clip's mean. `speed` and `gain` are factors, drawn up to both ways; `crop`
    is the least share of a clip that is kept.
    """

    max_epochs: int = 60
    patience: int = 12
    held_out: float = 0.2
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    frame_weight: float = 0.3
    speed: float = 1.25
    gain: float = 1.3
    crop: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"max_epochs and batch_size must be at least 1, got {self.max_epochs}, {self.batch_size}"
            )
        if not 0 < self.crop <= 1 or self.speed < 1 or self.gain < 1:
            raise ValueError(
                f"crop is in 0..1, speed and gain are at least 1, got {self.crop}, {self.speed}, {self.gain}"
            )


@dataclass(frozen=True)
class Trained:
    """A model and how it came about; losses are (epochs,) of training and held-out clips."""

    model: EventModel
    train_loss: list[float]
    held_loss: list[float]
    best_epoch: int
    held_accuracy: float | None
    num_clips: dict[str, int] = field(default_factory=dict)


def train_events(
    features: Sequence[Features],
    labels: Sequence[str | None],
    groups: Sequence[str],
    config: EventModelConfig,
    settings: TrainSettings | None = None,
) -> Trained:
    """Train on clips, each of one label or none throughout.

    Args:
        features: per clip the frame embeddings, (T, D) at `config.sample_fps`.
        labels: per clip one of `config.labels`, or None.
        groups: per clip its source; no source is both trained on and held out.
        config: the model to build.
        settings: how; None takes the defaults.

    Raises:
        ValueError: nothing to learn from: no clips, lengths differ, a label is unknown or has no clip.
    """
    settings = settings or TrainSettings()
    targets = _targets(features, labels, groups, config)
    random = np.random.default_rng(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        held = _held_out(groups, targets, settings.held_out, random)
        return _fit(list(features), targets, held, config, settings, random)


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


def _fit(
    features: list[Features],
    targets: Tensor,
    held: npt.NDArray[np.bool_],
    config: EventModelConfig,
    settings: TrainSettings,
    random: np.random.Generator,
) -> Trained:
    inside, outside = np.flatnonzero(~held), np.flatnonzero(held)
    clips, lengths = pad([features[i] for i in inside])
    model = EventModel(config, look(config.parts, clips[:1, :1]).shape[-1])
    model.standardise_by(clips, lengths)
    optimiser = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    weight = _balance(targets[inside])
    train_loss: list[float] = []
    held_loss: list[float] = []
    best, best_epoch = copy.deepcopy(model.state_dict()), 0
    for epoch in range(settings.max_epochs):
        batches = _batches(inside, settings.batch_size, random)
        train_loss.append(_epoch(model, optimiser, batches, features, targets, weight, settings, random))
        held_loss.append(_evaluate(model, features, targets, outside, weight, settings))
        if not len(outside) or held_loss[-1] <= min(held_loss):
            best, best_epoch = copy.deepcopy(model.state_dict()), epoch
        if epoch - best_epoch >= settings.patience:
            break
    model.load_state_dict(best)
    model.eval()
    accuracy = None
    if len(outside):
        hits = decide(clip_scores(model, [features[i] for i in outside])) == decide(targets[outside].numpy())
        accuracy = float(hits.mean())
    counts = {name: int(n) for name, n in zip(config.labels, targets.sum(dim=0).tolist(), strict=True)}
    return Trained(
        model,
        train_loss,
        held_loss,
        best_epoch,
        accuracy,
        {**counts, "none": int((targets.sum(1) == 0).sum())},
    )


def _epoch(
    model: EventModel,
    optimiser: torch.optim.Optimizer,
    batches: list[npt.NDArray[np.int64]],
    features: list[Features],
    targets: Tensor,
    weight: Tensor,
    settings: TrainSettings,
    random: np.random.Generator,
) -> float:
    """One round over the clips; the mean loss."""
    losses = []
    model.train()
    for batch in batches:
        clips, lengths = pad([augment(features[i], model.config, settings, random) for i in batch])
        loss = _loss(model(clips, lengths), lengths, targets[batch], weight, settings.frame_weight)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses))


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


@torch.no_grad()
def _evaluate(
    model: EventModel,
    features: list[Features],
    targets: Tensor,
    indices: npt.NDArray[np.int64],
    weight: Tensor,
    settings: TrainSettings,
) -> float:
    if not len(indices):
        return float("nan")
    model.eval()
    clips, lengths = pad([features[i] for i in indices])
    return _loss(model(clips, lengths), lengths, targets[indices], weight, settings.frame_weight).item()


def pad(clips: Sequence[Features]) -> tuple[Tensor, Tensor]:
    """Clips of different lengths as (B, T, D), zeros after the end, and their lengths (B,)."""
    lengths = torch.tensor([len(clip) for clip in clips])
    padded = torch.zeros(len(clips), int(lengths.max()), clips[0].shape[1])
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return padded, lengths


def augment(
    clip: Features, config: EventModelConfig, settings: TrainSettings, random: np.random.Generator
) -> Features:
    """A stretch of the clip, played slower or faster, its motion stronger or weaker, maybe mirrored.

    Only motion grids are mirrored; how the CNN's numbers change when a picture is mirrored is not known.
    """
    speed = settings.speed ** random.uniform(-1, 1)
    length = max(2, round(len(clip) * random.uniform(settings.crop, 1)))
    begin = random.integers(0, max(1, len(clip) - length + 1))
    clip = clip[begin : begin + length]
    times = np.linspace(0, len(clip) - 1, max(2, round(len(clip) / speed)))
    low = np.minimum(times.astype(int), len(clip) - 2) if len(clip) > 1 else np.zeros(len(times), int)
    high = np.minimum(low + 1, len(clip) - 1)
    share = (times - low)[:, None].astype(np.float32)
    clip = clip[low] * (1 - share) + clip[high] * share
    factor = speed * settings.gain ** random.uniform(-1, 1)
    mirrored = random.random() < 0.5
    for part in config.parts:
        if part.view == "changes":
            cnn = clip[:, part.start : part.stop]
            mean = cnn.mean(axis=0)
            clip[:, part.start : part.stop] = mean + (cnn - mean) * np.float32(factor / speed)
        elif part.view != "plain":
            grid = clip[:, part.start : part.stop].reshape(len(clip), GRID_ROWS, GRID_COLUMNS, GRID_CHANNELS)
            grid = (grid[:, :, ::-1] if mirrored else grid) * np.float32(factor)
            clip[:, part.start : part.stop] = grid.reshape(len(clip), -1)
    return clip


@torch.no_grad()
def clip_scores(model: EventModel, clips: Sequence[Features]) -> npt.NDArray[np.float32]:
    """Mean of the frames' scores of each clip, (clips, labels) in 0..1."""
    padded, lengths = pad(clips)
    scores = torch.sigmoid(model.eval()(padded, lengths))
    valid = valid_steps(lengths, padded.shape[1])[..., None]
    means: npt.NDArray[np.float32] = ((scores * valid).sum(dim=1) / lengths[:, None]).numpy()
    return means


def decide(scores: npt.NDArray[np.float32], threshold: float = 0.5) -> npt.NDArray[np.int64]:
    """Number of the highest label of each clip, (clips,) from (clips, labels); -1 below the threshold."""
    return np.where(scores.max(axis=1) >= threshold, scores.argmax(axis=1), -1)


def grouped_folds(groups: Sequence[str], num_folds: int, seed: int) -> list[npt.NDArray[np.bool_]]:
    """Masks (clips,) of the test clips of each fold: whole groups, about equally many clips.

    Groups are dealt out in order of size, equal ones by chance, each to the smallest fold.
    """
    names, counts = np.unique(np.asarray(groups), return_counts=True)
    if len(names) < num_folds:
        raise ValueError(f"{num_folds} folds need as many groups, there are {len(names)}")
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(names)), -counts))
    folds: list[list[str]] = [[] for _ in range(num_folds)]
    sizes = np.zeros(num_folds)
    for n in order:
        # Of folds that are about equally full, any will do: so that seeds give different folds.
        smallest = int(np.argmin(sizes + random.uniform(0, 3, num_folds)))
        folds[smallest].append(str(names[n]))
        sizes[smallest] += counts[n]
    return [np.isin(np.asarray(groups), fold) for fold in folds]


def cross_validate(
    features: Sequence[Features],
    labels: Sequence[str | None],
    groups: Sequence[str],
    config: EventModelConfig,
    settings: TrainSettings | None = None,
    num_folds: int = 5,
) -> npt.NDArray[np.float32]:
    """Scores of every clip by a model that has not seen its group, (clips, labels). Folds by the seed."""
    settings = settings or TrainSettings()
    scores = np.zeros((len(features), len(config.labels)), np.float32)
    for test in grouped_folds(groups, num_folds, settings.seed):
        train = np.flatnonzero(~test).tolist()
        trained = train_events(
            [features[i] for i in train],
            [labels[i] for i in train],
            [groups[i] for i in train],
            config,
            settings,
        )
        scores[test] = clip_scores(trained.model, [features[i] for i in np.flatnonzero(test).tolist()])
    return scores
