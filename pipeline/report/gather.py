"""All that a lake knows of one video, found by its name, its id, or the id of an event."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from pipeline.config import Config, Rule
from pipeline.errors import UsageError
from pipeline.lake.current import BASE, RUN
from pipeline.lake.lookup import SMALL, column_list, literals, pictures_sql, quoted
from pipeline.lake.query import Reading
from pipeline.lake.schema import STAGES, TABLES
from pipeline.report.motion import hold_s
from pipeline.sources import name_of

Row = Mapping[str, Any]

_ORDER = {"tracks": "track_id, sample", "objects": "track_id", "events": "t_start, event_id"}


@dataclass(frozen=True)
class Record:
    """What is current of one video.

    `video` is its row of `videos`, `aliases` the rows of its further names, `analysis` that of
    `analyses_current` (None: it was never analysed with success), `failures` the rows of `analyses` that
    failed since; `tracks`, `objects`, `events` are rows of these tables in order of time, `sample_times` (N,)
    the seconds of all sampled frames. `file` is the video on this disk, if it is there, `thumbnail` a small
    JPEG of its first frame.
    """

    video: Row
    analysis: Row | None
    failures: tuple[Row, ...]
    config: Mapping[str, Any]
    tracks: pa.Table
    objects: pa.Table
    events: pa.Table
    sample_times: pa.ChunkedArray
    file: Path | None = None
    thumbnail: bytes | None = None
    aliases: tuple[Row, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in displayed pixels; where they are not known, such as hold all boxes."""
        width, height = self.video["width_px"], self.video["height_px"]
        if width and height:
            return width, height
        far = [max((v for v in self.tracks[name].to_pylist()), default=0.0) for name in ("x2", "y2")]
        return max(int(far[0]), 16), max(int(far[1]), 9)

    @property
    def duration_s(self) -> float:
        """Seconds; where the container does not say, up to the last that is known."""
        known = self.video["duration_s"]
        if known:
            return float(known)
        ends = [*self.objects["t_end"].to_pylist(), *self.events["t_end"].to_pylist()]
        return float(max([*ends, *self.sample_times.to_pylist()[-1:], 0.1]))

    @property
    def hold_s(self) -> float:
        """Seconds between two samples up to which an object is taken for there between them."""
        return hold_s(self.config.get("video", {}).get("sample_fps"), self.video["fps_mean"])

    @property
    def kinds(self) -> pa.ChunkedArray:
        """What the object of each row of `tracks` is called; `tracks.class` is what was known by then."""
        at = pc.index_in(self.tracks["track_id"], self.objects["track_id"])
        return pc.coalesce(self.objects["class"].take(at), self.tracks["class"])

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of its config that were for its camera; none where this program cannot read them."""
        try:
            return Config.model_validate({"rules": self.config.get("rules", ())}).rules_for(
                self.video["camera"]
            )
        except ValidationError:
            return ()


def find(lake: str | Reading, wanted: str) -> tuple[str, Row | None]:
    """The video_id that is meant, and the event if it was named by one.

    Args:
        lake: the lake.
        wanted: a video's path, address or id, the end of a path that only one has, or an event's id; ids may
            be cut short to eight or more digits.

    Raises:
        UsageError: nothing is called so, or more than one thing.
    """
    wanted = name_of(wanted)  # a signed address, too, whose query is not to be told
    names = literals(sorted({wanted, os.path.abspath(wanted)}))
    begin, end = f"starts_with({{}}, {quoted(wanted)})", f"ends_with(uri, {quoted('/' + wanted)})"
    short = len(wanted) >= 8
    asked = [
        f"SELECT DISTINCT video_id FROM videos WHERE uri IN ({names}) OR video_id = {quoted(wanted)}",
        f"SELECT DISTINCT video_id FROM videos WHERE {end}"
        + (f" OR {begin.format('video_id')}" if short else ""),
    ]
    ask = Reading.of(lake)
    for sql in asked:
        if ids := ask(sql)["video_id"].to_pylist():
            return _only(ids, wanted), None
    where = begin.format("event_id") if short else f"event_id = {quoted(wanted)}"
    events: list[dict[str, Any]] = ask(f"SELECT * FROM events WHERE {where}").to_pylist()
    if not events:
        raise UsageError(f"no video or event of lake {lake} is called {wanted}", remedy="see `marey query`")
    _only([event["event_id"] for event in events], wanted)
    return events[0]["video_id"], events[0]


def _only(ids: list[str], wanted: str) -> str:
    if len(ids) > 1:
        raise UsageError(f"{len(ids)} are called {wanted}", remedy=f"give an id, such as {ids[0]}")
    return ids[0]


def gather(
    lake: str | Reading, video_id: str, wanted: str | None = None, *, max_tracks: int | None = None
) -> Record:
    """Read what is current of a video.

    Args:
        lake: the lake; of many videos one reading.
        video_id: of which video.
        wanted: what the user called it by, as `find` takes it: of several names it comes first.
        max_tracks: rows of tracks, at most; of more those of the first tracks.

    Raises:
        StorageError: the lake cannot be read.
        UsageError: there is no such lake.
    """
    ask, mine = Reading.of(lake), f"WHERE video_id = {quoted(video_id)}"
    current = _rows(ask, f"SELECT * FROM analyses_current {mine}")
    analysis = current[0] if current else None
    names = _rows(ask, f"SELECT {column_list(SMALL['videos'].names)} FROM videos {mine} ORDER BY uri")
    since = analysis["revision"] if analysis else 0
    failures = _rows(
        ask, f"SELECT * FROM analyses {mine} AND status = 'failed' AND revision > {since} ORDER BY revision"
    )
    called = None if wanted is None else name_of(wanted)
    names.sort(key=lambda name: _rank(name["uri"], called, analysis["uri"] if analysis else None))
    video = names[0]
    bounds = {} if max_tracks is None else {"tracks": f" LIMIT {max_tracks}"}
    tables = {
        name: stored(ask, analysis, name, order + bounds.get(name, "")) for name, order in _ORDER.items()
    }
    return Record(
        video=video,
        analysis=analysis,
        failures=tuple(failures),
        config=_config(ask, analysis),
        sample_times=stored(ask, analysis, "frames", "t", ["t"])["t"],
        file=_file(video["uri"]),
        thumbnail=pictures(ask, names).get(video["content_id"]),
        aliases=tuple(names[1:]),
        **tables,
    )


def stored(
    lake: str | Reading, analysis: Row | None, name: str, order: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Rows of an analysis from a table, looked for under its date: the views look through all dates.

    Args:
        lake: the lake.
        analysis: a row of `analyses_current`; None: there are no rows.
        name: frames, detections, tracks, objects or events.
        order: columns by which the rows are sorted, in SQL, and what may follow them.
        columns: of the lake's table; by default those of the stage's schema.
    """
    stage, table = STAGES[name], TABLES[name]
    chosen = stage if columns is None else pa.schema([table.field(column) for column in columns])
    if analysis is None:
        return chosen.empty_table()
    listed = column_list(chosen.names)
    run = f"video_id = {quoted(analysis['video_id'])} AND run_id = {quoted(analysis[RUN[name]])}"
    # Older programs could leave an analysis of another date than its rows.
    for where in (f"{run} AND \"date\" = DATE '{analysis['date']}'", run):
        rows = Reading.of(lake)(f"SELECT {listed} FROM {BASE[name]} WHERE {where} ORDER BY {order}")
        if rows.num_rows or not analysis[f"rows_{name}"]:
            break
    return rows.cast(chosen)


