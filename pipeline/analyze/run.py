"""The state of a run over all inputs: plans, feeds decoders and CNN, interprets, commits in groups."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from functools import cached_property, partial
from itertools import islice
from typing import TypeVar

from pipeline.analyze.ahead import PlansAhead, plans_ahead
from pipeline.analyze.batcher import Batcher
from pipeline.analyze.changes import event_changes
from pipeline.analyze.ending import Attempt, running_row, skipped
from pipeline.analyze.gathering import MAX_GROUP, Gathering
from pipeline.analyze.interpret import Interpreter, Rows, Runs, find_events, interpret, stored_perception
from pipeline.analyze.outcome import Options, Reporter, VideoResult
from pipeline.analyze.perception import Facts, StagingGone, VideoWork, decode_job, open_work, pair_of
from pipeline.analyze.plan import Planner, Step, VideoPlan, denial
from pipeline.analyze.tools import Tools, num_decoders
from pipeline.errors import ConflictError, InputError, MareyError
from pipeline.lake import Lake
from pipeline.lake.commit import Decision, Ending, GroupCommit, Outcome, put_config, start_attempts
from pipeline.lake.lookup import read_rows
from pipeline.lake.records import ENDED, Analysis
from pipeline.lake.staging import Staging
from pipeline.lake.tables import DENIED
from pipeline.media import DecodeJob, Feed, Item, JobEnd
from pipeline.notify import Notifier
from pipeline.sources import Missing, Source, Spool, changed_since

_TRIES = 3
_Todo = TypeVar("_Todo")


class Run:
    """The state of one run: videos on their way, and results."""

    def __init__(
        self, lake: Lake, tools: Tools, options: Options, reporter: Reporter, spool: Spool | None = None
    ) -> None:
        self.lake, self.tools, self.options, self.reporter = lake, tools, options, reporter
        self._spool = spool or Spool(0)
        self.config = tools.config
        self.results: list[VideoResult] = []
        self._group = self._empty_group()
        self._committing = False
        self._attempts: dict[str, Attempt] = {}  # by attempt_id, until their commit
        self._decoding: Counter[str] = Counter()  # jobs given to decoders, by video_id
        self._decoded: dict[str, Attempt] = {}  # by video_id, until all segments are perceived
        self._again: list[VideoPlan] = []  # to be planned anew in the next round
        self._gathering = Gathering(self.config.run.segment_s)
        self._settled: set[str] = set()  # video and perception ids of what ended in this round
        self._overtaken = False
        self._taken = 0
        self._told: set[str] = set()
        self._notifier = Notifier(lake, self.config.notify, reporter.note)

    def analyze_all(self, entries: Sequence[Source | Missing], planner: Planner) -> None:
        """Work through the inputs; on the way out what is finished is committed, the rest given up."""
        self.reporter.begin(len(entries))
        if not self.options.dry_run:
            self._notifier.deliver_left()
        for entry in entries:
            if isinstance(entry, Missing):
                self._failed(entry, entry.error)

        def one_round(sources: Sequence[Source]) -> None:
            planner.look_up(sources)
            with plans_ahead(planner, sources) as ahead:
                self._perceive_all(self._plans(planner, ahead, len(sources)))

        sources = [entry for entry in entries if isinstance(entry, Source)]
        self._in_rounds(sources, one_round, lambda plan: plan.source.unspooled())

    def interpret_all(
        self, videos: Sequence[str], plans: Callable[[Sequence[str]], Iterable[VideoPlan]]
    ) -> None:
        """Redo what needs no decoding, for the videos of which `plans` wants it."""

        def one_round(wanted: Sequence[str]) -> None:
            planned = iter(plans(wanted))
            while some := list(islice(planned, MAX_GROUP)):
                self.tools.load()
                for plan in some:
                    self._warn(plan)
                for attempt in self._start(some):
                    self._reuse(attempt)

        self._in_rounds(videos, one_round, lambda plan: plan.name.video_id)

    def _in_rounds(
        self,
        todo: Sequence[_Todo],
        one_round: Callable[[Sequence[_Todo]], None],
        again: Callable[[VideoPlan], _Todo],
    ) -> None:
        """One round over everything, more over what was put off and what other workers overtook."""
        overtaken = 0
        try:
            while todo:
                self._again, self._overtaken, self._settled = [], False, set()
                one_round(todo)
                self._flush()
                todo = [again(plan) for plan in self._again]
                overtaken += self._overtaken
                if todo and overtaken >= _TRIES:
                    uri = self._again[0].source.uri
                    raise ConflictError(f"{uri}: other workers keep changing its result", remedy="run again")
        except BaseException:
            self._give_up()
            raise

    # -- planning ------------------------------------------------------------------------------------------

    def _plans(self, planner: Planner, ahead: PlansAhead, count: int) -> Iterator[VideoPlan | None]:
        """Plans that ask for work; the others are reported at once. None: the next is not made yet."""
        for number in range(count):
            left = count if self.options.limit is None else self.options.limit - self._taken
            if left <= 0:
                self.reporter.note(f"limit reached: {count - number} inputs are not looked at")
                return
            ahead.ask(left)
            while not ahead.ready() and (self._gathering.plans or self._decoding.total()):
                yield None
            source, plan = ahead.take()
            if isinstance(plan, InputError):
                planner.spool.release(source)
                self._failed(source, plan)
                continue
            if isinstance(plan, BaseException):
                raise plan
            if plan is None:
                self.done(
                    VideoResult(source.uri, "planned", note="not read yet", size_bytes=source.size_bytes)
                )
                continue
            if self._skipped(plan, planner):
                planner.spool.release(plan.source)
                continue
            if self._waits_for_another(plan):
                planner.spool.release(plan.source)
                self._again.append(plan)
                continue
            self._taken += 1
            self.reporter.video(source.uri, plan.name.duration_s)
            yield plan

    def _skipped(self, plan: VideoPlan, planner: Planner) -> bool:
        result = skipped(plan, dry_run=self.options.dry_run)
        if result is None:
            return False
        # Of a failure, too: whoever asks for undone names is to find it under each of them.
        decided = result.state != "planned" and not self.options.dry_run
        if decided and not planner.is_known(plan.name):
            self._group.add_name(plan.name)  # of a moved archive each would be a commit
            self._flush_if_due()
        self.done(result)
        return True

    def _waits_for_another(self, plan: VideoPlan) -> bool:
        """Whether this run works on the same video, or perceives the same bytes, or did since the plan.

        Then the plan is made anew in the next round, on what the other has written.
        """
        perceives = plan.step is Step.PERCEPTION
        if plan.name.video_id in self._settled or (perceives and plan.ids.perception in self._settled):
            return True
        for other in (*self._gathering.plans, *(attempt.plan for attempt in self._attempts.values())):
            if other.name.video_id == plan.name.video_id:
                return True
            if perceives and other.ids.perception == plan.ids.perception and other.step is plan.step:
                return True
        return False

    # -- work ----------------------------------------------------------------------------------------------

    @cached_property
    def _config_id(self) -> str:
        return put_config(self.lake, self.config)

    def _perceive_all(self, plans: Iterable[VideoPlan | None]) -> None:
        pixels = self.config.perceive.input_width * self.config.perceive.input_height
        with closing(Batcher(self.tools)) as batcher, ThreadPoolExecutor(1, "marey-interpret") as beside:
            with Feed(num_decoders(self.config), max_pixels=pixels) as feed:
                for item in feed.run(self._jobs(plans, feed)):
                    self._take(item, batcher)
                    self._finish_ready()
                    self._interpret_ahead(beside)
                    self._flush_if_due()
            batcher.flush()
            self._finish_ready()

    def _jobs(self, plans: Iterable[VideoPlan | None], feed: Feed) -> Iterator[DecodeJob | None]:
        """Decoding jobs of one video after the other; plans that need no decoding are done on the way."""
        for group in self._gathering.groups(plans):
            if not group:
                yield None
            for plan in group:
                if plan.error is None:
                    perceives = plan.step is Step.PERCEPTION
                    if perceives:
                        feed.warm()
                    self.tools.load(perceiver=perceives)
                    self._warn(plan)
            for attempt in self._start(group):
                yield from self._jobs_of(attempt)
                self._flush_if_due()

    def _jobs_of(self, attempt: Attempt) -> Iterator[DecodeJob]:
        plan, attempt.started = attempt.plan, time.perf_counter()
        if plan.error is not None:
            self._spool.release(plan.source)
            self._hand_over(attempt.failed(changed_since(plan.source) or plan.error))
        elif plan.step is Step.PERCEPTION:
            attempt.work = work = open_work(plan, Staging(self.lake, plan.ids.perception), self.config)
            self._decoded[plan.name.video_id] = attempt
            for first, end in work.missing():
                work.ask(first, end)
                self._decoding[plan.name.video_id] += 1
                yield decode_job(work, first, end, self.config)
            work.all_asked = True
            self._release_decoded(work)
            self._finish_ready()
        else:
            self._spool.release(plan.source)
            self._reuse(attempt)

    def _take(self, item: Item, batcher: Batcher) -> None:
        video = item.job_key.rpartition(":")[0]
        work = self._decoded[video].work
        if work is None:
            raise ValueError(f"{item.job_key} is not decoded")
        if isinstance(item, JobEnd):
            self._decoding[video] -= 1
            self._release_decoded(work)
        batcher.take(item, work, self.reporter)

    def _release_decoded(self, work: VideoWork) -> None:
        """Give the copy of a video back, if it is decoded to its end."""
        if work.all_asked and not self._decoding[work.plan.name.video_id]:
            self._spool.release(work.plan.source)

    def _warn(self, plan: VideoPlan) -> None:
        """Tell once what is wrong with the models."""
        for line in self.tools.warnings(plan.perceived):
            if line not in self._told:
                self._told.add(line)
                self.reporter.note(line)

    def _start(self, plans: Sequence[VideoPlan]) -> list[Attempt]:
        """Attempts at videos, written in one commit; none at what was denied since it was planned."""
        denied = frozenset(self.lake.location.names(DENIED))
        for plan in plans:
            if plan.name.content_id in denied:
                self._spool.release(plan.source)
                self._failed(plan.source, denial(plan.source))
        plans = [plan for plan in plans if plan.name.content_id not in denied]
        if not plans:
            return []
        weights = self.tools.weights_json
        running = [
            self._begun(plan) or running_row(plan, self._config_id, weights(plan.perceived)) for plan in plans
        ]
        rows = start_attempts(self.lake, running)
        begun = [Attempt(plan, row, Runs.of(plan)) for plan, row in zip(plans, rows, strict=True)]
        self._attempts.update({attempt.row.attempt_id: attempt for attempt in begun})
        return begun

    def _begun(self, plan: VideoPlan) -> Analysis | None:
        """The running row of the attempt that was begun before this run, if it has come to no end since."""
        own = plan.history.of_attempt(self.options.attempt_id or "")
        return own[0] if [row.status for row in own] == ["running"] else None

    def _finish_ready(self) -> None:
        ready = [video for video, attempt in self._decoded.items() if attempt.work and attempt.work.finished]
        for video in ready:
            attempt = self._decoded.pop(video)
            if attempt.work is not None:
                self._finish(attempt, attempt.work)

    def _interpret_ahead(self, beside: Executor) -> None:
        """Interpret what is perceived of videos that go on, while the rest is perceived."""
        for attempt in self._decoded.values():
            work = attempt.work
            if work is None or not work.runs_ahead:
                continue
            for rows in work.next_in_order():
                if attempt.interpreter is None:
                    attempt.interpreter = Interpreter(attempt.plan.opened(work.info), self.tools, work.watch)
                attempt.interpreter.begin(beside, partial(pair_of, rows))
            if attempt.interpreter is not None and attempt.interpreter.is_full:
                work.stop_ahead()

    def _finish(self, attempt: Attempt, work: VideoWork) -> None:
        """All segments are perceived: interpret, and hand over to the next group commit."""
        attempt.watch = work.watch
        attempt.watch.seconds["decode_and_perceive"] = time.perf_counter() - attempt.started
        facts = work.total()
        try:
            if error := work.error or work.without_frames():
                self._hand_over(attempt.failed(error, facts))
                return
            attempt.plan = attempt.plan.opened(work.info, facts.end_t)
            rows = Rows(self.lake, attempt.plan, attempt.runs.written)
            with attempt.answering():
                interpreter = attempt.interpreter or Interpreter(attempt.plan, self.tools, attempt.watch)
                interpret(work.pairs(), interpreter, rows)
        except InputError as exc:
            self._hand_over(attempt.failed(exc, facts))
        except StagingGone:
            self._put_off(attempt.plan)
            self._hand_over(attempt.broken_off("another worker committed it first"))
        else:
            network = self.tools.perceiver.network
            self._hand_over(attempt.succeeded(rows, facts, network.runtime, network.device))

    def _reuse(self, attempt: Attempt) -> None:
        """Interpret anew what is perceived already."""
        plan, source = attempt.plan, attempt.plan.perceived
        if source is None:
            raise ValueError(f"{plan.step} without a perception")
        rows = Rows(self.lake, plan, attempt.runs.written)
        with attempt.answering():
            if plan.step is Step.EVENTS:
                find_events(self.lake, plan, source, self.tools, rows, attempt.watch)
            else:
                stored = stored_perception(self.lake, source, self.tools)
                interpret(stored, Interpreter(plan, self.tools, attempt.watch), rows)
        if plan.current is not None and source.video_id == plan.name.video_id:
            old = read_rows(self.lake, "events", source.video_id, source.events_run_id or "", source.date)
            attempt.changes = event_changes(old, rows.of("events"))
        gaps = tuple(dict(gap) for gap in source.gaps)
        facts = Facts(
            True, source.frames_failed or 0, gaps, source.time_source or "pts", source.reader or "pyav"
        )
        self._hand_over(attempt.succeeded(rows, facts, source.runtime, source.device))

    # -- commits -------------------------------------------------------------------------------------------

    def _empty_group(self) -> GroupCommit:
        settings = self.config.lake
        return GroupCommit(self.lake, settings.commit_interval_s, settings.commit_videos)

    def _hand_over(self, ending: Ending) -> None:
        events = ending.rows.get("events")
        self._notifier.expect(ending.analysis, events.to_pylist() if events is not None else ())
        self._commit(lambda: self._group.add(ending))

    def _flush_if_due(self) -> None:
        if self._group.due():
            self._flush()

    def _flush(self) -> None:
        self._commit(self._group.flush)

    def _commit(self, act: Callable[[], Sequence[Outcome]]) -> None:
        self._committing = True
        outcomes = act()
        self._committing = False
        for outcome in outcomes:
            self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        attempt = self._attempts.pop(outcome.analysis.attempt_id)
        self._settled |= {attempt.plan.name.video_id, attempt.plan.ids.perception}
        # What is to be told may have been noted for another end than the one that was committed.
        ended = outcome.decision is Decision.COMMITTED and outcome.analysis.status in ENDED
        tell = self._notifier.committed if ended else self._notifier.dropped
        tell(outcome.analysis.attempt_id)
        if outcome.decision in (Decision.OVERTAKEN, Decision.ABANDONED):
            self._put_off(attempt.plan)
        elif outcome.analysis.status != "abandoned":
            if outcome.analysis.succeeded:
                Staging(self.lake, attempt.plan.ids.perception).clear()
            self.done(attempt.result(outcome.analysis))

    def _put_off(self, plan: VideoPlan) -> None:
        """Another worker was faster: plan again, in the next round."""
        self._again.append(plan)
        self._overtaken = True
        self._taken -= 1

    def _failed(self, entry: Source | Missing, error: MareyError) -> None:
        self.done(VideoResult(entry.uri, "failed", error_code=error.code, error=str(error)))

    def done(self, result: VideoResult) -> None:
        """Note and report what became of an input."""
        self.results.append(result)
        self.reporter.done(result)

    def _give_up(self) -> None:
        """Commit what is finished; say of the rest that it was broken off, or that the program failed at it.

        A commit that was itself broken off may have written rows, so it is not made a second time: its
        videos are given up too, and what it made visible stays.
        """
        if self._committing:
            self._group = self._empty_group()
        try:
            self._flush()
            for attempt in list(self._attempts.values()):
                self._hand_over(attempt.broken_off())
            self._flush()
        except MareyError as exc:
            self.reporter.note(f"not written on the way out: {exc}")
