"""Another config over stored perceptions: tracking or only events anew, and no video is opened."""

from __future__ import annotations

import fnmatch
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ValidationError

from pipeline.analyze.changes import rule_counts
from pipeline.analyze.outcome import Options, Reporter, Silent, Summary, VideoResult
from pipeline.analyze.plan import Step, VideoPlan, vectors_suffice
from pipeline.analyze.run import Run
from pipeline.analyze.tools import Tools
from pipeline.analyze.trial import stored_events, try_out
from pipeline.config import Config, PerceiveConfig, VideoConfig
from pipeline.lake import Lake
from pipeline.lake.lookup import SMALL, History, column_list, histories
from pipeline.lake.query import query
from pipeline.lake.records import Analysis, VideoName
from pipeline.lake.vectors import runs_without
from pipeline.sources import Source

Sections = tuple[VideoConfig, PerceiveConfig]

_BLOCK = 500  # videos whose histories are read at once, and names that become Python's
_BARE = "its vectors were dropped after lake.keep_vectors_days; `analyze --upgrade` perceives it anew"
_UNKNOWN = "it was perceived with settings unknown to this marey; use that one, or `analyze --upgrade` here"


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
        config: its sections video and perceive do not matter: each video keeps those it was perceived with.
        camera: shell pattern; `*` takes also videos without a camera.
        dry_run: count what would change, and write nothing.
        reporter: where progress goes.

    Raises:
        UsageError: there is no lake.
        ModelError: weights cannot be used; nothing was begun.
        StorageError: the lake cannot be read or written; videos committed before stay.
    """
    reporter = reporter or Silent()
    began = time.monotonic()
    lake = Lake.open(lake_uri, create=False, extend=True)
    groups = _groups(lake, camera)
    reporter.begin(sum(len(group.names) for group in groups))
    results: list[VideoResult] = []
    for group in groups:
        if group.sections is None:
            results += _left_alone(group, reporter)
            continue
        run = Run(
            lake, Tools(_over(config, *group.sections), perceives=False), Options(dry_run=dry_run), reporter
        )
        run.interpret_all(list(group.names), partial(_plans, run, group))
        results += run.results
    return Summary(tuple(results), time.monotonic() - began)


@dataclass
class _Group:
    """Videos that were perceived with one setting of the sections video and perceive."""

    sections: Sections | None  # None: another version of the program perceived them, with values of its own
    names: dict[str, VideoName] = field(default_factory=dict)  # by video_id


def _over(config: Config, video: VideoConfig, perceive: PerceiveConfig) -> Config:
    """The config that a reinterpretation of what was perceived so has."""
    return config.model_copy(update={"video": video, "perceive": perceive})


def _left_alone(group: _Group, reporter: Reporter) -> Iterator[VideoResult]:
    """Say of each video of a group why nothing is done."""
    for video, name in group.names.items():
        result = VideoResult(name.uri, "other_config", video, name.duration_s, note=_UNKNOWN)
        reporter.note(f"{name.uri} stays as it is: {_UNKNOWN}")
        reporter.done(result)
        yield result


def _groups(lake: Lake, camera: str) -> list[_Group]:
    """The videos of the cameras, by what they were perceived with."""
    named = _of_cameras(_rows(lake, "videos", SMALL["videos"].names), camera)
    rows = _rows(lake, "analyses_current", ("video_id", "uri", "config_id"))
    rows = rows.filter(pc.is_in(rows["video_id"], value_set=named["video_id"].unique()))
    videos, uris, configs = (column.to_pylist() for column in rows.columns)
    read_as, made_with = dict(zip(videos, uris, strict=True)), dict(zip(videos, configs, strict=True))
    names: dict[str, VideoName] = {}
    for row in chain.from_iterable(batch.to_pylist() for batch in named.to_batches(max_chunksize=_BLOCK)):
        video = row["video_id"]
        # Of several names the one under which the bytes were read.
        if video in read_as and (video not in names or row["uri"] == read_as[video]):
            names[video] = VideoName.from_row(row)
    sections = _perceived_with(lake)
    groups: list[_Group] = []
    for video, name in sorted(names.items(), key=lambda item: (item[1].camera or "", item[1].uri)):
        wanted = sections[made_with[video]]
        group = next((group for group in groups if group.sections == wanted), None)
        if group is None:
            group = _Group(wanted)
            groups.append(group)
        group.names[video] = name
    return groups


def _perceived_with(lake: Lake) -> Mapping[str | None, Sections | None]:
    """The sections that decide a perception, by config_id; defaults where the config is not known.

    None where another version wrote values that this one does not take.
    """
    found: dict[str | None, Sections | None] = defaultdict(lambda: (VideoConfig(), PerceiveConfig()))
    for row in _rows(lake, "configs", ("config_id", "config")).to_pylist():
        try:
            stored = json.loads(row["config"])
            video = VideoConfig.model_validate(_known(VideoConfig, stored["video"]))
            perceive = PerceiveConfig.model_validate(_known(PerceiveConfig, stored["perceive"]))
            found[row["config_id"]] = (video, perceive)
        except (ValidationError, ValueError, KeyError):
            found[row["config_id"]] = None
    return found


def _known(kind: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without those of keys that this program no longer has."""
    return {key: value for key, value in values.items() if key in kind.model_fields}


