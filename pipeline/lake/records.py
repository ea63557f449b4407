"""Rows of the small tables as dataclasses, and the rows of the big ones with their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, date, datetime
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.schema import ANALYSES, PARTITIONED, TABLES, VIDEOS

SUCCESS = ("ok", "partial")
ENDED = (*SUCCESS, "failed")
DROPPED = "dropped"
STATUSES = ("running", *ENDED, "crashed", "abandoned", DROPPED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """A row of `analyses`: one attempt at one video at one stage of its life.

    Fields are the columns, whose comments in `schema.ANALYSES` say what they mean. `revision` and
    `committed_at` are set by the commit.
    """

    video_id: str
    camera: str | None
    date: date
    run_id: str
    attempt_id: str
    uri: str
    status: str
    revision: int = 0
    perception_id: str | None = None
    tracking_id: str | None = None
    analysis_id: str | None = None
    perception_run_id: str | None = None
    tracking_run_id: str | None = None
    events_run_id: str | None = None
    config_id: str | None = None
    weights: str | None = None
    marey_version: str | None = None
    reader: str | None = None
    time_source: str | None = None
    runtime: str | None = None
    device: str | None = None
    rows_frames: int | None = None
    rows_detections: int | None = None
    rows_tracks: int | None = None
    rows_objects: int | None = None
    rows_events: int | None = None
    frames_sampled: int | None = None
    frames_failed: int | None = None
    gaps: tuple[Mapping[str, Any], ...] = ()
    started_at: datetime | None = None
    committed_at: datetime | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    error_code: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status is one of {STATUSES}, got {self.status!r}")
        runs = (self.perception_run_id, self.tracking_run_id, self.events_run_id, self.analysis_id)
        if self.status in SUCCESS and None in runs:
            raise ValueError(f"an analysis that is {self.status} names its analysis_id and its three runs")

    @property
    def succeeded(self) -> bool:
        return self.status in SUCCESS

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows by table."""
        return {table: getattr(self, f"rows_{table}") or 0 for table in PARTITIONED}

    @property
    def failed(self) -> bool:
        """Whether it failed; a file that changed or went while it was read says nothing of what it holds."""
        return self.status == "failed" and self.error_code not in ("changed", "unreadable")

    def ended(self, status: str, **values: Any) -> Self:
        """The row that ends this attempt; `revision` and `committed_at` come with its commit."""
        return replace(self, **{"revision": 0, "committed_at": None, **values, "status": status})

    def as_good_as(self, other: Analysis) -> bool:
        """Whether it loses no more of the video than another analysis with the same analysis_id."""
        if self.status != other.status:
            return self.status == "ok"
        return (self.frames_sampled or 0) >= (other.frames_sampled or 0)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        known = {name.name: row[name.name] for name in fields(cls) if name.name in row}
        known["gaps"] = tuple(known.get("gaps") or ())
        known["seconds"] = dict(known.get("seconds") or {})
        return cls(**known)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoName:
    """A row of `videos`: a name under which a content was seen. `seen_at` is when this version was met."""

    video_id: str
    camera: str | None
    date: date
    run_id: str
    uri: str
    etag: str | None
    size_bytes: int
    content_id: str
    seen_at: datetime
    duration_s: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    codec: str | None = None
    fps_mean: float | None = None
    rotation: int | None = None
    recorded_at: datetime | None = None
    recorded_at_source: str | None = None
    thumbnail: bytes | None = field(default=None, repr=False)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """`row` may lack the thumbnail: of many names it is not read."""
        return cls(**{name.name: row[name.name] for name in fields(cls) if name.name in row})


@dataclass(frozen=True)
class Place:
    """What the lake adds to a stage's rows: whose they are, where they lie, and what time it was."""

    video_id: str
    camera: str | None
    date: date
    run_id: str
    recorded_at: datetime | None = None


LATEST = datetime(2262, 1, 1, tzinfo=UTC)
"""Times from here on are null: engines that count nanoseconds know none after April 2262."""

_UTC_FROM = {"time_utc": "t", "start_utc": "t_start", "end_utc": "t_end"}


def place_rows(name: str, rows: pa.Table, place: Place) -> pa.Table:
    """A stage's rows as rows of table `name`: place columns in front, UTC times added.

    Raises:
        ValueError: `rows` lack a column of the stage's schema, or have one too many.
    """
    schema = TABLES[name]
    added = {"video_id": place.video_id, "camera": place.camera, "date": place.date, "run_id": place.run_id}
    expected = [column for column in schema.names if column not in added and column not in _UTC_FROM]
    if sorted(rows.schema.names) != sorted(expected):
        raise ValueError(f"rows for {name} need columns {expected}, got {rows.schema.names}")
    columns = []
    for target in schema:
        if target.name in added:
            columns.append(pa.repeat(pa.scalar(added[target.name], target.type), rows.num_rows))
        elif target.name in _UTC_FROM:
            columns.append(_utc(rows[_UTC_FROM[target.name]], place.recorded_at, target.type))
        else:
            columns.append(rows[target.name].cast(target.type))
    return pa.table(columns, schema=schema)


def analyses_table(rows: Iterable[Analysis]) -> pa.Table:
    return pa.Table.from_pylist([_row(row) for row in rows], schema=ANALYSES)


def names_table(rows: Iterable[VideoName]) -> pa.Table:
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=VIDEOS)


def stamped(row: Analysis, revision: int) -> Analysis:
    """The row as it is written now, as the video's revision."""
    return replace(row, revision=revision, committed_at=datetime.now(UTC))


def _row(analysis: Analysis) -> dict[str, Any]:
    values = {item.name: getattr(analysis, item.name) for item in fields(analysis)}
    return values | {"gaps": list(analysis.gaps), "seconds": list(analysis.seconds.items())}


def _utc(
    seconds: pa.ChunkedArray, recorded_at: datetime | None, kind: pa.DataType
) -> pa.Array | pa.ChunkedArray:
    if recorded_at is None:
        return pa.nulls(len(seconds), kind)
    told = pc.less(seconds, (LATEST - recorded_at).total_seconds())  # the clock of a file may leap by ages
    seconds = pc.if_else(told, seconds, pa.scalar(None, pa.float64()))
    micros = pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64()).cast(pa.duration("us"))
    return pc.add(micros, pa.scalar(recorded_at, kind)).cast(kind)
