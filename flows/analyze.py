"""Flows over the main job: one video, or many in shards. The command and the flows cannot differ.

    analyze_video   one video, a long one by several workers (flows/ranges.py)   one task
    analyze_batch   files, directories and globs, in shards of videos            a task per shard, in order

A shard whose lake cannot be reached, or of which a decoding process died, is tried again later; what failed
because of its bytes or of the config is not. The lake is the record of what is done, so a second attempt,
and a second run, take up only what is missing.

A run ends `Failed` when an input failed, after all the others are done; its message says how many and which
first. It ends at once when the config is wrong, and stops at the shard where the lake or the weights fail.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, cast
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, task_run
from prefect.states import Completed, Failed
from pydantic import Field

from flows import report
from flows.gpu import one_per_gpu
from flows.pictures import timelines
from flows.ranges import RANGE_SEGMENTS, TIMEOUT_S, perceive_together
from flows.report import LogReporter, Video
from flows.server import shown
from flows.settings import Settings, read_settings
from flows.submit import SHARD_SIZE
from flows.tags import TAG, named_by, tag_run
from pipeline import allowed
from pipeline.analyze import Options, VideoResult, analyze
from pipeline.analyze.plan import final
from pipeline.analyze.ranges import Shared
from pipeline.cli.text import printable
from pipeline.config import Config
from pipeline.errors import MareyError, ModelError, SourceError, StorageError, UsageError
from pipeline.lake.location import Location
from pipeline.sources import Missing, Source, find, name_of

__all__ = ["AnalysisFailed", "analyze_batch", "analyze_shard", "analyze_video"]


class AnalysisFailed(MareyError):
    """Videos failed, or the work broke off at `cause`. `videos` says what became of those met."""

    def __init__(self, message: str, videos: Sequence[Video], cause: Exception | None = None) -> None:
        super().__init__(message)
        self.videos, self.cause = list(videos), cause
        self.summary: dict[str, Any] = {}
        if isinstance(cause, MareyError):
            self.exit_code, self.code, self.retry = cause.exit_code, cause.code, cause.retry
        elif cause is None:
            # What an earlier run failed at carries a note, and is not for this run to try again.
            self.retry = any(not final(v["error_code"]) and not v["note"] for v in report.failed(videos))


def _shard_run_name() -> str:
    return report.named(task_run.parameters["inputs"])


def may_succeed_later(_task: object, _run: object, state: State[Any]) -> bool:
    """Whether a failed shard is worth another attempt: by the class of its error."""
    error = state.data
    return isinstance(error, MareyError) and error.retry


@task(
    name="analyze-shard",
    task_run_name=_shard_run_name,
    tags=[TAG],
    retries=3,
    retry_delay_seconds=[10, 30, 90],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_succeed_later,
    cache_policy=NO_CACHE,
    timeout_seconds=TIMEOUT_S,
)
def analyze_shard(inputs: list[str], lake: str, config: Config, options: Options) -> State[Any]:
    """Analyse some videos into a lake; the state's data are the results, or an AnalysisFailed."""
    logger = get_run_logger()
    reporter = LogReporter(logger)
    if task_run.run_count > 1:
        options = replace(options, retry_failed=True)
    try:
        with one_per_gpu(config, logger.info):
            results: Sequence[VideoResult] = analyze(inputs, lake, config, options, reporter).results
        videos = report.plain(report.with_stored_rows(lake, results))
    except Exception as exc:
        if not isinstance(exc, MareyError):
            logger.exception("a mistake in the program")
        error = AnalysisFailed(_told(exc), report.plain(reporter.results), exc)
        return Failed(message=str(error), data=error)
    if report.failed(videos):
        error = AnalysisFailed(report.failure_text(videos), videos)
        return Failed(message=str(error), data=error)
    return Completed(message=report.states_text(videos), data=videos)


