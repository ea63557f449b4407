"""The page of one video: playback with what was found drawn over it, timeline, events, what was analysed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from pipeline.errors import StorageError, os_errors_as
from pipeline.report import web
from pipeline.report.gather import Record, Row
from pipeline.report.overlay import shapes
from pipeline.report.packed import PIECE_S, Pieces, pack
from pipeline.report.palette import colour_text
from pipeline.report.scene import scene_of

SCRIPTS = ("base.js", "tracks.js", "clock.js", "overlay.js", "timeline.js", "events.js", "show.js")

INLINE_CHARACTERS = 12_000_000
"""Boxes of more characters than this lie in files beside the page."""

COUNT_BINS = 600
LEAD_S = 2.0
"""A page of an event begins so long before it."""


@dataclass(frozen=True)
class Curve:
    """Scores (N,) in 0..1 of a label of an event model at times (N,) in seconds."""

    label: str
    times: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]


def write_show(
    record: Record, out: Path, *, event: Row | None = None, curves: Sequence[Curve] = (), copy: bool = False
) -> Path:
    """Write the page of a video into a folder; returns the path of its HTML file.

    Args:
        record: what is known of the video.
        out: the folder, made if missing. The page is `index.html`; a long video's boxes lie in `boxes/`.
        event: where playback begins.
        curves: of event models.
        copy: put the video beside the page; else the page names the place where it lies.

    Raises:
        StorageError: a file cannot be written.
    """
    objects = record.objects.sort_by("track_id")
    pieces = pack(record.tracks, objects["track_id"].to_numpy(), record.duration_s, record.hold_s)
    beside = sum(map(len, pieces.texts)) > INLINE_CHARACTERS
    source = _video(record, out, copy)
    page = web.render(
        "show.html",
        SCRIPTS,
        side_files=beside,
        data=page_data(replace(record, objects=objects), pieces, event, curves, source, beside),
        pieces=[] if beside else pieces.texts,
        title=_short(record.video["uri"]),
        facts=facts(record),
        config=json.dumps(record.config, indent=1, ensure_ascii=False) if record.config else None,
        gaps=(record.analysis or {}).get("gaps") or [],
        failures=record.failures,
        status=record.analysis["status"] if record.analysis else "never analysed with success",
    )
    if beside:
        for number, text in enumerate(pieces.texts):
            web.write(out / "boxes" / f"{number}.js", f'marey.arrived({number},"{text}")\n')
    web.write(out / "index.html", page)
    return out / "index.html"


def _short(uri: str) -> str:
    return uri.rstrip("/").rsplit("/", 1)[-1] or uri


def _video(record: Record, out: Path, copy: bool) -> str | None:
    """The address of the video as the page names it; None if it is not at hand."""
    if record.file is None:
        return None
    if not copy:
        return quote(os.path.relpath(record.file, out.absolute()))
    target = out / f"video{record.file.suffix.lower()}"
    with os_errors_as(StorageError, f"{target} cannot be written"):
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(record.file, target)
    return quote(target.name)


def page_data(
    record: Record,
    pieces: Pieces,
    event: Row | None,
    curves: Sequence[Curve],
    source: str | None,
    beside: bool,
) -> dict[str, Any]:
    """What the scripts of the page read; `record.objects` in order of track_id."""
    width, height = record.size
    picture = scene_of(record)
    names = class_names(record)
    return {
        "source": source,
        "picture": web.data_uri(picture) if picture is not None else None,
        "width": width,
        "height": height,
        "duration": record.duration_s,
        "fps": record.video["fps_mean"] or 25,
        "codec": record.video["codec"],
        "start": max(0.0, event["t_start"] - LEAD_S) if event else 0.0,
        "event": event["event_id"] if event else None,
        "classes": [{"name": name, "colour": colour_text(name)} for name in names],
        "objects": [
            [row["track_id"], names.index(row["class"]), row["t_start"], row["t_end"]]
            for row in record.objects.select(["track_id", "class", "t_start", "t_end"]).to_pylist()
        ],
        "events": [event_data(row) for row in record.events.to_pylist()],
        "shapes": [
            {"points": shape.points.tolist(), "closed": shape.closed, "names": shape.names}
            for shape in shapes(record.rules, width, height)
        ],
        "counts": counts(record, names),
        "curves": [_curve(curve, record.duration_s) for curve in curves],
        "gaps": [[gap["t_start"], gap["t_end"]] for gap in (record.analysis or {}).get("gaps") or []],
        "hold_s": record.hold_s,
        "pieces": {"seconds": PIECE_S, "number": len(pieces.texts), "scale": pieces.scale, "beside": beside},
    }


def class_names(record: Record) -> list[str]:
    """The classes of a video's objects, the most frequent first."""
    found = record.objects["class"].value_counts().to_pylist()
    return [item["values"] for item in sorted(found, key=lambda item: (-item["counts"], item["values"]))]


