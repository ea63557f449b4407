"""Timelines for the Markdown report: who was there when, and what happened, as pictures within the page."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flows.report import Video, escape, named
from pipeline.lake.lookup import quoted
from pipeline.lake.query import query
from pipeline.report.timeline import timeline_picture

MAX_PICTURES = 8
"""The server stores the page whole; a picture takes some 30 kB."""

_WIDTH_PX = 800


def timelines(lake: str, videos: Sequence[Video]) -> str:
    """A section with a picture for each of the first videos that have objects or events; empty if none has.

    Raises:
        StorageError: the lake cannot be read.
    """
    parts = []
    for video in videos:
        rows = video["rows"]
        if video["video_id"] and (rows.get("objects") or rows.get("events")):
            picture = base64.b64encode(_png(lake, video)).decode()
            name = escape(named([video["uri"]]))
            parts.append(f"### {name}\n\n![timeline of {name}](data:image/png;base64,{picture})")
        if len(parts) == MAX_PICTURES:
            break
    return "\n\n".join(["## Timelines", *parts]) + "\n" if parts else ""


def _png(lake: str, video: Video) -> bytes:
    where = f"WHERE video_id = {quoted(video['video_id'])}"
    objects, events = (query(lake, f"SELECT * FROM {name} {where}") for name in ("objects", "events"))
    tracks = query(
        lake, f"SELECT * FROM tracks {where} LIMIT 0"
    )  # only the picture of a scene draws their ways
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timeline.png"
        title = named([video["uri"]])
        timeline_picture(
            path, objects, events, tracks, video["duration_s"] or 1.0, title=title, width=_WIDTH_PX
        )
        return path.read_bytes()