@flow(name="analyze-video", flow_run_name=named_by("video"), retries=0)
def analyze_video(
    video: str,
    lake: str,
    config: Settings = None,
    upgrade: bool = False,
    force: bool = False,
    retry_failed: bool = False,
    range_segments: Annotated[int, Field(ge=1)] = RANGE_SEGMENTS,
) -> Any:
    """Analyse one video into a lake.

    Args:
        video: path of the file.
        lake: the lake's directory; made if it is not there.
        config: path of a TOML file, or values by key; defaults for what it does not name.
        upgrade: also if it has a current result of another config.
        force: make this config current again, whatever is there.
        retry_failed: also if it failed before, for another reason than its bytes.
        range_segments: under a worker, a video of more segments is offered to others in ranges of so many.

    Returns:
        Counts of states and rows, and failures with their reasons, as plain JSON.

    Raises:
        AnalysisFailed: the video could not be analysed.
        MareyError: the config or an argument is wrong; nothing was begun.
    """
    options = Options(upgrade, force, retry_failed)
    return _run([video], lake, config, options, 1, range_segments=range_segments)


@flow(name="analyze-batch", flow_run_name=named_by("inputs"), retries=0)
def analyze_batch(
    inputs: Annotated[list[str], Field(min_length=1)],
    lake: str,
    config: Settings = None,
    upgrade: bool = False,
    force: bool = False,
    retry_failed: bool = False,
    since: datetime | None = None,
    shard_size: Annotated[int, Field(ge=1)] = SHARD_SIZE,
) -> Any:
    """Analyse many videos into a lake, a task per shard of them.

    Args:
        inputs: files, directories and globs.
        lake: the lake's directory; made if it is not there.
        config: path of a TOML file, or values by key; defaults for what it does not name.
        upgrade: also videos with a current result of another config.
        force: make this config current again, whatever is there.
        retry_failed: also what failed before, for another reason than its bytes.
        since: files of directories and globs that were last changed before it (UTC) are left out.
        shard_size: videos per task: what is reported, and tried again, together.

    Returns:
        Counts of states and rows, and failures with their reasons, as plain JSON.

    Raises:
        AnalysisFailed: videos failed, the others are done; or lake or weights cannot be used.
        MareyError: the config or an argument is wrong, or no input exists; nothing was begun.
    """
    return _run(inputs, lake, config, Options(upgrade, force, retry_failed), shard_size, since)


@dataclass
class _Batch:
    """What became of the videos so far, and what stopped the work if something did."""

    lake: str
    began: float = field(default_factory=time.monotonic)
    videos: list[Video] = field(default_factory=list)
    stopped: str = ""

    def take(self, uris: Sequence[str], state: State[Any]) -> None:
        """Take in the end of a shard."""
        outcome = state.result(raise_on_failure=False)
        if not isinstance(outcome, Exception):
            self.videos += outcome
            return
        error = outcome
        if not isinstance(error, AnalysisFailed):
            error = AnalysisFailed(_told(outcome), [], outcome)
        self.videos += error.videos
        if error.cause is not None:
            met = {video["uri"] for video in error.videos}
            self.videos += _not_done([uri for uri in uris if uri not in met], str(error), error.code)
            if isinstance(error.cause, StorageError | ModelError):
                self.stopped = str(error)

    def leave(self, uris: Sequence[str]) -> None:
        """Note what was not begun."""
        self.videos += _not_done(uris, f"not begun: {self.stopped}", "not_begun")

    def end(self) -> State[Any]:
        """Publish the artifacts and say how it ended."""
        result = report.summary(self.lake, self.videos, time.monotonic() - self.began)
        with shown("a report of this run", _warn):
            self._publish(result)
        if not report.failed(self.videos):
            return Completed(message=report.states_text(self.videos), data=result)
        error = AnalysisFailed(self._failure(), self.videos)
        error.summary = result
        return Failed(message=str(error), data=error)

    def _publish(self, result: dict[str, Any]) -> None:
        if self.videos:
            create_table_artifact(
                report.result_table(self.videos), "marey-videos", "What became of each video"
            )
        create_link_artifact(report.address(self.lake), report.named([self.lake]), "marey-lake", "The lake")
        page = report.page(result, self.videos, self.stopped) + _pictures(self.lake, self.videos)
        create_markdown_artifact(page, "marey-report", report.states_text(self.videos))

    def _failure(self) -> str:
        if not self.stopped:
            return report.failure_text(self.videos)
        num_done = len(self.videos) - len(report.failed(self.videos))
        return f"{self.stopped} ({num_done} of {len(self.videos)} videos are done)"


