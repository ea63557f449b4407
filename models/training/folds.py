"""Cross-validation of event models by whole groups of clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.event_config import EventModelConfig
from models.training.clips import Features, clip_scores
from models.training.event_settings import TrainSettings
from models.training.events import train_events


def grouped_folds(groups: Sequence[str], num_folds: int, seed: int) -> list[npt.NDArray[np.bool_]]:
    """Masks (clips,) of the test clips of each fold: whole groups, about equally many clips.

    Groups are dealt out in order of size, equal ones by chance, each to the smallest fold; none stays empty.
    """
    names, counts = np.unique(np.asarray(groups), return_counts=True)
    if len(names) < num_folds:
        raise ValueError(
            f"{num_folds} folds need as many groups, there are {len(names)}: give fewer --folds, 0 for none"
        )
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(names)), -counts))
    folds: list[list[str]] = [[] for _ in range(num_folds)]
    sizes = np.zeros(num_folds)
    for done, n in enumerate(order):
        # Of folds that are about equally full, any will do: so that seeds give different folds.
        full = sizes + random.uniform(0, 3, num_folds)
        if len(order) - done <= np.count_nonzero(sizes == 0):  # else a fold would have no clip to test
            full[sizes > 0] = np.inf
        smallest = int(np.argmin(full))
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
    state: Path | None = None,
) -> npt.NDArray[np.float32]:
    """Scores of every clip by a model that has not seen its group, (clips, labels). Folds by the seed.

    `state` is a folder for the states of the folds' trainings, see `train_events`: a later call goes on.

    Raises:
        ValueError: fewer groups than folds, or nothing is left to learn a label from when a fold is held out.
    """
    settings = settings or TrainSettings()
    folds = grouped_folds(groups, num_folds, settings.seed)
    _check_folds(folds, labels, groups)
    scores = np.zeros((len(features), len(config.labels)), np.float32)
    for number, test in enumerate(folds):
        train = np.flatnonzero(~test).tolist()
        trained = train_events(
            [features[i] for i in train],
            [labels[i] for i in train],
            [groups[i] for i in train],
            config,
            settings,
            state / f"fold-{number}.safetensors" if state else None,
        )
        scores[test] = clip_scores(trained.model, [features[i] for i in np.flatnonzero(test).tolist()])
    return scores


def _check_folds(
    folds: Sequence[npt.NDArray[np.bool_]], labels: Sequence[str | None], groups: Sequence[str]
) -> None:
    """What every fold's training needs: clips of each label, and clips without it."""
    for name in sorted({label for label in labels if label is not None}):
        present = np.array([label == name for label in labels])
        for what, clips in ((f"of {name}", present), (f"without {name}", ~present)):
            if clips.any() and any((test >= clips).all() for test in folds):
                sources = sorted({group for group, one in zip(groups, clips, strict=True) if one})
                raise ValueError(
                    f"cross-validation holds out whole sources, and with {', '.join(sources)} all clips "
                    f"{what}: add some of other sources, or leave it out with --folds 0"
                )
