"""Clips as training sees them: padded, augmented, joined; and what a model says of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.event_config import GRID_CHANNELS, GRID_COLUMNS, GRID_ROWS, EventModelConfig
from models.temporal import EventModel, valid_steps
from models.training.event_settings import TrainSettings

Features = npt.NDArray[np.float32]
"""Frame embeddings of a clip, (T, D)."""


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


def joined_windows(
    features: Sequence[Features],
    targets: Tensor,
    config: EventModelConfig,
    settings: TrainSettings,
    random: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Windows cut anywhere from clips joined at random, without a cut to be seen.

    Returns:
        As many windows as there are clips, (B, T, D), and which labels are present in each frame,
        (B, T, labels) of `targets` (B, labels).
    """
    steps = round(config.window_s * config.sample_fps)
    windows, present = [], []
    for _ in features:
        parts: list[Features] = []
        rows: list[Tensor] = []
        while sum(map(len, parts)) < 2 * steps:
            n = int(random.integers(len(features)))
            clip = augment(features[n], config, settings, random)
            if parts:
                _go_on(clip, parts[-1][-1], config)
            parts.append(clip)
            rows.append(targets[n].expand(len(parts[-1]), -1))
        begin = int(random.integers(0, steps))
        windows.append(torch.from_numpy(np.concatenate(parts)[begin : begin + steps]))
        present.append(torch.cat(rows)[begin : begin + steps])
    return torch.stack(windows), torch.stack(present)


def _go_on(clip: Features, before: Features, config: EventModelConfig) -> None:
    """Let a clip go on from the frame before it, (D,), as if one camera had taken both.

    Where the picture becomes another a model begins anew, so what it has to find by itself are events that
    begin and end within a shot.
    """
    for part in config.parts:
        own = slice(part.start, part.stop)
        if part.view == "changes":
            clip[:, own] += before[own] - clip[0, own]
        elif part.view != "plain":
            clip[0, own] = clip[min(1, len(clip) - 1), own]  # a clip's first frame has no motion


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
