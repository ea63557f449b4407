"""`marey train events` and `marey evaluate events`, on folders of clips or on untrimmed videos."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.event_config import CHANGES, MOTION, EventModelConfig, Part
from models.event_network import EventNetwork
from models.files import CheckpointError, cache_folder, file_digest
from models.temporal import save_events
from models.training.clips import clip_scores, decide
from models.training.event_settings import TrainSettings
from models.training.events import Trained, train_events
from models.training.folds import cross_validate
from pipeline.config import EventsConfig, PerceiveConfig
from pipeline.errors import ModelError, UsageError
from pipeline.evaluate.events import (
    ClipReport,
    FoundEvent,
    clip_report,
    label_of,
    mean_average_precision,
    mean_spotting_precision,
)
from pipeline.event_card import card, draw_training
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
from pipeline.outputs import check_place
from pipeline.weights import weights_path

LOOKS = (CHANGES, MOTION)
"""What a model that is trained here looks at."""


def features_cache(digest: str) -> Path:
    """Where features are kept unless somebody says otherwise; they are known by content.

    Raises:
        UsageError: there is no place for a cache.
    """
    try:
        return cache_folder("features") / f"{digest}.npz"
    except CheckpointError as exc:
        raise UsageError(f"{exc}, or name a file with --cache") from exc


def embed_for(parts: tuple[Part, ...], weights: str = "default") -> tuple[Embed, str]:
    """How to embed for a model that looks at these parts, and the digest that stands for it in a cache.

    Motion alone needs no CNN; `weights` are the detector's. The network is loaded when something is not in
    the cache.

    Raises:
        ModelError: the weights cannot be used.
    """
    if parts == (MOTION,):
        return motion_of, "motion"
    try:
        digest = file_digest(weights_path("detector" if weights == "default" else weights))
    except CheckpointError as exc:
        raise ModelError(str(exc), remedy="give a path that exists, or `default`") from exc
    return perceived_by(PerceiveConfig(weights=weights)), digest


@dataclass(frozen=True)
class EventTraining:
    """What came of training: the model, its report as JSON, and where they were written."""

    trained: Trained
    report: dict[str, object]
    weights: Path
    card: Path
    plot: Path | None  # None where matplotlib is not installed


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
    """Train an event model, cross-validate it, write weights, model card and a picture of the training.

    Killed and called again it goes on from the round that it had reached, if features have a cache.

    Args:
        data: a folder of clips, see `load_clips`, or a table of events, see `load_annotated`.
        output: .safetensors file; beside it are written the card, .md, and losses and confusion, .png.
        embed: gives times and embeddings of a file; the default needs no CNN.
        digest: stands for `embed` in the cache and, but for motion alone, in the model's config.
        config: model; its labels are replaced by the data's. None takes the default.
        settings: how to train. None takes the default.
        cache: where features are kept between runs.
        num_folds: of the cross-validation, whole groups each; 0 leaves it out.
        command: how this was called, for the card.
        progress: called with the number of clips embedded and in all.

    Raises:
        UsageError: the clips cannot be trained on, or `output` cannot be written.
        InputError: a clip cannot be decoded.
    """
    config = config or EventModelConfig(("any",))
    settings = settings or TrainSettings()
    check_place(output)
    features, labels, groups = examples(data, config.window_s, embed, cache, digest, progress)
    names = tuple(sorted({label for label in labels if label is not None}))
    state = output.with_suffix(".state")
    state.mkdir(parents=True, exist_ok=True)
    validation = None
    try:
        config = replace(config, labels=names, detector=None if config.parts == (MOTION,) else digest)
        if num_folds:
            scores = cross_validate(features, labels, groups, config, settings, num_folds, state)
            validation = clip_report(labels, _labels(names, scores), groups)
        trained = train_events(features, labels, groups, config, settings, state / "whole.safetensors")
        save_events(output, trained.model)
    except ValueError as exc:
        raise UsageError(f"{data} cannot be trained on", remedy=str(exc)) from exc
    report: dict[str, object] = {"command": command, "groups": len(set(groups))}
    if validation is not None:
        report["cross_validation"] = {"folds": num_folds, **validation.to_json()}
    report |= _report(trained, settings)
    card_path, picture = output.with_suffix(".md"), output.with_suffix(".png")
    card_path.write_text(card(output.stem, report), encoding="utf-8")
    measured_on = "cross-validation" if validation is not None else "held out"
    held = validation or _held_report(trained, features, labels)
    losses = {"training": trained.train_loss, "held out": trained.held_loss}
    confusion = held.confusion if held is not None else None
    drawn = draw_training(picture, losses, trained.best_epoch, confusion, measured_on)
    shutil.rmtree(state, ignore_errors=True)
    return EventTraining(trained, report, output, card_path, picture if drawn else None)


def _labels(names: Sequence[str], scores: npt.NDArray[np.float32]) -> list[str | None]:
    return [names[n] if n >= 0 else None for n in decide(scores)]


def _held_report(
    trained: Trained, features: Sequence[npt.NDArray[np.float32]], labels: Sequence[str | None]
) -> ClipReport | None:
    """Of the clips that decided when to stop."""
    if not trained.held:
        return None
    scores = clip_scores(trained.model, [features[n] for n in trained.held])
    return clip_report([labels[n] for n in trained.held], _labels(trained.model.config.labels, scores))


def _report(trained: Trained, settings: TrainSettings) -> dict[str, object]:
    return {
        "config": trained.model.config.to_json(),
        "settings": asdict(settings),
        "clips": trained.num_clips,
        "epochs": len(trained.train_loss),
        "best_epoch": trained.best_epoch,
        "held_accuracy": trained.held_accuracy,
        "train_loss": trained.train_loss,
        "held_loss": trained.held_loss,
    }


def evaluate_clips(
    directory: Path,
    model: EventNetwork,
    embed: Embed = motion_of,
    *,
    digest: str = "motion",
    min_score: float = 0.5,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ClipReport:
    """Accuracy of a model on folders of clips, by the scores that the event detector uses.

    Clips of labels that the model does not know hold none of its events.

    Raises:
        UsageError: there are no clips, or labelled ones but none of the model's labels.
        InputError: a clip cannot be decoded.
    """
    clips = load_clips(directory)
    known = set(model.config.labels)
    told = {clip.label for clip in clips if clip.label is not None}
    if told and not told & known:  # all would count as none, and a model that finds nothing as right
        raise UsageError(
            f"{directory} has no clips of {', '.join(model.config.labels)}",
            got=", ".join(sorted(told)),
            remedy="name the folders as the model's labels",
        )
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
    model: EventNetwork,
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
    model: EventNetwork, settings: EventsConfig, video: str, embedded: Embedded
) -> list[FoundEvent]:
    """Events of one video, as the event detector finds them."""
    detector = EventDetector(model, settings, sample_fps=model.config.sample_fps)
    rows = pa.concat_tables([detector.update(_frames(*embedded)), detector.finish()]).to_pylist()
    return [
        FoundEvent(video, row["label"], row["t_start"], row["t_end"], row["score"], row["t_peak"])
        for row in rows
    ]


def frame_scores(
    model: EventNetwork, t: npt.NDArray[np.float64], embeddings: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Scores (T, labels) of one video's frames, as the event detector sees them."""
    scorer = FrameScorer(model, model.config.sample_fps)
    parts = [scores for _, scores in (*scorer.update(_frames(t, embeddings)), *scorer.finish())]
    return np.concatenate(parts) if parts else np.empty((0, len(model.config.labels)), np.float32)


def _frames(t: npt.NDArray[np.float64], embeddings: npt.NDArray[np.float32]) -> pa.Table:
    vectors = pa.array(list(embeddings), pa.list_(pa.float32()))
    return pa.table({"sample": np.arange(len(t)), "t": t, "embedding": vectors})
