"""The run over all inputs: plans, feeds decoders and CNN, interprets, commits in groups."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.analyze.interpret import Rows, Runs, Stopwatch, find_events, fresh_runs, interpret, stored_perception
from pipeline.analyze.outcome import Options, Reporter, Silent, State, Summary, VideoResult
from pipeline.analyze.perception import (
    Batcher,
    Facts,
    VideoWork,
    decode_job,
    finished,
    open_work,
    settle_error,
    without_frames,
)
from pipeline.analyze.plan import Planner, Step, VideoPlan, final, with_info
from pipeline.analyze.tools import Tools, program_version
from pipeline.config import Config
from pipeline.errors import ConflictError, MareyError
from pipeline.ids import new_run_id
from pipeline.lake import Lake
from pipeline.lake.commit import Decision, Ending, GroupCommit, Outcome, put_config, put_names, start_attempts
from pipeline.lake.records import Analysis
from pipeline.lake.staging import Staging
from pipeline.media import DecodeJob, Feed, JobEnd, JobStart, Letterbox, SampledFrame
from pipeline.sources import Missing, Source, find

_TRIES = 3
_MAX_LOST = 3  # segments in a row of which no frame came, before the rest of a file is given up


def analyze(
    inputs: Sequence[str],
    lake_uri: str,
    config: Config,
    options: Options | None = None,
    reporter: Reporter | None = None,
) -> Summary:
    """Analyse videos into a lake. What is done stays done whenever this is interrupted.

    Args:
        inputs: files, directories and globs.
        lake_uri: the lake's directory; made if it is not there.
        config: the resolved config.
        options: which videos are taken.
        reporter: where progress goes.

    Raises:
        UsageError: nothing to work on, or wrong config; nothing was begun.
        ModelError: weights cannot be used; nothing was begun.
        StorageError: the lake cannot be written; videos committed before stay.
    """
    options, reporter = options or Options(), reporter or Silent()
    began = time.monotonic()
    entries = find(inputs, since=options.since)
    tools = Tools(config)
    lake = Lake.open(lake_uri)
    with Feed(num_processes=1, ring_size=2, max_pixels=32 * 32) as prober:
        run = Run(lake, tools, options, reporter)
        run.analyze_all(entries, Planner(lake, tools, options, prober))
    return Summary(tuple(run.results), time.monotonic() - began)


@dataclass
class _Attempt:
    """A video being worked on."""

    plan: VideoPlan
    row: Analysis  # its running row
    runs: Runs
    started: float
    watch: Stopwatch = field(default_factory=Stopwatch)


class Run:
    """The state of one run: videos on their way, and results."""

    def __init__(self, lake: Lake, tools: Tools, options: Options, reporter: Reporter) -> None:
        self.lake, self.tools, self.options, self.reporter = lake, tools, options, reporter
        self.config = tools.config
        self.results: list[VideoResult] = []
        self.group = GroupCommit(lake, self.config.lake.commit_interval_s, self.config.lake.commit_videos)
        self.config_id = "" if options.dry_run else put_config(lake, self.config)
        self.works: dict[str, VideoWork] = {}
        self.attempts: dict[str, _Attempt] = {}  # by attempt_id, until their commit
        self.by_video: dict[str, _Attempt] = {}
        self.again: list[VideoPlan] = []  # overtaken by another worker: to be planned anew
        self.taken = 0

    def analyze_all(self, entries: Sequence[Source | Missing], planner: Planner) -> None:
        """Work through the inputs; on the way out what is finished is committed, the rest given up."""
        sources = [e for e in entries if isinstance(e, Source)]
        self.reporter.begin(len(entries))
        for entry in entries:
            if isinstance(entry, Missing):
                error = entry.error
                self.done(VideoResult(entry.uri, "failed", error_code=error.code, error=str(error)))
        with self._rounds() as rounds:
            for _ in rounds:
                planner.look_up([source.uri for source in sources])
                self._perceive_all(self._plans(planner, sources))
                self._settle(self.group.flush())
                sources = [plan.source for plan in self.again]

    def interpret_all(self, plans: Callable[[set[str] | None], Iterable[VideoPlan]]) -> None:
        """Redo what needs no decoding. `plans` is asked for all videos first, then for those overtaken."""
        wanted: set[str] | None = None
        with self._rounds() as rounds:
            for _ in rounds:
                for plan in plans(wanted):
                    self._reuse(self._start(plan))
                self._settle(self.group.flush())
                wanted = {plan.name.video_id for plan in self.again}

    @contextmanager
    def _rounds(self) -> Iterator[Iterator[None]]:
        """One round over everything, more over what other workers overtook. Broken off, it tidies up."""

        def rounds() -> Iterator[None]:
            for _ in range(_TRIES):
                self.again = []
                yield
                if not self.again:
                    return
            uri = self.again[0].source.uri
            raise ConflictError(f"{uri}: other workers keep changing its result", remedy="run again")

        try:
            yield rounds()
        except BaseException:
            self._give_up()
            raise

    # -- planning ------------------------------------------------------------------------------------------

    def _plans(self, planner: Planner, sources: Sequence[Source]) -> Iterator[VideoPlan]:
        """Plans that ask for work; the others are reported at once."""
        for source in sources:
            try:
                plan = planner.plan(source)
            except MareyError as exc:
                if exc.exit_code != 1:
                    raise
                self.done(VideoResult(source.uri, "failed", error_code=exc.code, error=str(exc)))
                continue
            if not self._skipped(plan):
                if self.options.limit is not None and self.taken >= self.options.limit:
                    continue
                self.taken += 1
                self.reporter.video(source.uri, plan.name.duration_s)
                yield plan

    def _skipped(self, plan: VideoPlan) -> bool:
        name, uri = plan.name, plan.source.uri
        if plan.step is Step.FAILED_BEFORE and plan.last_error is not None:
            last = plan.last_error
            note = "failed before" if final(last.error_code) else "failed before: --retry-failed"
            self.done(
                VideoResult(uri, "failed", name.video_id, error_code=last.error_code, error=last.error, note=note)
            )
            return True
        if plan.step in (Step.NOTHING, Step.OTHER_CONFIG):
            if not self.options.dry_run:
                put_names(self.lake, [name])
            state: State = "current" if plan.step is Step.NOTHING else "other_config"
            self.done(VideoResult(uri, state, name.video_id, name.duration_s))
            return True
        if self.options.dry_run:
            self.done(VideoResult(uri, "planned", name.video_id, name.duration_s, note=plan.step.value))
            return True
        return False

    # -- work ----------------------------------------------------------------------------------------------

    def _perceive_all(self, plans: Iterable[VideoPlan]) -> None:
        run = self.config.run
        size = self.config.perceive.input_width * self.config.perceive.input_height
        batcher: Batcher | None = None
        boxes: dict[str, Letterbox] = {}
        with Feed(run.decoders, max_pixels=size) as feed:
            for item in feed.run(self._jobs(plans)):
                key, first = item.job_key.rsplit(":", 1)
                work = self.works[key]
                if batcher is None:
                    batcher = Batcher(self.tools.perceiver, self.config)
                if isinstance(item, JobStart):
                    work.info, boxes[item.job_key] = item.info, item.letterbox
                elif isinstance(item, SampledFrame):
                    batcher.add(work, int(first), item, boxes[item.job_key])
                    self.reporter.advance(1 / (self.config.video.sample_fps or 25.0))
                else:
                    self._job_ended(work, int(first), item, batcher)
                self._finish_ready()
            if batcher is not None:
                batcher.flush()
            self._finish_ready()

    def _job_ended(self, work: VideoWork, first: int, end: JobEnd, batcher: Batcher) -> None:
        settle_error(work, end)
        work.info = end.info or work.info
        work.lost_in_a_row = work.lost_in_a_row + 1 if _is_lost(end) else 0
        if work.lost_in_a_row == _MAX_LOST:
            work.end_first = first  # where the decoder always dies, the rest is not waited for
        if end.end_of_file and (work.end_first is None or first < work.end_first):
            work.end_first = first
        batcher.end(work, first, work.asked[first] - 1, Facts.of(end))

    def _jobs(self, plans: Iterable[VideoPlan]) -> Iterator[DecodeJob]:
        """Decoding jobs of one video after the other; plans that need no decoding are done on the way."""
        for plan in plans:
            attempt = self._start(plan)
            if plan.error is not None:
                self._fail(attempt, plan.error)
            elif plan.step is not Step.PERCEPTION:
                self._reuse(attempt)
            else:
                work = open_work(plan, Staging(self.lake, plan.ids.perception), self.config)
                self.works[plan.name.video_id] = work
                for first, end in work.missing():
                    work.open_jobs += 1
                    work.asked[first] = end
                    yield decode_job(work, first, end, self.config)
                work.all_asked = True
                self._finish_ready()
            self._settle(self.group.flush() if self.group.due() else [])

    def _start(self, plan: VideoPlan) -> _Attempt:
        row = Analysis(
            video_id=plan.name.video_id,
            camera=plan.name.camera,
            date=plan.name.date,
            run_id=new_run_id(),
            attempt_id=new_run_id(),
            uri=plan.source.uri,
            status="running",
            perception_id=plan.ids.perception,
            tracking_id=plan.ids.tracking,
            analysis_id=plan.ids.analysis,
            config_id=self.config_id,
            weights=self.tools.weights_json,
            marey_version=program_version(),
            started_at=datetime.now(UTC),
        )
        [row] = start_attempts(self.lake, [row])
        attempt = _Attempt(plan, row, fresh_runs(plan), time.perf_counter())
        self.attempts[row.attempt_id] = attempt
        self.by_video[plan.name.video_id] = attempt
        return attempt

    def _finish_ready(self) -> None:
        for key in [key for key, work in self.works.items() if finished(work)]:
            self._finish(self.works.pop(key))

    def _finish(self, work: VideoWork) -> None:
        """All segments are perceived: interpret, and hand over to the next group commit."""
        attempt = self.by_video[work.plan.name.video_id]
        attempt.watch = work.watch
        attempt.watch.seconds["decode_and_perceive"] = time.perf_counter() - attempt.started
        error = work.error or without_frames(work)
        if error is not None:
            self._fail(attempt, error, work.total() if work.facts else None)
            return
        facts = work.total()
        plan = attempt.plan
        if work.info is not None:
            attempt.plan = plan = plan.renamed(with_info(plan.name, work.info, facts.end_t))
        rows = Rows(self.lake, plan, attempt.runs.written)
        interpret(plan, work.pairs(), self.tools, rows, attempt.watch)
        self._end(attempt, rows, facts)

    def _reuse(self, attempt: _Attempt) -> None:
        """Interpret anew what is perceived already."""
        plan, source = attempt.plan, attempt.plan.perceived
        if source is None:
            raise ValueError(f"{plan.step} without a perception")
        rows = Rows(self.lake, plan, attempt.runs.written)
        if plan.step is Step.EVENTS:
            find_events(self.lake, plan, source, self.tools, rows, attempt.watch)
        else:
            interpret(plan, stored_perception(self.lake, source), self.tools, rows, attempt.watch)
        gaps = tuple(dict(gap) for gap in source.gaps)
        facts = Facts(True, source.frames_failed or 0, gaps, source.time_source or "pts", source.reader or "pyav")
        self._end(attempt, rows, facts)

    # -- endings -------------------------------------------------------------------------------------------

    def _end(self, attempt: _Attempt, rows: Rows, facts: Facts) -> None:
        plan, runs, old = attempt.plan, attempt.runs, attempt.plan.perceived
        counts = dict(rows.counts)
        for table in ("frames", "detections", "tracks", "objects", "events"):
            if table not in runs.written and old is not None:
                counts[table] = getattr(old, f"rows_{table}") or 0
        network = self.tools.perceiver.network if plan.step is Step.PERCEPTION else None
        row = attempt.row.ended(
            status="partial" if facts.gaps or facts.frames_failed else "ok",
            perception_run_id=runs.perception,
            tracking_run_id=runs.tracking,
            events_run_id=runs.events,
            reader=facts.reader,
            time_source=facts.time_source,
            runtime=network.runtime if network else (old.runtime if old else None),
            device=network.device if network else (old.device if old else None),
            **{f"rows_{table}": counts.get(table, 0) for table in ("frames", "detections", "tracks", "objects", "events")},
            frames_sampled=counts.get("frames", 0),
            frames_failed=facts.frames_failed,
            gaps=facts.gaps,
            seconds=dict(attempt.watch.seconds),
            peak_memory_bytes=_peak_memory_bytes(),
        )
        basis = plan.current.revision if plan.current else 0
        self._hand_over(Ending(analysis=row, basis=basis, rows=rows.rest(), names=(plan.name,)))

    def _fail(self, attempt: _Attempt, error: MareyError, facts: Facts | None = None) -> None:
        row = attempt.row.ended(
            status="failed",
            error_code=error.code,
            error=str(error),
            gaps=facts.gaps if facts else (),
            frames_failed=facts.frames_failed if facts else None,
            peak_memory_bytes=_peak_memory_bytes(),
        )
        self._hand_over(Ending(analysis=row, names=(attempt.plan.name,)))

    def _hand_over(self, ending: Ending) -> None:
        self._settle(self.group.add(ending))

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            attempt = self.attempts.pop(outcome.analysis.attempt_id)
            row = outcome.analysis
            if outcome.decision in (Decision.OVERTAKEN, Decision.ABANDONED):
                self.again.append(attempt.plan)
                self.taken -= 1
                continue
            if row.succeeded:
                Staging(self.lake, attempt.plan.ids.perception).clear()
            self.done(_result(row, attempt))

    def done(self, result: VideoResult) -> None:
        self.results.append(result)
        self.reporter.done(result)

    def _give_up(self) -> None:
        """Commit what is finished; say of the rest that it was broken off, not that it crashed."""
        try:
            finished_ones = self.group.flush()
            for outcome in finished_ones:
                self.attempts.pop(outcome.analysis.attempt_id, None)
            for attempt in self.attempts.values():
                error = "interrupted"
                row = attempt.row.ended(status="abandoned", error_code=error, error="the run was interrupted")
                self.group.add(Ending(analysis=row))
            self.group.flush()
        except MareyError as exc:
            self.reporter.note(f"not written on the way out: {exc}")


def _result(row: Analysis, attempt: _Attempt) -> VideoResult:
    tables = ("frames", "detections", "tracks", "objects", "events")
    state: State = "ok" if row.status == "ok" else "partial" if row.status == "partial" else "failed"
    return VideoResult(
        uri=row.uri,
        state=state,
        video_id=row.video_id,
        duration_s=attempt.plan.name.duration_s,
        rows={table: getattr(row, f"rows_{table}") or 0 for table in tables} if row.succeeded else {},
        seconds=dict(row.seconds),
        frames_failed=row.frames_failed or 0,
        gaps=tuple(row.gaps),
        error_code=row.error_code,
        error=row.error,
        note="" if attempt.plan.step is Step.PERCEPTION else f"reused {attempt.plan.step.value}",
    )


def _is_lost(end: JobEnd) -> bool:
    return end.frames_decoded == 0 and any(gap.cause != "media" for gap in end.gaps)


def _peak_memory_bytes() -> int:
    """Largest resident set so far of this process, and of its largest child that ended."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (own + child) * 1024