def event_data(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of EVENTS in the short words of the page."""
    return {
        "id": row["event_id"], "source": row["source"], "label": row["label"], "t0": row["t_start"],
        "t1": row["t_end"], "peak": row["t_peak"], "score": row["score"], "tracks": row["track_ids"] or [],
        "zone": row["zone"], "direction": row["direction"],
    }  # fmt: skip


def counts(record: Record, names: Sequence[str]) -> dict[str, Any]:
    """Mean number of objects in the picture by class, over at most COUNT_BINS equal stretches.

    A stretch is as long as the longest step between samples, so that none lies between two of them.
    """
    duration = record.duration_s
    times = record.sample_times.to_numpy()
    bins = max(1, min(COUNT_BINS, int(duration / max(1.0, record.hold_s))))
    edges = np.linspace(0, duration, bins + 1)
    samples = np.maximum(np.histogram(times, edges)[0], 1)
    t, kinds = record.tracks["t"].to_numpy(), record.kinds.to_numpy()
    number = [np.histogram(t[kinds == name], edges)[0] / samples for name in names]
    return {"seconds": duration / bins, "values": [np.round(row, 2).tolist() for row in number]}


def _curve(curve: Curve, duration_s: float) -> dict[str, Any]:
    """The highest score in each of at most COUNT_BINS equal stretches; between, where none has a score."""
    bins = max(1, min(COUNT_BINS, len(curve.times)))
    top = np.full(bins, -1.0)
    at = np.clip((curve.times / duration_s * bins).astype(int), 0, bins - 1)
    np.maximum.at(top, at, curve.scores)
    has = np.flatnonzero(top >= 0)
    return {"label": curve.label, "values": np.round(np.interp(np.arange(bins), has, top[has]), 3).tolist()}


def facts(record: Record) -> list[tuple[str, str]]:
    """What was analysed, with what, by whom: names and values for people."""
    video, analysis = record.video, record.analysis or {}
    width, height = record.size
    weights = json.loads(analysis.get("weights") or "{}")
    gone = analysis.get("frames_failed")
    found = [
        ("Address", video["uri"]),
        ("Video id", video["video_id"]),
        ("Camera", video["camera"]),
        ("Recorded", video["recorded_at"]),
        ("Picture", f"{width} x {height}, {video['codec'] or 'unknown codec'}"),
        ("Duration", f"{record.duration_s:.1f} s"),
        ("Sampled frames", analysis.get("frames_sampled")),
        ("Frames that did not decode", gone or None),
        ("Analysed", analysis.get("committed_at")),
        ("By", f"marey {analysis['marey_version']}" if analysis.get("marey_version") else None),
        ("Reader", analysis.get("reader")),
        ("Run by", " on ".join(filter(None, [analysis.get("runtime"), analysis.get("device")]))),
        ("Config", analysis.get("config_id")),
        *((f"Weights, {role}", digest) for role, digest in sorted(weights.items())),
    ]
    return [(name, _told(value)) for name, value in found if value not in (None, "")]


def _told(value: object) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else str(value)
