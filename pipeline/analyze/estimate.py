"""What a dry run says beside its list: hours, bytes and time to expect."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.analyze.outcome import Summary
from pipeline.errors import UsageError
from pipeline.lake.query import query

TABLES_MB_PER_HOUR = 25.6
"""Of a typical scene with vectors: `python -m bench.lake`."""

_SPEED = (
    "SELECT sum(v.duration_s) AS video_s, "
    "sum(extract(epoch FROM a.committed_at) - extract(epoch FROM a.started_at)) AS work_s "
    "FROM analyses_current AS a JOIN videos AS v ON a.video_id = v.video_id "
    "WHERE a.perception_run_id = a.events_run_id AND v.duration_s IS NOT NULL"
)


@dataclass(frozen=True)
class Estimate:
    """Of the planned videos. `hours` and `work_s` are of those whose length is known."""

    videos: int
    hours: float
    unknown: int  # videos whose length is not known before they are read
    size_bytes: int
    work_s: float | None  # None: the lake has no analysis to go by


def estimate(summary: Summary, lake_uri: str) -> Estimate:
    """What the planned videos will take, by how long those in the lake took.

    Raises:
        StorageError: the lake cannot be read.
    """
    planned = [result for result in summary.results if result.state == "planned"]
    known = [result.duration_s for result in planned if result.duration_s is not None]
    try:
        [row] = query(lake_uri, _SPEED).to_pylist()
    except UsageError:  # there is no lake yet
        row = {"video_s": None, "work_s": None}
    work = sum(known) * row["work_s"] / row["video_s"] if row["video_s"] and row["work_s"] else None
    size = sum(result.size_bytes or 0 for result in planned)
    return Estimate(len(planned), sum(known) / 3600, len(planned) - len(known), size, work)