def _rank(uri: str, wanted: str | None, read_as: str | None) -> tuple[bool, bool, bool]:
    """Order of a video's names: the one the user gave, a file that is here, that of the analysis."""
    called = wanted is not None and (uri in (wanted, os.path.abspath(wanted)) or uri.endswith("/" + wanted))
    return not called, _file(uri) is None, uri != read_as


def _file(uri: str) -> Path | None:
    path = Path(uri)
    return path if path.is_absolute() and path.is_file() else None


def pictures(ask: Reading, names: Iterable[Row]) -> dict[str, bytes]:
    """Thumbnails of names, rows with uri and content_id, by content_id. Ask for some: they lie in memory."""
    sql = pictures_sql(BASE["videos"], ((name["uri"], name["content_id"]) for name in names))
    rows = [] if sql is None else _rows(ask, sql)
    return {row["content_id"]: row["thumbnail"] for row in rows}


def _config(ask: Reading, analysis: Row | None) -> Mapping[str, Any]:
    if analysis is None or analysis["config_id"] is None:
        return {}
    where = f"config_id = {quoted(analysis['config_id'])}"
    rows = _rows(ask, f"SELECT config FROM configs WHERE {where} LIMIT 1")
    found: Mapping[str, Any] = json.loads(rows[0]["config"]) if rows else {}
    return found


def _rows(ask: Reading, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ask(sql).to_pylist(maps_as_pydicts="lossy")
    return rows
