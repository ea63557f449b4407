"""Rows and small lakes for the tests, from a seed, without any of the stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import Config
from pipeline.ids import digest, new_run_id
from pipeline.lake import schema
from pipeline.lake.commit import Ending, Outcome, commit, put_config, start_attempts
from pipeline.lake.records import Analysis, Place, VideoName, names_table, place_rows
from pipeline.lake.tables import Lake

DAY = date(2025, 3, 1)
RECORDED = datetime(2025, 3, 1, 22, 30, tzinfo=UTC)
VECTOR = 4


def stage_rows(samples: int = 20, objects: int = 2, seed: int = 0) -> dict[str, pa.Table]:
    """What the stages would give: `objects` boxes in each of `samples` frames, and a track and event each."""
    rng = np.random.default_rng(seed)
    frames = [
        {
            "sample": n,
            "pts": n * 3000,
            "t": n / 10,
            "embedding": rng.normal(size=VECTOR).astype(np.float16).astype(np.float32).tolist(),
            "camera_motion": None if n % 2 else {"dx": 1.0, "dy": 0.5, "scale": 1.0, "rotation": 0.0},
            "reused": False,
        }
        for n in range(samples)
    ]
    boxes = [
        {"track_id": k, "sample": n, "t": n / 10, "class": "person", **_box(rng)}
        for n in range(samples)
        for k in range(objects)
    ]
    vector = [0.5] * VECTOR
    detections = [
        {**box, "appearance": vector} for box in sorted(boxes, key=lambda b: (b["sample"], -b["score"]))
    ]
    tracks = [{**box, "observed": True} for box in boxes]
    names = {
        "frames": (frames, schema.FRAMES),
        "detections": (detections, schema.DETECTIONS),
        "tracks": (tracks, schema.TRACKS),
        "objects": ([_object(k, samples) for k in range(objects)], schema.OBJECTS),
        "events": ([_event(k, seed) for k in range(objects)], schema.EVENTS),
    }
    return {name: pa.Table.from_pylist(rows, schema=kind) for name, (rows, kind) in names.items()}


def _box(rng: np.random.Generator) -> dict[str, Any]:
    x, y, w, h, score = (float(np.float32(v)) for v in rng.uniform(10, 90, 5))
    return {"x1": x, "y1": y, "x2": x + w, "y2": y + h, "score": score / 100}


def _object(track_id: int, samples: int) -> dict[str, Any]:
    return {
        "track_id": track_id,
        "class": "person",
        "score": 0.5,
        "t_start": 0.0,
        "t_end": samples / 10,
        "num_frames": samples,
        "trajectory": [{"t": 0.0, "x": 1.0, "y": 2.0}],
        "mean_speed": 0.1,
        "top_speed": 0.2,
        "cut_at_start": True,
        "cut_at_end": False,
    }


def _event(number: int, seed: int) -> dict[str, Any]:
    return {
        "event_id": digest("event", seed, number),
        "source": "rule",
        "label": "gate",
        "t_start": float(number),
        "t_end": number + 0.5,
        "t_peak": number + 0.25,
        "score": 0.5,
        "track_ids": [number],
        "zone": None,
        "direction": "left_to_right",
        "details": "{}",
    }


def running(video_id: str, **values: Any) -> Analysis:
    """An attempt that begins."""
    run = new_run_id()
    base: dict[str, Any] = {
        "video_id": video_id,
        "camera": "gate",
        "date": DAY,
        "run_id": run,
        "attempt_id": run,
        "uri": f"/archive/{video_id}.mp4",
        "status": "running",
        "started_at": datetime.now(UTC),
    }
    return Analysis(**base | values)


def finished(attempt: Analysis, analysis_id: str = "a1", status: str = "ok", **values: Any) -> Analysis:
    """The same attempt, ended with success, with runs of its own."""
    runs = dict.fromkeys(("perception_run_id", "tracking_run_id", "events_run_id"), attempt.run_id)
    ids = {"perception_id": "ab", "tracking_id": "cd", "analysis_id": analysis_id}
    return replace(attempt, **{"status": status, "frames_sampled": 20, **runs, **ids, **values})


def name_of(analysis: Analysis, **values: Any) -> VideoName:
    base: dict[str, Any] = {
        "video_id": analysis.video_id,
        "camera": analysis.camera,
        "date": analysis.date,
        "run_id": analysis.run_id,
        "uri": analysis.uri,
        "etag": "1",
        "size_bytes": 1000,
        "content_id": digest(analysis.video_id),
        "seen_at": datetime.now(UTC),
        "recorded_at": RECORDED,
    }
    return VideoName(**base | values)


def placed(analysis: Analysis, rows: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    place = Place(analysis.video_id, analysis.camera, analysis.date, analysis.run_id, RECORDED)
    return {name: place_rows(name, table, place) for name, table in rows.items()}


def ending(
    analysis: Analysis, basis: int = 0, rows: Mapping[str, pa.Table] | None = None, **name: Any
) -> Ending:
    written = placed(analysis, stage_rows() if rows is None else rows)
    return Ending(analysis=analysis, basis=basis, rows=written, names=(name_of(analysis, **name),))


def analyse(lake: Lake, video_id: str, analysis_id: str = "a1", basis: int = 0, **values: Any) -> Outcome:
    """The whole way of one video, with rows of its own seed."""
    rows = values.pop("rows", None) or stage_rows(seed=int(digest(video_id)[:6], 16))
    name = values.pop("name", {})
    [attempt] = start_attempts(lake, [running(video_id, **values)])
    [outcome] = commit(lake, [ending(finished(attempt, analysis_id), basis, rows, **name)])
    return outcome


def sample_lake(path: Path | str) -> Lake:
    """An upgrade, a failure after a success, a replaced object, an alias, odd names, no objects."""
    lake = Lake.open(path)
    first = analyse(lake, "v1")
    analyse(lake, "v1", "a2", basis=first.revision, rows=stage_rows(objects=3, seed=7))
    [attempt] = start_attempts(lake, [running("v1")])
    commit(lake, [Ending(analysis=replace(attempt, status="failed", error_code="media", error="broken"))])
    analyse(lake, "v2", camera="Tor /ü=%20'\"\\ 🚚", uri="/archive/a b+c%/ü.mp4")
    analyse(lake, "v3", camera=None, rows=stage_rows(samples=5, objects=0))
    analyse(lake, "old", uri="/archive/replaced.mp4")
    later = {"etag": "2", "seen_at": datetime.now(UTC) + timedelta(seconds=1)}
    analyse(lake, "new", uri="/archive/replaced.mp4", name=later, date=date(2025, 3, 2))
    alias = name_of(running("v2", uri="/archive/alias.mp4", camera=None))
    lake.append("videos", names_table([alias]))
    put_config(lake, Config())
    start_attempts(lake, [running("unfinished")])
    return lake
