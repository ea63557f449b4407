"""Scores of event models over time, made again from the stored frame embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from models.files import CheckpointError, file_digest
from pipeline.errors import ModelError
from pipeline.events import FrameScorer, load_event_model
from pipeline.lake import Lake
from pipeline.lake.lookup import read_rows
from pipeline.report.gather import Record
from pipeline.report.show import Curve
from pipeline.weights import weights_path


def score_curves(lake: str, record: Record) -> list[Curve]:
    """A curve per label of each event model that the video's analysis used and that is still the same file.

    Models that are gone or changed, and videos whose embeddings were not kept, give none.
    """
    analysis = record.analysis
    if analysis is None:
        return []
    used = json.loads(analysis["weights"] or "{}")
    same = [name for name in record.config.get("events", {}).get("models", ()) if _is_same(name, used)]
    return [curve for name in same for curve in _curves(lake, record, name)]


def _is_same(name: str, used: dict[str, str]) -> bool:
    try:
        return used.get(f"events.{Path(name).stem}") == file_digest(weights_path(name))
    except CheckpointError:
        return False


def _curves(lake: str, record: Record, name: str) -> list[Curve]:
    analysis = record.analysis or {}
    fps = record.config.get("video", {}).get("sample_fps", 10.0)
    place = (record.video["video_id"], analysis["perception_run_id"], analysis["date"])
    try:
        model = load_event_model(name)[0]
        scorer = FrameScorer(model, fps)
        parts = []
        for frames in read_rows(Lake.open(lake, create=False), "frames", *place):
            parts += list(scorer.update(frames))
        parts += list(scorer.finish())
    except ModelError:
        return []
    if not parts:
        return []
    times, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    return [Curve(label, times, scores[:, k]) for k, label in enumerate(model.config.labels)]
