"""Perceived rows to tracks, objects and events, and all of them on their way into the lake."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipeline.analyze.plan import Step, VideoPlan
from pipeline.analyze.tools import Tools
from pipeline.errors import StorageError
from pipeline.event_rows import OBJECT_COLUMNS, with_tracks
from pipeline.events import MAX_GAP_S, EventDetector
from pipeline.ids import new_run_id
from pipeline.lake import Lake
from pipeline.lake.current import RUN
from pipeline.lake.layout import VECTORS
from pipeline.lake.lookup import read_rows
from pipeline.lake.records import Analysis, Place, place_rows
from pipeline.lake.schema import DETECTIONS, EVENTS, OBJECTS
from pipeline.media.sampling import sample_step_s
from pipeline.rules import RuleEngine

FLUSH_BYTES = 8_000_000
"""Rows of one video and table above this are appended before its end, so that memory does not grow with
length (tests/soak/test_memory.py)."""

AHEAD_BYTES = 64_000_000
"""Of tracks and events that are found before a video's last segment is perceived; 5 hours of 5 objects."""

Pair = tuple[pa.Table, pa.Table]
Found = dict[str, pa.Table]  # by table


@dataclass
class Stopwatch:
    """Wall seconds by stage."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def timed(self, stage: str, started: float) -> float:
        """Add the time since `started` to a stage; returns now."""
        now = time.perf_counter()
        self.seconds[stage] += now - started
        return now


class Rows:
    """Collects a video's rows under its runs; appends early when they grow large."""

    def __init__(self, lake: Lake, plan: VideoPlan, runs: dict[str, str]) -> None:
        """`runs`: table name to the run_id of its rows; other tables' rows are dropped."""
        self._lake = lake
        self._place = {
            table: Place(plan.name.video_id, plan.name.camera, plan.name.date, run, plan.name.recorded_at)
            for table, run in runs.items()
        }
        self._pending: dict[str, list[pa.Table]] = defaultdict(list)
        self._pending_bytes: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def add(self, table: str, rows: pa.Table) -> None:
        if table not in self._place or rows.num_rows == 0:
            return
        self.counts[table] += rows.num_rows
        placed = place_rows(table, rows, self._place[table])
        self._pending[table].append(placed)
        self._pending_bytes[table] += placed.nbytes
        if self._pending_bytes[table] > FLUSH_BYTES:
            del self._pending_bytes[table]
            self._lake.append(table, pa.concat_tables(self._pending.pop(table)))

    def add_all(self, found: Found) -> None:
        for table, rows in found.items():
            self.add(table, rows)

    def of(self, table: str) -> list[pa.Table]:
        """Rows of a table that are not yet appended."""
        return self._pending.get(table, [])

    def rest(self) -> dict[str, pa.Table]:
        """Rows not yet appended, by table."""
        return {table: pa.concat_tables(parts) for table, parts in self._pending.items() if parts}


@dataclass(frozen=True)
class Runs:
    """The run_ids that an analysis names, and which of them are written anew."""

    perception: str
    tracking: str
    events: str
    written: dict[str, str]  # table -> run_id

    @classmethod
    def of(cls, plan: VideoPlan) -> Runs:
        """Runs of a plan: what is reused keeps its run, the rest gets a new one."""
        old, fresh = plan.perceived, new_run_id()
        perception = tracking = events = fresh
        tables = ["events"]
        if plan.step in (Step.EVENTS, Step.TRACKING) and old is not None:
            perception = old.perception_run_id or fresh
        else:
            tables += ["frames", "detections"]
        if plan.step is Step.EVENTS and old is not None:
            tracking = old.tracking_run_id or fresh
        else:
            tables += ["tracks", "objects"]
        return cls(perception, tracking, events, dict.fromkeys(tables, fresh))


def stored_perception(lake: Lake, analysis: Analysis, tools: Tools) -> Iterator[Pair]:
    """Frames and detections of an analysis, from the lake, in order and in pieces.

    Raises:
        StorageError: rows, or their vectors, have gone since this was planned.
    """
    frames, detections = (_stored(lake, analysis, tools, name) for name in ("frames", "detections"))
    yield from _aligned(frames, detections)


