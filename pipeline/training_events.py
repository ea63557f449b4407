"""`marey train events` and `marey evaluate events`, on folders of clips or on untrimmed videos."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from models.files import file_digest, weights_path
from models.temporal import CHANGES, MOTION, EventModel, EventModelConfig, Part, save_events
from models.training.events import Trained, TrainSettings, cross_validate, decide, train_events
from pipeline.config import EventsConfig, PerceiveConfig
from pipeline.errors import UsageError
from pipeline.evaluate.events import (
    ClipReport,
    FoundEvent,
    clip_report,
    label_of,
    mean_average_precision,
    mean_spotting_precision,
)
from pipeline.event_data import (
    Embed,
    Embedded,
    clip_features,
    examples,
    load_annotated,
    load_clips,
    motion_of,
    perceived_by,
    video_features,
)
from pipeline.events import EventDetector, FrameScorer
from pipeline.perceive import Perceiver

LOOKS = (CHANGES, MOTION)
"""What a model that is trained here looks at."""


def embed_for(parts: tuple[Part, ...], weights: str = "default") -> tuple[Embed, str]:
    """How to embed for a model that looks at these parts, and the digest that stands for it in a cache.

    Motion alone needs no CNN; `weights` are the detector's.

    Raises:
        ModelError: the weights cannot be used.
    """
    if parts == (MOTION,):
        return motion_of, "motion"
    perceiver = Perceiver(PerceiveConfig(weights=weights))
    digest = file_digest(weights_path("detector" if weights == "default" else weights))
    return perceived_by(perceiver), digest


@dataclass(frozen=True)
class EventTraining:
    """What came of training: the model, its report as JSON, and where they were written."""

    trained: Trained
    report: dict[str, object]
    weights: Path
    card: Path


def train_from(
    data: Path,
    output: Path,
    embed: Embed = motion_of,
    *,
    digest: str = "motion",
    config: EventModelConfig | None = None,
    settings: TrainSettings | None = None,
    cache: Path | None = None,
    num_folds: int = 5,
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> EventTraining:
    """Train an event model, cross-validate it, write weights and model card.

    Args:
        data: a folder of clips, see `load_clips`, or a table of events, see `load_annotated`.
        output: .safetensors file; the card is written beside it with the suffix .md.
        embed: gives times and embeddings of a file; the default needs no CNN.
        digest: stands for `embed` in the cache.
        config: model; its labels are replaced by the data's. None takes the default.
        settings: how to train. None takes the default.
        cache: where features are kept between runs.
        num_folds: of the cross-validation, whole groups each; 0 leaves it out.
        command: how this was called, for the card.
        progress: called with the number of clips embedded and in all.

    Raises:
        UsageError: the clips cannot be trained on.
        InputError: a clip cannot be decoded.
    """
    window_s = (config or EventModelConfig(("any",))).window_s
    features, labels, groups = examples(data, window_s, embed, cache, digest, progress)
    names = tuple(sorted({label for label in labels if label is not None}))
    settings = settings or TrainSettings()
    try:
        config = replace(config, labels=names) if config else EventModelConfig(names)
        report: dict[str, object] = {"command": command, "groups": len(set(groups))}
        if num_folds:
            scores = cross_validate(features, labels, groups, config, settings, num_folds)
            found = [names[n] if n >= 0 else None for n in decide(scores)]
            report["cross_validation"] = {"folds": num_folds, **clip_report(labels, found, groups).to_json()}
        trained = train_events(features, labels, groups, config, settings)
    except ValueError as exc:
        raise UsageError(f"{data} cannot be trained on", remedy=str(exc)) from exc
    report |= _report(trained, settings)
    output.parent.mkdir(parents=True, exist_ok=True)
    save_events(output, trained.model)
    card = output.with_suffix(".md")
    card.write_text(_card(output.stem, report), encoding="utf-8")
    return EventTraining(trained, report, output, card)


def _report(trained: Trained, settings: TrainSettings) -> dict[str, object]:
    return {
        "config": trained.model.config.to_json(),
        "settings": asdict(settings),
        "clips": trained.num_clips,
        "epochs": len(trained.train_loss),
        "best_epoch": trained.best_epoch,
        "train_loss": trained.train_loss,
        "held_loss": trained.held_loss,
    }


def _card(name: str, report: dict[str, object]) -> str:
    """The model card: what it is, what it was trained on, how, and how good it is."""
    validation = report.get("cross_validation")
    measured = "not measured"
    if isinstance(validation, dict):
        folds = f"{validation['folds']}-fold cross-validation, whole sources"
        measured = f"{validation['accuracy']:.1%} of clips right ({folds})"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    lines = [
        f"# {name}",
        "",
        "Event model on frame embeddings.",
        "",
        f"- Made: {datetime.now(UTC):%Y-%m-%d} on {machine}",
        f"- Command: `{report['command'] or 'marey train events'}`",
        f"- Clips by label: {json.dumps(report['clips'])}, from {report['groups']} sources",
        f"- Accuracy: {measured}",
        f"- Model: `{json.dumps(report['config'])}`",
        f"- Training: `{json.dumps(report['settings'])}`",
        f"- Best of {report['epochs']} epochs: number {report['best_epoch']}",
    ]
    return "\n".join([*lines, ""])


def evaluate_clips(
    directory: Path,
    model: EventModel,
    embed: Embed = motion_of,
    *,
    digest: str = "motion",
    min_score: float = 0.5,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ClipReport:
    """Accuracy of a model on folders of clips, by the scores that the event detector uses.

    Raises:
        UsageError: there are no clips.
        InputError: a clip cannot be decoded.
    """
    clips = load_clips(directory)
    known = set(model.config.labels)
    found = [
        label_of(frame_scores(model, *embedded), model.config.labels, min_score)
        for embedded in clip_features(clips, embed, cache, digest, progress)
    ]
    truth = [clip.label if clip.label in known else None for clip in clips]
    return clip_report(truth, found, [clip.group for clip in clips])


@dataclass(frozen=True)
class VideoReport:
    """Events found in untrimmed videos against the true ones; `means` are 0..1, see `evaluate.events`."""

    num_videos: int
    num_true: int
    num_found: int
    min_score: float
    means: dict[str, float]

    def to_json(self) -> dict[str, object]:
        head = {name: value for name, value in vars(self).items() if name != "means"}
        return {**head, **self.means}


def evaluate_videos(
    table: Path,
    model: EventModel,
    embed: Embed = motion_of,
    *,
    digest: str = "motion",
    min_score: float = 0.5,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VideoReport:
    """Mean average precision of a model on untrimmed videos; labels that it does not know are left out.

    Raises:
        UsageError: the table cannot be used, or holds none of the model's labels.
        InputError: a video cannot be decoded.
    """
    known = load_annotated(table)
    truth = [event for event in known.events if event.label in model.config.labels]
    if not truth:
        raise UsageError(
            f"{table} has no events of {', '.join(model.config.labels)}", remedy="check its labels"
        )
    settings = EventsConfig(min_score=min_score)
    found = [
        event
        for video, embedded in zip(
            known.videos, video_features(known, embed, cache, digest, progress), strict=True
        )
        for event in found_events(model, settings, str(video), embedded)
    ]
    means = mean_average_precision(truth, found) | mean_spotting_precision(truth, found)
    return VideoReport(len(known.videos), len(truth), len(found), min_score, means)


def found_events(
    model: EventModel, settings: EventsConfig, video: str, embedded: Embedded
) -> list[FoundEvent]:
    """Events of one video, as the event detector finds them."""
    detector = EventDetector(model, settings, sample_fps=model.config.sample_fps)
    rows = pa.concat_tables([detector.update(_frames(*embedded)), detector.finish()]).to_pylist()
    return [
        FoundEvent(video, row["label"], row["t_start"], row["t_end"], row["score"], row["t_peak"])
        for row in rows
    ]


def frame_scores(
    model: EventModel, t: npt.NDArray[np.float64], embeddings: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Scores (T, labels) of one video's frames, as the event detector sees them."""
    scorer = FrameScorer(model, model.config.sample_fps)
    parts = [scores for _, scores in (*scorer.update(_frames(t, embeddings)), *scorer.finish())]
    return np.concatenate(parts) if parts else np.empty((0, len(model.config.labels)), np.float32)


def _frames(t: npt.NDArray[np.float64], embeddings: npt.NDArray[np.float32]) -> pa.Table:
    vectors = pa.array(list(embeddings), pa.list_(pa.float32()))
    return pa.table({"sample": np.arange(len(t)), "t": t, "embedding": vectors})
