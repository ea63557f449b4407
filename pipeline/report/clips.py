"""Clips of events, with a JSON beside each that says what it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipeline.errors import SourceError, StorageError, UsageError, os_errors_as
from pipeline.lake.query import Reading
from pipeline.media.scan import Scanner
from pipeline.report import web
from pipeline.report.clip import annotate
from pipeline.report.cut import Cut, cut
from pipeline.report.gather import Record, Row, find


def find_events(lake: str | Reading, event_id: str | None, where: str | None) -> Sequence[Row]:
    """The events that are meant, those of one video together; a condition may hold for none.

    Raises:
        UsageError: neither or both are given, the id is no event's, or the condition is wrong.
    """
    if (event_id is None) == (where is None):
        raise UsageError("give an EVENT_ID or --where, one of them")
    if event_id is not None:
        event = find(lake, event_id)[1]
        if event is None:
            raise UsageError(f"{event_id} is a video", remedy="give an event's id, or --where")
        return [event]
    sql = f"SELECT * FROM events WHERE ({where}) ORDER BY video_id, t_start, event_id"
    rows: list[Row] = Reading.of(lake)(sql).to_pylist()
    return rows


def write_clip(
    record: Record, event: Row, out: Path, scanner: Scanner, *, around_s: float, drawn: bool
) -> dict[str, Any]:
    """Write the clip of an event and its JSON; returns what the JSON says.

    Clips of one video that follow each other have one scanner, which looks through its packets once.

    The files are called after the video, the time and the event's id. A clip that is copied begins at the key
    frame before: `clip.t_start` says where in the video, `clip.event_at` where in the clip the event begins.

    Raises:
        SourceError, MediaError: the video is not at hand, or cannot be read.
        StorageError: a file cannot be written.
    """
    if record.file is None:
        raise SourceError(f"{record.video['uri']} is not at hand", remedy="copy it here", code="missing")
    span = (max(0.0, event["t_start"] - around_s), event["t_end"] + around_s)
    stem = out / _name(record, event)
    with os_errors_as(StorageError, f"{out} cannot be made"):
        out.mkdir(parents=True, exist_ok=True)
    if drawn:
        path = stem.with_name(stem.name + ".mp4")
        drawn_of = (record.tracks, record.events, record.rules)
        written = annotate(record.file, path, *drawn_of, span=span, hold_s=record.hold_s, scanner=scanner)
        made = Cut(path, written.t_start, "annotated")
    else:
        made = cut(record.file, stem, span, scanner)
    told = _told(record, event, made, span)
    web.write(stem.with_name(stem.name + ".json"), json.dumps(told, indent=1, default=str) + "\n")
    return told


def _name(record: Record, event: Row) -> str:
    plain = re.sub(r"[^\w.-]+", "_", Path(record.video["uri"]).stem)[:80].strip("._") or "video"
    return f"{plain}-{event['t_start']:09.2f}-{event['event_id'][:12]}"


def _told(record: Record, event: Row, made: Cut, span: tuple[float, float]) -> dict[str, Any]:
    video, t = record.video, record.tracks["t"]
    inside = pc.and_(pc.greater_equal(t, made.t_start), pc.less_equal(t, span[1]))
    columns = ["track_id", "sample", "t", "x1", "y1", "x2", "y2", "class", "score", "observed"]
    return {
        "clip": {
            "file": str(made.path),
            "method": made.method,
            "t_start": made.t_start,
            "t_end": min(span[1], record.duration_s),
            "event_at": event["t_start"] - made.t_start,
        },
        "event": dict(event),
        "video": {
            name: video[name]
            for name in ("video_id", "uri", "camera", "recorded_at", "width_px", "height_px")
        },
        "tracks": record.tracks.filter(inside).select(columns).to_pylist(),
    }
