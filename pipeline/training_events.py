"""`marey train events` and `marey evaluate events` on folders of clips."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from models.temporal import EventModel, EventModelConfig, save_events
from models.training.events import Trained, TrainSettings, cross_validate, decide, train_events
from pipeline.config import VideoConfig
from pipeline.errors import InputError, MediaError, UsageError
from pipeline.evaluate.events import ClipReport, clip_report, label_of
from pipeline.events import FrameScorer
from pipeline.ids import content_id
from pipeline.media.decode import decode_inline
from pipeline.media.items import DecodeJob, JobEnd, SampledFrame

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m4v", ".mpg", ".flv")

Embedded = tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]  # (T,) seconds, (T, D) embeddings
Embed = Callable[[Path], Embedded]


@dataclass(frozen=True)
class Clip:
    """A short video of one label, None for none of them; clips of one `group` come from one source."""

    path: Path
    label: str | None
    group: str


def load_clips(directory: Path) -> list[Clip]:
    """Clips of DIR/LABEL/*.mp4 (and other videos), sorted by path.

    Folders named `background` or no... hold clips without label. A groups.csv in the directory or the one
    above it, with columns clip (path from the file) and group, says which clips share a source; else each
    clip is a source of its own.

    Raises:
        UsageError: no such directory, or no folder with videos in it.
    """
    if not directory.is_dir():
        raise UsageError(
            f"{directory} is not a directory", remedy="give a directory with a folder of clips per label"
        )
    groups = _groups(directory)
    clips = [
        Clip(path, label_of_folder(path.parent.name), groups.get(path.resolve(), path.stem))
        for path in sorted(directory.glob("*/*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not clips:
        raise UsageError(
            f"{directory} has no folders with videos", remedy="lay the clips out as DIR/LABEL/clip.mp4"
        )
    return clips


def label_of_folder(name: str) -> str | None:
    """The label that a folder stands for; None for `background` and names that begin with `no`."""
    return None if name.lower() == "background" or name.lower().startswith("no") else name


def _groups(directory: Path) -> dict[Path, str]:
    for folder in (directory, directory.resolve().parent):
        table = folder / "groups.csv"
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            if rows and not {"clip", "group"} <= set(rows[0]):
                raise UsageError(
                    f"{table} lacks a column", got=sorted(rows[0]), remedy="it needs clip and group"
                )
            return {(folder / row["clip"]).resolve(): row["group"] for row in rows}
    return {}


def motion_of(path: Path, video: VideoConfig | None = None, size: tuple[int, int] = (512, 288)) -> Embedded:
    """The motion part of the frame embeddings alone, without a CNN; `size` is the CNN's input in pixels.

    Raises:
        InputError: the file cannot be decoded.
    """
    video = video or VideoConfig()
    job = DecodeJob(
        key=str(path),
        path=str(path),
        sample_fps=video.sample_fps,
        width=size[0],
        height=size[1],
        max_pixels=video.max_pixels,
        max_streams=video.max_streams,
    )
    times, grids = [], []
    for item in decode_inline(job):
        if isinstance(item, SampledFrame):
            times.append(item.t)
            grids.append(item.motion_grid)
        elif isinstance(item, JobEnd) and item.error is not None:
            raise item.error
    if not grids:
        raise MediaError(f"{path.name} has no frames", remedy="leave it out")
    return np.asarray(times), as_stored(np.stack(grids))


def as_stored(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rounded to half precision, as the lake keeps them: a model must see the same in training."""
    return embeddings.astype(np.float16).astype(np.float32)


def clip_features(
    clips: Sequence[Clip],
    embed: Embed,
    cache: Path | None = None,
    digest: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[Embedded]:
    """Frame embeddings of every clip.

    Args:
        clips: what to embed.
        embed: gives times and embeddings of a file.
        cache: .npz file that is read and extended; entries are known by the file's content and `digest`.
        digest: stands for all that can change what `embed` gives (weights, sampling, input size).
        progress: called with the number of clips done and in all.
    """
    known = _read_cache(cache)
    found: list[Embedded] = []
    fresh = False
    for number, clip in enumerate(clips, start=1):
        key = f"{content_id(clip.path)}-{digest}"
        if f"{key}:t" not in known:
            known[f"{key}:t"], known[f"{key}:x"] = embed(clip.path)
            fresh = True
        found.append((known[f"{key}:t"], known[f"{key}:x"]))
        if progress is not None:
            progress(number, len(clips))
    if cache is not None and fresh:
        temporary = cache.with_suffix(".tmp.npz")
        np.savez_compressed(temporary, allow_pickle=False, **known)
        temporary.replace(cache)
    return found


def _read_cache(cache: Path | None) -> dict[str, npt.NDArray[Any]]:
    if cache is None or not cache.exists():
        return {}
    try:
        with np.load(cache, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError) as exc:
        raise InputError(f"feature cache {cache} cannot be read", got=str(exc), remedy="delete it") from exc


@dataclass(frozen=True)
class EventTraining:
    """What came of training: the model, its report as JSON, and where they were written."""

    trained: Trained
    report: dict[str, object]
    weights: Path
    card: Path


def train_from_clips(
    directory: Path,
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
    """Train an event model on folders of clips, cross-validate it, write weights and model card.

    Args:
        directory: see `load_clips`.
        output: .safetensors file; the card is written beside it with the suffix .md.
        embed: gives times and embeddings of a file; the default needs no CNN.
        digest: stands for `embed` in the cache.
        config: model; its labels are replaced by the folders'. None takes the default.
        settings: how to train. None takes the default.
        cache: where features are kept between runs.
        num_folds: of the cross-validation, whole groups each; 0 leaves it out.
        command: how this was called, for the card.
        progress: called with the number of clips embedded and in all.

    Raises:
        UsageError: the clips cannot be trained on.
        InputError: a clip cannot be decoded.
    """
    clips = load_clips(directory)
    labels = [clip.label for clip in clips]
    names = tuple(sorted({label for label in labels if label is not None}))
    settings = settings or TrainSettings()
    features = [x for _, x in clip_features(clips, embed, cache, digest, progress)]
    groups = [clip.group for clip in clips]
    try:
        config = replace(config, labels=names) if config else EventModelConfig(names)
        report: dict[str, object] = {"command": command, "groups": len(set(groups))}
        if num_folds:
            scores = cross_validate(features, labels, groups, config, settings, num_folds)
            found = [names[n] if n >= 0 else None for n in decide(scores)]
            report["cross_validation"] = {"folds": num_folds, **clip_report(labels, found, groups).to_json()}
        trained = train_events(features, labels, groups, config, settings)
    except ValueError as exc:
        raise UsageError(f"{directory} cannot be trained on", remedy=str(exc)) from exc
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


def frame_scores(
    model: EventModel, t: npt.NDArray[np.float64], embeddings: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Scores (T, labels) of one video's frames, as the event detector sees them."""
    scorer = FrameScorer(model, model.config.sample_fps)
    frames = pa.table(
        {"sample": np.arange(len(t)), "t": t, "embedding": pa.array(list(embeddings), pa.list_(pa.float32()))}
    )
    parts = [scores for _, scores in (*scorer.update(frames), *scorer.finish())]
    return np.concatenate(parts) if parts else np.empty((0, len(model.config.labels)), np.float32)
