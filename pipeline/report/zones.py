"""The page on which lines and zones are drawn over a scene and counted at once against its stored tracks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import Rule
from pipeline.errors import UsageError
from pipeline.lake.lookup import quoted
from pipeline.lake.query import Reading
from pipeline.media.sampling import sample_step_s
from pipeline.report import web
from pipeline.report.gather import Record, find, gather
from pipeline.report.scene import scene_of

SCRIPTS = ("base.js", "count.js", "zones.js")

MAX_ROWS = 150_000
"""Track rows that a page holds: whole videos, the newest first, and of the first what fits."""

MAX_VIDEOS = 50


def find_scene(lake: str, wanted: str) -> list[Record]:
    """The videos that are meant: of a camera the newest ones, else the one that `find` finds.

    Those with a result come first: what failed has neither tracks nor rules, and often no size.

    Raises:
        UsageError: nothing is called so.
    """
    ask = Reading(lake)
    of_camera = ask(
        "SELECT v.video_id, max(v.recorded_at) AS newest, max(a.revision) IS NULL AS without "
        "FROM videos AS v LEFT JOIN analyses_current AS a ON a.video_id = v.video_id "
        f"WHERE v.camera = {quoted(wanted)} GROUP BY v.video_id "
        f"ORDER BY without, newest DESC NULLS LAST LIMIT {MAX_VIDEOS}",
    )["video_id"].to_pylist()
    if not of_camera:
        return [gather(ask, find(ask, wanted)[0], max_tracks=MAX_ROWS)]
    records: list[Record] = []
    for video_id in of_camera:
        left = MAX_ROWS - sum(record.tracks.num_rows for record in records)
        if left > 0:
            records.append(gather(ask, video_id, max_tracks=left))
    return [record for record in records if record.size == records[0].size]


def write_zones(records: Sequence[Record], out: Path, rules: Sequence[Rule] | None = None) -> Path:
    """Write the page into a folder; returns its path.

    Args:
        records: videos of one scene, of one size.
        out: folder, made if missing.
        rules: what is drawn at first; by default the rules that the first video was analysed with.

    Raises:
        StorageError: the page cannot be written.
    """
    if not records:
        raise UsageError("there is no video")
    first = records[0]
    pictures = (scene_of(record) for record in records[:3])
    picture = next((found for found in pictures if found is not None), None)
    width, height = first.size
    camera = first.video["camera"]
    data = {
        "width": width,
        "height": height,
        "picture": web.data_uri(picture, 1280) if picture is not None else None,
        "camera": camera,
        "rules": [
            _rule(rule, first.size) for rule in (first.rules if rules is None else rules) if _drawn(rule)
        ],
        "tracks": _anchors(records),
        "hold_s": _hold_s(first),
    }
    title = f"Lines and zones of {camera if camera is not None else Path(first.video['uri']).name}"
    page = web.render("zones.html", SCRIPTS, title=title, data=data, num_videos=len(records))
    web.write(out / "index.html", page)
    return out / "index.html"


def _hold_s(record: Record) -> float:
    """Seconds for which an object may be unseen inside, as the rules take it, which follows the samples."""
    sample_fps = record.config.get("video", {}).get("sample_fps")
    return max(1.0, 1.5 * sample_step_s(sample_fps, record.video["fps_mean"]))


def _drawn(rule: Rule) -> bool:
    return rule.line is not None or rule.zone is not None


def _rule(rule: Rule, size: tuple[int, int]) -> dict[str, Any]:
    """A rule as the page keeps it: corners as shares of the picture, other keys as they are."""
    x, y = (1, 1) if rule.units == "normalised" else size
    corners = [[px / x, py / y] for px, py in rule.line or rule.zone or ()]
    drawn = ("name", "kind", "line", "zone", "units")
    rest = rule.model_dump(mode="json", exclude_defaults=True, exclude=set(drawn))
    return {
        "name": rule.name,
        "kind": rule.kind,
        "points": corners,
        "closed": rule.zone is not None,
        "rest": rest,
    }


def _anchors(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Bottom centres (x, y), box heights, times and classes of each track, rounded to tenths of a pixel.

    `class` holds a class for each row, as rules see them, or is one where all rows have it.
    """
    found: list[dict[str, Any]] = []
    left = MAX_ROWS
    for number, record in enumerate(records):
        rows = record.tracks.slice(0, left)
        left -= rows.num_rows
        found += _of_video(number, rows.sort_by([("track_id", "ascending"), ("t", "ascending")]))
    return found


def _of_video(number: int, rows: pa.Table) -> list[dict[str, Any]]:
    if rows.num_rows == 0:
        return []
    ids = rows["track_id"].to_numpy()
    x1, y1, x2, y2, t = (rows[name].to_numpy().astype(np.float64) for name in ("x1", "y1", "x2", "y2", "t"))
    kinds = rows["class"].to_pylist()
    starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))
    tracks = []
    for begin, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        part = slice(begin, end)
        kind = kinds[part]
        tracks.append(
            {
                "video": number,
                "class": kind if len(set(kind)) > 1 else kind[0],
                "t": np.round(t[part], 3).tolist(),
                "x": np.round((x1 + x2)[part] / 2, 1).tolist(),
                "y": np.round(y2[part], 1).tolist(),
                "h": np.round(np.maximum(y2 - y1, 1)[part], 1).tolist(),
            }
        )
    return tracks