def _run(
    inputs: Sequence[str],
    lake: str,
    settings: Settings,
    options: Options,
    shard_size: int,
    since: datetime | None = None,
    range_segments: int | None = None,
) -> State[Any]:
    tag_run(lake)
    begun: Shared | None = None
    try:
        config = read_settings(settings)
        Location.parse(lake)
        allowed.check(lake)
        entries = _find(inputs, _utc(since))
        if range_segments is not None and len(entries) != 1:
            raise UsageError(f"{inputs[0]} is {len(entries)} videos", remedy="give one, or run analyze-batch")
        if range_segments is not None and deployment.id:
            begun = perceive_together(inputs[0], lake, settings, config, options, range_segments)
    except MareyError as exc:
        return Failed(message=str(exc), data=exc)
    if begun is None:
        return _in_shards(entries, lake, config, options, shard_size)
    try:
        going_on = replace(options, attempt_id=begun.attempt.attempt_id)
        return _in_shards(entries, lake, config, going_on, shard_size)
    finally:
        begun.give_up()  # if the analysis did not come to it


def _in_shards(
    entries: Sequence[Source | Missing], lake: str, config: Config, options: Options, shard_size: int
) -> State[Any]:
    batch = _Batch(lake)
    for entry in entries:
        if isinstance(entry, Missing):
            batch.videos += _not_done([entry.uri], str(entry.error), entry.error.code)
    parts = list(shards([entry for entry in entries if isinstance(entry, Source)], shard_size))
    progress = _Progress(len(parts), len(entries))
    for part in parts:
        uris, asked = [source.uri for source in part], [source.asked for source in part]
        if batch.stopped:
            batch.leave(uris)
        else:
            batch.take(uris, analyze_shard(asked, lake, config, options, return_state=True))
            progress.step()
    return batch.end()


def _find(inputs: Sequence[str], since: datetime | None) -> list[Source | Missing]:
    """What the inputs name. What may not be used fails alone: a listing holds what others put there.

    Raises:
        UsageError: there is nothing that may be used; see also `pipeline.sources.find`.
    """
    refused = [_refused(uri, error) for uri in inputs if (error := allowed.refusal(uri)) is not None]
    asked = [uri for uri in inputs if allowed.refusal(uri) is None]
    listed = find(asked, since=since, say=_warn) if asked or not inputs else []
    entries = list({entry.uri: entry for entry in (*refused, *map(_judged, listed))}.values())
    errors = [entry.error for entry in entries if isinstance(entry, Missing)]
    if errors and len(errors) == len(entries):
        raise UsageError(errors[0].what, got=errors[0].got, remedy=errors[0].remedy, code=errors[0].code)
    return entries


def _judged(entry: Source | Missing) -> Source | Missing:
    error = allowed.refusal(entry.uri)
    return entry if error is None else _refused(entry.uri, error)


def _refused(uri: str, error: UsageError) -> Missing:
    return Missing(name_of(uri), SourceError(error.what, remedy=error.remedy, code="forbidden"))


class _Progress:
    """A bar in the browser, for batches of more than one shard."""

    def __init__(self, num_shards: int, num_videos: int) -> None:
        self._num_shards, self._done = num_shards, 0
        what = f"{num_videos} videos in {num_shards} shards"
        self._id: UUID | None = None
        if num_shards > 1:
            with shown("progress", _warn):
                self._id = cast(UUID, create_progress_artifact(0.0, "marey-progress", description=what))

    def step(self) -> None:
        """A shard is done."""
        self._done += 1
        if self._id is not None:
            with shown("progress", _warn):
                update_progress_artifact(self._id, progress=100 * self._done / self._num_shards)


def _pictures(lake: str, videos: Sequence[Video]) -> str:
    """Timelines for the report; without them it is a report still."""
    try:
        return timelines(lake, videos)
    except MareyError as exc:
        get_run_logger().warning("no timelines: %s", exc)
        return ""


def _warn(text: str) -> None:
    get_run_logger().warning("%s", printable(text))


def _utc(moment: datetime | None) -> datetime | None:
    """A time without a zone is UTC, as on the command line."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def shards(sources: Sequence[Source], size: int) -> Iterator[Sequence[Source]]:
    """The videos in groups of at most `size`, in order."""
    for start in range(0, len(sources), size):
        yield sources[start : start + size]


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, MareyError) else f"{type(error).__name__}: {error}"


def _not_done(uris: Iterable[str], error: str, code: str) -> list[Video]:
    return report.plain(VideoResult(uri, "failed", error_code=code, error=error) for uri in uris)
