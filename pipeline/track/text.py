"""Tracking of MOTChallenge text, without video: what `marey track` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.motion import MotionModel, load_motion
from pipeline.config import TrackConfig
from pipeline.errors import ModelError
from pipeline.lake.schema import DETECTIONS, FRAMES, TRACKS
from pipeline.mot import frame_rate, read_mot, read_seqinfo, write_mot
from pipeline.track.tracker import Tracker
from pipeline.weights import weights_path

DEFAULT_FPS = 30.0
"""Frames per second where neither the user nor seqinfo.ini says them."""


@dataclass(frozen=True)
class MotResult:
    """What was tracked."""

    fps: float
    fps_source: str  # given, seqinfo.ini or default
    num_frames: int
    num_detections: int
    num_tracks: int
    num_rows: int


def load_motion_weights(weights: str) -> MotionModel:
    """The motion model that the config names: `default`, a path or an address.

    Raises:
        ModelError: the weights are missing or not a motion model.
    """
    try:
        return load_motion(weights_path("motion" if weights == "default" else weights))
    except ValueError as exc:
        raise ModelError(str(exc), remedy="`marey train motion` makes motion weights") from exc


def track_mot(
    path: Path, out: Path, fps: float | None = None, settings: TrackConfig | None = None
) -> MotResult:
    """Track a MOT detection file and write a MOT result; frames may come in any order.

    Args:
        path: detections; the box coordinates stay as they are. All boxes are taken for persons.
        out: result file, overwritten.
        fps: frames per second; else from seqinfo.ini beside `path`, else 30.
        settings: tracker settings.

    Raises:
        UsageError: `fps` is no rate.
        InputError: the file is missing or malformed; nothing was written.
        ModelError: the motion weights cannot be loaded; nothing was written.
        StorageError: the result cannot be written.
    """
    settings = settings or TrackConfig()
    rows = read_mot(path)
    info = read_seqinfo(path)
    rate = frame_rate(fps, info) or DEFAULT_FPS
    source = "given" if fps is not None else "seqinfo.ini" if info else "default"
    size = (info.width_px or 0, info.height_px or 0) if info else (0, 0)
    tracks = track_boxes(rows, rate, size, settings, load_motion_weights(settings.weights))
    write_mot(out, tracks)
    num_frames = int(rows["frame"].to_numpy().max()) if rows.num_rows else 0
    num_tracks = len(set(tracks["track_id"].to_pylist()))
    return MotResult(rate, source, num_frames, rows.num_rows, num_tracks, tracks.num_rows)


def track_boxes(
    rows: pa.Table, fps: float, size: tuple[int, int], settings: TrackConfig, motion: MotionModel
) -> pa.Table:
    """TRACKS of MOT rows (`pipeline.mot.MOT`); sample = frame - 1 and, without a clock, t = sample / fps."""
    if not rows.num_rows:
        return TRACKS.empty_table()
    tracker = Tracker(settings, motion, size)
    frames, detections = mot_tables(rows, fps)
    first, _ = tracker.update(frames, detections)
    last, _ = tracker.finish()
    return pa.concat_tables([first, last])


def mot_tables(rows: pa.Table, fps: float) -> tuple[pa.Table, pa.Table]:
    """FRAMES and DETECTIONS of MOT rows; every frame up to the last one is a sampled frame."""
    samples = np.arange(int(rows["frame"].to_numpy().max()))
    nulls = {f.name: pa.nulls(len(samples), f.type) for f in FRAMES}
    frames = pa.table({**nulls, "sample": samples, "t": samples / fps}, schema=FRAMES)
    sample = rows["frame"].to_numpy() - 1
    scores = np.clip(rows["score"].to_numpy(), 0, 1).astype(np.float32)
    boxes = {name: rows[name].to_numpy().astype(np.float32) for name in ("x1", "y1", "x2", "y2")}
    columns = {
        "sample": sample, "t": sample / fps, **boxes, "class": ["person"] * len(sample), "score": scores,
        "appearance": pa.nulls(len(sample), DETECTIONS.field("appearance").type),
    }  # fmt: skip
    return frames, pa.table(columns, schema=DETECTIONS)
