"""What a dry run says beside its list: hours, bytes and time to expect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.analyze.outcome import Summary
from pipeline.errors import UsageError
from pipeline.lake.query import query

TABLES_MB_PER_HOUR = 25.6
"""Of a typical scene with vectors: `python -m bench.lake`."""

_LAST = (
    "SELECT DISTINCT a.video_id, v.duration_s, extract(epoch FROM a.started_at) AS began, "
    "extract(epoch FROM a.committed_at) AS ended "
    "FROM analyses_current AS a JOIN videos AS v ON a.video_id = v.video_id "
    "WHERE a.perception_run_id = a.events_run_id AND v.duration_s IS NOT NULL "
    "ORDER BY ended DESC LIMIT 1000"
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
    speed = _speed(lake_uri)
    size = sum(result.size_bytes or 0 for result in planned)
    work = sum(known) / speed if speed else None
    return Estimate(len(planned), sum(known) / 3600, len(planned) - len(known), size, work)


def _speed(lake_uri: str) -> float | None:
    """Seconds of video that the lake's last analyses took in per second; None if there is none.

    Short videos are begun and committed together: what counts is the time in which any was at work.
    """
    try:
        last = query(lake_uri, _LAST).sort_by("began")
    except UsageError:  # there is no lake yet
        return None
    video_s, began, ended = (
        last[name].to_numpy().astype(np.float64) for name in ("duration_s", "began", "ended")
    )
    if not len(video_s):
        return None
    before = np.maximum.accumulate(np.concatenate([[-np.inf], ended[:-1]]))
    work_s = float(np.maximum(ended - np.maximum(began, before), 0).sum())
    return float(video_s.sum()) / work_s if work_s > 0 else None
