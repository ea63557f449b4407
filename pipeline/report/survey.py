"""What many videos of a lake hold together, added up by the lake's own SQL."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pipeline.lake.lookup import literals
from pipeline.lake.query import Reading
from pipeline.report.gather import pictures

Rows = list[dict[str, Any]]

GRID = (64, 36)
"""Columns and rows of a heat map."""

PICTURE_TRIES = 3
"""The newest videos of a camera that are looked at for a picture of the scene."""

PATHS = 400
"""Paths drawn per camera, of the objects that were there longest."""


@dataclass(frozen=True)
class Choice:
    """Which videos: recorded on or after `since`, on `on`, by cameras of a shell pattern (`*`: all)."""

    since: date | None = None
    on: date | None = None
    camera: str = "*"


@dataclass(frozen=True)
class Survey:
    """Rows of many videos added up; cameras without a name are None."""

    videos: Rows  # video_id, uri, camera, date, duration_s, width_px, height_px, status, objects, events
    events: Rows  # camera, label, hour, number
    crossings: Rows  # camera, label, class, direction, number
    presence: Rows  # camera, hour, class, boxes
    frames: Rows  # camera, hour, frames
    heat: Rows  # camera, gx, gy, boxes
    paths: Rows  # camera, class, trajectory, width_px, height_px
    thumbnails: Mapping[str | None, bytes]  # by camera, of the newest video that has one, of a few
    failures: Rows  # camera, uri, status, error_code, error, frames_failed, committed_at; last of each name


def survey(lake: str | Reading, choice: Choice) -> Survey:
    """Add up the chosen videos.

    Raises:
        StorageError: the lake cannot be read.
        UsageError: there is no such lake.
    """
    reading = Reading.of(lake)
    chosen = _chosen(reading, choice)
    mine = f"SELECT video_id FROM videos WHERE {chosen}"
    near = _near(reading, choice, mine)
    one_size = (
        "SELECT video_id, max(width_px) AS width_px, max(height_px) AS height_px FROM videos "
        f"WHERE {chosen} GROUP BY video_id"
    )

    def ask(sql: str) -> Rows:
        rows: Rows = reading(sql).to_pylist()
        return rows

    by_hour = "date_trunc('hour', {})"
    return Survey(
        videos=_videos(ask, chosen),
        events=ask(
            f"SELECT camera, label, {by_hour.format('start_utc')} AS hour, count(*) AS number FROM events "
            f"WHERE video_id IN ({mine}) AND {near.format('')} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ),
        crossings=ask(
            "SELECT e.camera, e.label, o.class, e.direction, count(*) AS number FROM events AS e "
            "JOIN objects AS o ON o.video_id = e.video_id AND o.track_id = e.track_ids[1] "
            f"WHERE e.direction IS NOT NULL AND e.video_id IN ({mine}) "
            f"AND {near.format('e.')} AND {near.format('o.')} "
            "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        ),
        presence=ask(
            f"SELECT camera, {by_hour.format('time_utc')} AS hour, class, count(*) AS boxes FROM tracks "
            f"WHERE video_id IN ({mine}) AND {near.format('')} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ),
        frames=ask(
            f"SELECT camera, {by_hour.format('time_utc')} AS hour, count(*) AS frames FROM frames "
            f"WHERE video_id IN ({mine}) AND {near.format('')} GROUP BY 1, 2 ORDER BY 1, 2"
        ),
        heat=ask(
            f"SELECT t.camera, CAST(floor((t.x1 + t.x2) / 2 / v.width_px * {GRID[0]}) AS INT) AS gx, "
            f"CAST(floor(t.y2 / v.height_px * {GRID[1]}) AS INT) AS gy, count(*) AS boxes "
            f"FROM tracks AS t JOIN ({one_size}) AS v ON v.video_id = t.video_id "
            f"WHERE {near.format('t.')} GROUP BY 1, 2, 3"
        ),
        paths=ask(
            "SELECT camera, class, trajectory, width_px, height_px FROM (SELECT o.camera, o.class, "
            "o.trajectory, v.width_px, v.height_px, row_number() OVER (PARTITION BY o.camera ORDER BY "
            f"o.num_frames DESC) AS rank FROM objects AS o JOIN ({one_size}) AS v "
            f"ON v.video_id = o.video_id WHERE {near.format('o.')}) AS ranked WHERE rank <= {PATHS}"
        ),
        thumbnails=_thumbnails(reading, chosen),
        failures=ask(
            "SELECT camera, uri, status, error_code, error, frames_failed, committed_at FROM (SELECT *, "
            "row_number() OVER (PARTITION BY uri ORDER BY CASE WHEN status IN ('abandoned', 'crashed') "
            "THEN started_at ELSE committed_at END DESC) AS rank FROM analyses "
            "WHERE status NOT IN ('running', 'dropped')) AS attempts "
            f"WHERE rank = 1 AND status <> 'ok' AND {chosen} ORDER BY camera, uri"
        ),
    )


def _chosen(ask: Reading, choice: Choice) -> str:
    """The condition on `videos`."""
    parts = ["TRUE"]
    if choice.since is not None:
        parts.append(f"\"date\" >= DATE '{choice.since}'")
    if choice.on is not None:
        parts.append(f"\"date\" = DATE '{choice.on}'")
    if choice.camera != "*":
        cameras = ask("SELECT DISTINCT camera FROM videos")["camera"]
        wanted = [name for name in cameras.to_pylist() if name and fnmatch.fnmatchcase(name, choice.camera)]
        parts.append(f"camera IN ({literals(wanted)})" if wanted else "FALSE")
    return " AND ".join(parts)


def _near(ask: Reading, choice: Choice, mine: str) -> str:
    """A condition on the dates of rows, with {} before the column, so that others are not looked through.

    Rows lie under the date of the analysis that made them, in older lakes not always of the current one; that
    of a name may be another, where it is a copy's.
    """
    if choice.since is None and choice.on is None:
        return "TRUE"
    dates = 'min("date") AS first, max("date") AS last'
    [found] = ask(f"SELECT {dates} FROM analyses WHERE video_id IN ({mine})").to_pylist()
    if found["first"] is None:
        return "FALSE"
    return f"{{}}\"date\" BETWEEN DATE '{found['first']}' AND DATE '{found['last']}'"


def _thumbnails(ask: Reading, chosen: str) -> dict[str | None, bytes]:
    rows: Rows = ask(
        "SELECT camera, uri, content_id FROM (SELECT camera, uri, content_id, row_number() OVER ("
        "PARTITION BY camera ORDER BY recorded_at DESC NULLS LAST, seen_at DESC) AS rank FROM videos "
        f"WHERE width_px IS NOT NULL AND {chosen}) AS v WHERE rank <= {PICTURE_TRIES} ORDER BY rank DESC"
    ).to_pylist()
    found = pictures(ask, rows)
    return {row["camera"]: found[row["content_id"]] for row in rows if row["content_id"] in found}


def _videos(ask: Callable[[str], Rows], chosen: str) -> Rows:
    return ask(
        'SELECT v.video_id, min(v.uri) AS uri, min(v.camera) AS camera, min(v."date") AS "date", '
        "max(v.duration_s) AS duration_s, max(v.width_px) AS width_px, max(v.height_px) AS height_px, "
        "max(v.recorded_at) AS recorded_at, max(a.status) AS status, max(a.rows_objects) AS objects, "
        f"max(a.rows_events) AS events FROM (SELECT * FROM videos WHERE {chosen}) AS v "
        "LEFT JOIN analyses_current AS a ON a.video_id = v.video_id GROUP BY v.video_id "
        "ORDER BY camera, recorded_at, uri"
    )