def _rows(lake: Lake, view: str, columns: Sequence[str]) -> pa.Table:
    return query(str(lake.location), f"SELECT {column_list(columns)} FROM {view}")


def _of_cameras(rows: pa.Table, pattern: str) -> pa.Table:
    """Rows of the cameras alone, chosen as Arrow: as Python's objects all rows take far more memory."""
    wanted = [c for c in rows["camera"].unique().to_pylist() if fnmatch.fnmatchcase(c or "", pattern)]
    return rows.filter(pc.is_in(rows["camera"], value_set=pa.array(wanted, pa.string())))


def _plans(run: Run, group: _Group, videos: Sequence[str]) -> Iterator[VideoPlan]:
    """What differs from the current result, video by video; the others are reported at once."""
    for begin in range(0, len(videos), _BLOCK):
        found, bare = histories(run.lake, videos[begin : begin + _BLOCK]), runs_without(run.lake)
        sections = _perceived_with(run.lake)
        for video, history in found.items():
            name, current = group.names[video], history.current
            if current is None or sections[current.config_id] != group.sections:  # another worker was here
                run.done(VideoResult(name.uri, "other_config", video, name.duration_s))
            elif (plan := _plan(run, name, history, current, bare)) is not None:
                yield plan


def _plan(run: Run, name: VideoName, history: History, current: Analysis, bare: str) -> VideoPlan | None:
    wanted = run.tools.ids_of(current.perception_id or "", current.camera)
    if wanted.analysis == current.analysis_id:
        counts = rule_counts(stored_events(run.lake, current)) if run.options.dry_run else {}
        run.done(VideoResult(name.uri, "current", name.video_id, name.duration_s, counts=counts))
        return None
    step = Step.EVENTS if wanted.tracking == current.tracking_id else Step.TRACKING
    name = replace(name, date=current.date)  # a copy may have another; rows of a video lie under one
    plan = VideoPlan(_source(name), name, wanted, step, history, perceived=current)
    if not vectors_suffice(plan, run.tools, bare):
        run.reporter.note(f"{name.uri} stays as it is: {_BARE}")
        run.done(VideoResult(name.uri, "other_config", name.video_id, name.duration_s, note=_BARE))
        return None
    if run.options.dry_run:
        changes, counts = try_out(run.lake, plan, current, run.tools)
        result = VideoResult(
            name.uri,
            "planned",
            name.video_id,
            name.duration_s,
            note=step.value,
            changes=changes,
            counts=counts,
        )
        run.done(result)
        return None
    run.reporter.video(name.uri, name.duration_s)
    return plan


def _source(name: VideoName) -> Source:
    """The name as a source; its file is not looked at."""
    epoch = datetime.fromtimestamp(0, UTC)
    return Source(name.uri, Path(name.uri), name.size_bytes, epoch, name.etag or "")