def _stored(lake: Lake, analysis: Analysis, tools: Tools, name: str) -> Iterator[pa.Table]:
    """Frames or detections, with the vectors that they were perceived with."""
    for rows in _whole(lake, analysis, name):
        if tools.config.perceive.embeddings and rows[VECTORS[name]].null_count:
            raise StorageError(f"the vectors of {analysis.uri} were dropped meanwhile", remedy="run again")
        yield rows


def _whole(
    lake: Lake, analysis: Analysis, name: str, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Rows of an analysis, as many as it counted: none that compaction took meanwhile goes missing unsaid."""
    found, run, counted = 0, getattr(analysis, RUN[name]) or "", getattr(analysis, f"rows_{name}") or 0
    # Older programs could leave an analysis of another date than its rows: two workers at copies of a video.
    for on in (analysis.date, None):
        for rows in read_rows(lake, name, analysis.video_id, run, on, columns):
            found += rows.num_rows
            yield rows
        if found or not counted:
            break
    if found < counted:
        raise StorageError(f"{name} of {analysis.uri} were dropped meanwhile", remedy="run again")


def _aligned(frames: Iterable[pa.Table], detections: Iterator[pa.Table]) -> Iterator[Pair]:
    """Cut detections where the pieces of frames end; the two are stored in pieces of their own."""
    waiting: pa.Table | None = next(detections, None)
    for piece in frames:
        last = piece["sample"][-1].as_py()
        parts = []
        while waiting is not None:
            inside = int((waiting["sample"].to_numpy() <= last).sum())
            parts.append(waiting.slice(0, inside))
            if inside < waiting.num_rows:
                waiting = waiting.slice(inside)
                break
            waiting = next(detections, None)
        yield piece, pa.concat_tables(parts) if parts else DETECTIONS.empty_table()


class Interpreter:
    """Tracks, objects and events of one video from its frames and detections, in the order of time."""

    def __init__(self, plan: VideoPlan, tools: Tools, watch: Stopwatch) -> None:
        from pipeline.track import Tracker  # a run with nothing to do spares its imports

        self._tracker = Tracker(tools.config.track, tools.motion, plan.frame_size)
        self._finder = EventFinder(plan, tools)
        self._watch = watch
        self._ahead: deque[Future[Found]] = deque()
        self._held_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether so much was found ahead that no more is to be kept."""
        return self._held_bytes > AHEAD_BYTES

    def begin(self, beside: Executor, pair: Callable[[], Pair]) -> None:
        """Interpret the next piece in another thread; what is found waits for its `update`."""
        self._ahead.append(beside.submit(lambda: self._held(self._update(*pair()))))

    def update(self, frames: pa.Table, detections: pa.Table) -> Found:
        """What the next piece has to say. Those that were begun come first, in their order."""
        return self._ahead.popleft().result() if self._ahead else self._update(frames, detections)

    def finish(self) -> Found:
        """What the video's end has to say."""
        began = time.perf_counter()
        tracks, objects = self._tracker.finish()
        began = self._watch.timed("track", began)
        events = self._finder.finish(tracks, lambda: [objects])
        self._watch.timed("events", began)
        return {"tracks": tracks, "objects": objects, "events": events}

    def _update(self, frames: pa.Table, detections: pa.Table) -> Found:
        began = time.perf_counter()
        tracks, objects = self._tracker.update(frames, detections)
        began = self._watch.timed("track", began)
        events = self._finder.update(frames, tracks, objects)
        self._watch.timed("events", began)
        return {"tracks": tracks, "objects": objects, "events": events}

    def _held(self, found: Found) -> Found:
        self._held_bytes += sum(rows.nbytes for rows in found.values())
        return found


def interpret(pairs: Iterable[Pair], interpreter: Interpreter, rows: Rows) -> None:
    """Track and find events; all rows go to `rows` in the order of time."""
    for frames, detections in pairs:
        rows.add("frames", frames)
        rows.add("detections", detections)
        rows.add_all(interpreter.update(frames, detections))
    rows.add_all(interpreter.finish())


def find_events(
    lake: Lake, plan: VideoPlan, analysis: Analysis, tools: Tools, rows: Rows, watch: Stopwatch
) -> None:
    """Events alone, from the stored tracks and frames of an analysis."""
    began = time.perf_counter()
    finder = EventFinder(plan, tools)
    if finder.needs_times:
        for frames in _whole(lake, analysis, "frames", ("sample", "t")):
            finder.note_times(frames)
    for tracks in _whole(lake, analysis, "tracks"):
        rows.add("events", finder.by_rules(tracks))
    if finder.needs_frames:
        for frames in _stored(lake, analysis, tools, "frames"):
            finder.look(frames)
    rows.add("events", finder.finish(None, lambda: _whole(lake, analysis, "objects", OBJECT_COLUMNS)))
    watch.timed("events", began)


class EventFinder:
    """All rules and event models of one video. What models find comes at its end, when objects are known."""

    def __init__(self, plan: VideoPlan, tools: Tools) -> None:
        video, config = plan.name.video_id, tools.config
        rules = config.rules_for(plan.name.camera)
        # Nobody is followed over longer, whatever a container says of its rate.
        step_s = min(sample_step_s(config.video.sample_fps, plan.name.fps_mean), config.track.max_gap_s)
        self._rules = RuleEngine(rules, plan.frame_size, video, step_s) if rules else None
        self._longest_s = max(MAX_GAP_S, 1.5 * step_s)  # between frames of which none is missing
        self._models = [
            EventDetector(
                model,
                config.events,
                video_id=video,
                name=name,
                digest=tools.event_digests[name],
                sample_fps=config.video.sample_fps,
            )
            for name, model in tools.event_models.items()
        ]
        self._of_models: list[list[pa.Table]] = [[] for _ in self._models]
        self._objects: list[pa.Table] = []
        # Whether a rule asks for the times of the frames.
        self.needs_times = any(rule.kind in ("appear", "disappear") for rule in rules)
        self._end_t: float | None = None  # of the newest frame

    @property
    def needs_frames(self) -> bool:
        return bool(self._models)

    def note_times(self, frames: pa.Table) -> None:
        """Note how far the video goes, and where frames are missing."""
        if not frames.num_rows:
            return
        t = frames["t"].to_numpy()
        before = np.concatenate([[self._end_t or 0.0], t])  # the first segments may be what is missing
        if self._rules:
            for k in np.flatnonzero(np.diff(before) > self._longest_s).tolist():
                self._rules.lose(float(before[k]), float(before[k + 1]))
        self._end_t = float(t[-1])

    def by_rules(self, tracks: pa.Table) -> pa.Table:
        return self._rules.update(tracks) if self._rules else _no_events()

    def look(self, frames: pa.Table | None) -> None:
        """Let the models see frames, or that there are no more."""
        for model, found in zip(self._models, self._of_models, strict=True):
            found.append(model.finish() if frames is None else model.update(frames))

    def follow(self, objects: pa.Table) -> None:
        """Note which objects are there when."""
        if self._models and objects.num_rows:
            self._objects.append(objects.select(OBJECT_COLUMNS))

    def update(self, frames: pa.Table, tracks: pa.Table, objects: pa.Table) -> pa.Table:
        self.note_times(frames)
        self.look(frames)
        self.follow(objects)
        return self.by_rules(tracks)

    def finish(self, tracks: pa.Table | None, objects: Callable[[], Iterable[pa.Table]]) -> pa.Table:
        """What the video's end has to say; `tracks` and `objects` are those that were not told before.

        Objects are asked for only if a model found something: reading them takes as long as all else here.
        """
        parts = []
        if self._rules:
            parts += [self._rules.update(tracks)] if tracks is not None else []
            parts.append(self._rules.finish(self._end_t))
        self.look(None)
        if any(rows.num_rows for found in self._of_models for rows in found):
            for more in objects():
                self.follow(more)
        there = pa.concat_tables(self._objects or [OBJECTS.empty_table().select(OBJECT_COLUMNS)])
        for model, found in zip(self._models, self._of_models, strict=True):
            parts.append(with_tracks(pa.concat_tables(found), there, model.classes))
        return pa.concat_tables(parts) if parts else _no_events()


def _no_events() -> pa.Table:
    return EVENTS.empty_table()
