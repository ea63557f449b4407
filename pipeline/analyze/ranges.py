"""One long video by several workers: each perceives a range of its segments, one interprets them all.

A range leaves staged segments and nothing else: no row tells of it. Whoever analyses the video afterwards
finds the segments and perceives what is still missing, so a range that was lost costs time and no rows. The
attempt at the video begins before its ranges, so that a video that kills its worker in one is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass

from pipeline.analyze.batcher import Batcher
from pipeline.analyze.ending import broken_off, running_row
from pipeline.analyze.outcome import Options, Reporter, Silent
from pipeline.analyze.perception import VideoWork, decode_job, open_work, segment_ticks
from pipeline.analyze.plan import Planner, Step, VideoPlan
from pipeline.analyze.probing import open_prober
from pipeline.analyze.tools import Tools, num_decoders
from pipeline.config import Config
from pipeline.errors import MareyError, SourceError
from pipeline.lake import Lake
from pipeline.lake.commit import commit, put_config, start_attempts
from pipeline.lake.lookup import histories
from pipeline.lake.records import Analysis
from pipeline.lake.staging import Staging
from pipeline.media import DecodeJob, Feed
from pipeline.sources import Missing, Spool, find

_ASKED_FOR = Options(force=True, retry_failed=True)
"""Who asks for a range has judged that the video is to be perceived; what is current meanwhile is not."""


@dataclass(frozen=True)
class Range:
    """Ticks of whole segments: `first` is in, `end` is not."""

    first: int
    end: int


@dataclass(frozen=True)
class Shared:
    """A video whose ranges several workers may perceive, and the running row of the attempt at it."""

    lake: Lake
    ranges: tuple[Range, ...]
    attempt: Analysis

    @contextmanager
    def breaking_off(self) -> Iterator[None]:
        """For work on the ranges: if it is broken off the attempt is given up, and not taken for killed."""
        try:
            yield
        except BaseException:
            self.give_up()
            raise

    def give_up(self) -> None:
        """End the attempt, unless it has come to an end."""
        video, attempt = self.attempt.video_id, self.attempt.attempt_id
        with suppress(MareyError):  # why it broke off is what is to be told
            own = histories(self.lake, {video})[video].of_attempt(attempt)
            if [row.status for row in own] == ["running"]:
                commit(self.lake, [broken_off(self.attempt)])


def share(
    video: str, lake_uri: str, config: Config, num_segments: int, options: Options | None = None
) -> Shared | None:
    """Begin an attempt at a video that may be perceived in ranges of `num_segments` segments.

    The analysis goes on with the attempt by `Options.attempt_id`.

    Returns:
        None, and nothing is begun, if the video has no more than one such range by its container's word, or
        needs no decoding by the options of its analysis.

    Raises:
        SourceError: the video cannot be had.
        StorageError: lake or bucket cannot be read or written.
    """
    with ExitStack() as stack:
        plan = _Plan.made(video, lake_uri, config, options or Options(), stack)
        if plan is None or len(parts := _ranges(plan.video, config, num_segments)) < 2:
            return None
        row = running_row(plan.video, put_config(plan.lake, config), plan.tools.weights_json(None))
        return Shared(plan.lake, parts, start_attempts(plan.lake, [row])[0])


def _ranges(plan: VideoPlan, config: Config, num_segments: int) -> tuple[Range, ...]:
    fps = config.video.sample_fps or plan.name.fps_mean or 25.0
    end = int((plan.name.duration_s or 0) * fps) + 1
    step = num_segments * segment_ticks(plan, config)
    return tuple(Range(first, min(first + step, end)) for first in range(0, end, step))


def perceive_range(
    video: str, lake_uri: str, config: Config, part: Range, reporter: Reporter | None = None
) -> int:
    """Perceive the segments of a range that are not yet staged; returns how many were.

    Each is kept as soon as it is finished. What is damaged or lost is left to the analysis of the video.

    Raises:
        SourceError: the video cannot be had.
        ModelError: weights cannot be used.
        StorageError: lake or bucket cannot be read or written; finished segments stay.
    """
    with ExitStack() as stack:
        plan = _Plan.made(video, lake_uri, config, _ASKED_FOR, stack)
        if plan is None:
            return 0
        work = open_work(plan.video, plan.staging, config, range(part.first, part.end))
        before = set(work.staged)
        _perceive(work, plan.tools, part, reporter or Silent())
        return len(set(work.staged) - before)


@dataclass(frozen=True)
class _Plan:
    video: VideoPlan
    lake: Lake
    staging: Staging
    tools: Tools

    @classmethod
    def made(
        cls, video: str, lake_uri: str, config: Config, options: Options, stack: ExitStack
    ) -> _Plan | None:
        """The plan of a video that is to be decoded, with its copy; None if it is not to be."""
        [source] = find([video])
        if isinstance(source, Missing):
            raise source.error
        lake = Lake.open(lake_uri, conditional_put=config.lake.conditional_put)
        tools = Tools(config)
        prober = stack.enter_context(open_prober())
        spool = stack.enter_context(Spool(int(config.run.max_spool_gb * 1e9)))
        planner = Planner(lake, tools, options, prober, spool)
        planner.look_up([source])
        plan = planner.plan(source)
        if plan is None or plan.error is not None or plan.step is not Step.PERCEPTION:
            return None
        return cls(plan, lake, Staging(lake, plan.ids.perception), tools)


def _perceive(work: VideoWork, tools: Tools, part: Range, reporter: Reporter) -> None:
    config = tools.config
    pixels = config.perceive.input_width * config.perceive.input_height
    with (
        closing(Batcher(tools)) as batcher,
        Feed(num_decoders(config), max_pixels=pixels) as feed,
    ):
        for item in feed.run(_jobs(work, part, config)):
            batcher.take(item, work, reporter)
            if work.error is not None:
                break
        if work.error is None:
            batcher.flush()
    if isinstance(work.error, SourceError):
        raise work.error


def _jobs(work: VideoWork, part: Range, config: Config) -> Iterator[DecodeJob]:
    for first, end in work.missing(part.first, part.end):
        work.ask(first, end)
        yield decode_job(work, first, end, config)
