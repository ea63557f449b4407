"""Another config over stored perceptions: tracking or only events anew, and no video is opened."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pipeline import ids
from pipeline.analyze.job import Run
from pipeline.analyze.outcome import Options, Reporter, Silent, Summary, VideoResult
from pipeline.analyze.plan import Step, VideoPlan
from pipeline.analyze.tools import Ids, Tools
from pipeline.config import Config
from pipeline.lake import Lake
from pipeline.lake.lookup import histories, known_videos
from pipeline.lake.query import query
from pipeline.lake.records import Analysis, VideoName
from pipeline.sources import Source


def reinterpret(
    lake_uri: str,
    config: Config,
    *,
    camera: str = "*",
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> Summary:
    """Make `config` current for all videos of the cameras, from what is stored.

    Args:
        lake_uri: the lake.
        config: its sections video and perceive do not matter here.
        camera: shell pattern; `*` takes also videos without a camera.
        dry_run: plan only.
        reporter: where progress goes.

    Raises:
        ModelError: weights cannot be used; nothing was begun.
        StorageError: there is no lake, or it cannot be written; videos committed before stay.
    """
    reporter = reporter or Silent()
    began = time.monotonic()
    lake = Lake.open(lake_uri, create=False)
    run = Run(lake, Tools(config), Options(dry_run=dry_run), reporter)
    videos = _videos(lake, camera)
    reporter.begin(len(videos))
    run.interpret_all(lambda wanted: _plans(run, lake, [v for v in videos if wanted is None or v in wanted]))
    return Summary(tuple(run.results), time.monotonic() - began)


def _videos(lake: Lake, camera: str) -> list[str]:
    rows = query(str(lake.location), "SELECT DISTINCT video_id, camera FROM videos ORDER BY camera, video_id")
    return [r["video_id"] for r in rows.to_pylist() if fnmatch.fnmatchcase(r["camera"] or "", camera)]


def _plans(run: Run, lake: Lake, videos: list[str]) -> Iterator[VideoPlan]:
    """What differs from the current result, video by video; the others are reported at once."""
    for video in videos:
        history = histories(lake, [video])[video]
        current = history.current
        if current is None:
            continue
        name = known_videos(lake, [current.uri])[current.uri]
        wanted = _ids(run.tools, current)
        if wanted.analysis == current.analysis_id:
            run.done(VideoResult(current.uri, "current", video, name.duration_s))
            continue
        step = Step.EVENTS if wanted.tracking == current.tracking_id else Step.TRACKING
        if run.options.dry_run:
            run.done(VideoResult(current.uri, "planned", video, name.duration_s, note=step.value))
            continue
        yield VideoPlan(_source(name), name, wanted, step, history, perceived=current)


def _ids(tools: Tools, current: Analysis) -> Ids:
    perception = current.perception_id or ""
    tracking = ids.tracking_id(perception, tools.config, {"motion": tools.digests["motion"]})
    analysis = ids.analysis_id(tracking, tools.config, tools.event_digests, current.camera)
    return Ids(perception, tracking, analysis)


def _source(name: VideoName) -> Source:
    """The name as a source; its file is not looked at."""
    epoch = datetime.fromtimestamp(0, UTC)
    return Source(name.uri, Path(name.uri), name.size_bytes, epoch, name.etag or "")
