"""Cross-validation of the event model, whole sources at a time. Prints Markdown.

    python -m bench.events --data CLIPS --work FOLDER

CLIPS is a folder of `train/LABEL/*.mp4` and `val/LABEL/*.mp4`, with groups.csv. Each fold's clips are scored
one by one, and joined into untrimmed videos (`bench/events/join.py`), in which events are found as `marey
analyze` finds them, from a score of 0.5. Joined videos and what the CNN says of them stay in FOLDER, where a
second run finds them again.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from bench.events.join import join_all
from models.event_config import EventModelConfig
from models.event_network import EventNetwork
from models.files import file_digest, weights_path
from models.temporal import EventModel, network_of
from models.training.clips import Features, clip_scores, decide
from models.training.event_settings import TrainSettings
from models.training.events import train_events
from models.training.folds import grouped_folds
from pipeline.config import EventsConfig
from pipeline.evaluate.events import FoundEvent, TrueEvent, mean_average_precision
from pipeline.event_data import (
    Annotated,
    Clip,
    Embed,
    Embedded,
    clip_features,
    load_annotated,
    load_clips,
    video_features,
)
from pipeline.training_events import LOOKS, embed_for, found_events

NETS: dict[str, tuple[EventModelConfig, float]] = {
    "GRU (shipped)": (EventModelConfig(("",), parts=LOOKS), 1.0),
    "average": (EventModelConfig(("",), parts=LOOKS, cell="mean"), 1.0),
    "average, window 2 s": (EventModelConfig(("",), parts=LOOKS, cell="mean", window_s=2.0), 1.0),
    "GRU, single clips alone": (EventModelConfig(("",), parts=LOOKS), 0.0),
    "LSTM": (EventModelConfig(("",), parts=LOOKS, cell="lstm"), 1.0),
    "RNN": (EventModelConfig(("",), parts=LOOKS, cell="rnn"), 1.0),
}
"""By name the model and the weight of windows joined from clips in its training."""

NUM_FOLDS = 5
EPOCHS = 20  # of the shipped weights, which are trained without a held-out part
DRAWS = 200
Means = dict[str, float]


@dataclass(frozen=True)
class Joined:
    """Untrimmed videos and what the CNN says of them."""

    videos: Annotated
    embedded: list[Embedded]


@dataclass(frozen=True)
class Fold:
    """A fold of one seed: which clips are in it, and the untrimmed videos made of them."""

    seed: int
    test: list[int]
    train: list[int]
    joined: Joined | None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.events")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-events"))
    parser.add_argument("--seeds", type=int, default=3, help="of the folds and the weights")
    parser.add_argument("--joined", type=int, default=3, help="seeds of whose folds videos are joined")
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=[*NETS], default=[*NETS])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    embed, digest = embed_for(LOOKS)
    clips = [clip for split in ("train", "val") for clip in load_clips(asked.data / split)]
    asked.work.mkdir(parents=True, exist_ok=True)
    features = [x for _, x in clip_features(clips, embed, asked.work / "clips.npz", digest)]
    folds = []
    for seed in range(asked.seeds):
        videos = _joiner(clips, seed, asked.work, embed, digest) if seed < asked.joined else None
        folds += _folds(clips, seed, videos)
    accuracies: dict[str, list[float]] = {}
    means: dict[str, list[list[Means]]] = {}
    for name in asked.only:
        config, joined = NETS[name]
        hits: dict[int, list[bool]] = defaultdict(list)
        found: dict[int, list[Means]] = defaultdict(list)
        for fold in folds:
            model = _trained(clips, features, fold, config, joined)
            hits[fold.seed] += _hits(clips, features, fold, model)
            if fold.joined is not None:
                found[fold.seed].append(_precision(fold.joined, network_of(model)))
            print(f"{name}, seed {fold.seed}: {found[fold.seed][-1:]}", file=sys.stderr)
        accuracies[name] = [float(np.mean(hits[seed])) for seed in range(asked.seeds)]
        print(f"{name}: {_spread(accuracies[name])} of clips", file=sys.stderr)
        means[name] = [of_seed for of_seed in found.values() if of_seed]
    means |= _without_a_model([fold.joined for fold in folds if fold.joined is not None])
    _print(len(clips), folds, accuracies, means)


def _joiner(
    clips: Sequence[Clip], seed: int, work: Path, embed: Embed, digest: str
) -> Callable[[int, list[int]], Joined]:
    def join(number: int, test: list[int]) -> Joined:
        folder = work / f"seed-{seed}-fold-{number}"
        table = join_all([clips[n] for n in test], folder, NUM_FOLDS * seed + number)
        videos = load_annotated(table)
        embedded = video_features(videos, embed, folder / "features.npz", digest)
        print(f"seed {seed}, fold {number}: {len(embedded)} videos joined and perceived", file=sys.stderr)
        return Joined(videos, embedded)

    return join


def _folds(clips: Sequence[Clip], seed: int, join: Callable[[int, list[int]], Joined] | None) -> list[Fold]:
    folds = []
    for number, mask in enumerate(grouped_folds([clip.group for clip in clips], NUM_FOLDS, seed)):
        test, train = np.flatnonzero(mask).tolist(), np.flatnonzero(~mask).tolist()
        folds.append(Fold(seed, test, train, join(number, test) if join else None))
    return folds


def _trained(
    clips: Sequence[Clip], features: Sequence[Features], fold: Fold, config: EventModelConfig, joined: float
) -> EventModel:
    inside = [clips[n] for n in fold.train]
    labels = [clip.label for clip in inside]
    names = tuple(sorted({label for label in labels if label is not None}))
    return train_events(
        [features[n] for n in fold.train],
        labels,
        [clip.group for clip in inside],
        replace(config, labels=names),
        TrainSettings(max_epochs=EPOCHS, held_out=0, joined=joined, seed=fold.seed),
    ).model


def _hits(clips: Sequence[Clip], features: Sequence[Features], fold: Fold, model: EventModel) -> list[bool]:
    names = (*model.config.labels, None)  # of -1: the last
    chosen = decide(clip_scores(model, [features[n] for n in fold.test]))
    return [names[best] == clips[n].label for best, n in zip(chosen, fold.test, strict=True)]


def _precision(joined: Joined, model: EventNetwork) -> Means:
    settings = EventsConfig(min_score=0.5)
    found = [
        event
        for video, embedded in zip(joined.videos.videos, joined.embedded, strict=True)
        for event in found_events(model, settings, str(video), embedded)
    ]
    return mean_average_precision(joined.videos.events, found)


def _without_a_model(folds: Sequence[Joined]) -> dict[str, list[list[Means]]]:
    """What is reached by calling every video one event, and by events of true lengths anywhere."""
    random = np.random.default_rng(0)
    whole, chance = [], []
    for fold in folds:
        truth = fold.videos.events
        ends = {str(v): float(t[-1]) for v, (t, _) in zip(fold.videos.videos, fold.embedded, strict=True)}
        labels = sorted({event.label for event in truth})
        every = [FoundEvent(v, label, 0.0, end, 1.0) for v, end in ends.items() for label in labels]
        whole.append(mean_average_precision(truth, every))
        draws = [mean_average_precision(truth, _anywhere(truth, ends, random)) for _ in range(DRAWS)]
        chance.append({key: float(np.mean([draw[key] for draw in draws])) for key in draws[0]})
    return {"the whole video": _by_seed(whole), "chance": _by_seed(chance)}


def _by_seed(folds: list[Means]) -> list[list[Means]]:
    return [folds[n : n + NUM_FOLDS] for n in range(0, len(folds), NUM_FOLDS)]


def _anywhere(
    truth: Sequence[TrueEvent], ends: dict[str, float], random: np.random.Generator
) -> list[FoundEvent]:
    """As many events as there are, of the same lengths, in videos and at times and scores drawn at random."""
    found = []
    for event in truth:
        video, length = str(random.choice(list(ends))), event.t_end - event.t_start
        begin = random.uniform(0, max(0.0, ends[video] - length))
        found.append(FoundEvent(video, event.label, begin, begin + length, random.random()))
    return found


def _print(
    num_clips: int,
    folds: Sequence[Fold],
    accuracies: dict[str, list[float]],
    means: dict[str, list[list[Means]]],
) -> None:
    detector = file_digest(weights_path("detector"))
    joined = [fold.joined for fold in folds if fold.joined is not None]
    videos = sum(len(one.videos.videos) for one in joined)
    events = sum(len(one.videos.events) for one in joined)
    seeds = len(folds) // NUM_FOLDS
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores {platform.machine()}, "
        f"torch {torch.__version__}, behind the detector {detector[:12]}:\n"
        f"{num_clips} clips, {NUM_FOLDS} folds of whole sources, "
        f"{seeds} seeds; {videos} videos joined from the folds of {len(joined) // NUM_FOLDS}, "
        f"with {events} events. "
        "Mean ± standard deviation over seeds, in %; in brackets each fold."
    )
    print("\n| | accuracy of clips | mAP at tIoU 0.3 | 0.5 | 0.7 |\n|---|---|---|---|---|")
    for name, by_seed in means.items():
        accuracy = _spread(accuracies[name]) if name in accuracies else "--"
        columns = [_columns(by_seed, f"map_{limit}") for limit in (0.3, 0.5, 0.7)]
        print(f"| {name} | {accuracy} | {' | '.join(columns)} |")


def _columns(by_seed: Sequence[Sequence[Means]], key: str) -> str:
    if not by_seed:
        return "--"
    every = ", ".join(f"{100 * fold[key]:.0f}" for folds in by_seed for fold in folds)
    return f"{_spread([float(np.mean([fold[key] for fold in folds])) for folds in by_seed])} ({every})"


def _spread(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values):.1f}"


if __name__ == "__main__":
    main()
