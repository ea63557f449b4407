"""A video on its way through perception: which of its segments are asked for, and what came of them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.analyze.interpret import Pair, Stopwatch
from pipeline.analyze.plan import VideoPlan
from pipeline.config import Config
from pipeline.errors import MareyError, MediaError, WorkerError
from pipeline.lake.layout import sort_rows
from pipeline.lake.staging import Segment, Staging, unstage
from pipeline.media import (
    PERCEIVED,
    DecodeJob,
    Gap,
    JobEnd,
    JobStart,
    Letterbox,
    VideoInfo,
    block_ticks,
    joined_gaps,
)  # fmt: skip
from pipeline.perceive import Perceived

MAX_LOST = 3
"""Segments in a row of which no frame came, before the rest of a file is given up."""


class StagingGone(Exception):
    """Another worker has cleared the staged segments: it has committed the video."""


@dataclass(frozen=True)
class Facts:
    """What decoding a segment told, beside its frames; kept with the staged segment."""

    end_of_file: bool = False
    frames_failed: int = 0
    gaps: tuple[dict[str, Any], ...] = ()
    time_source: str = "pts"
    reader: str = "pyav"
    end_t: float | None = None

    @classmethod
    def of(cls, end: JobEnd) -> Facts:
        last = end.end_t if end.end_t is not None else end.last_t
        gaps = tuple(_gap(gap, last) for gap in end.gaps)
        return cls(end.end_of_file, end.frames_failed, gaps, end.time_source, end.reader, last)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Facts:
        return cls(**{**values, "gaps": tuple(values["gaps"])})


def _few() -> deque[Perceived]:
    """For what was perceived last: as much as frames of a still scene take over."""
    return deque(maxlen=PERCEIVED)


def _gap(gap: Gap, last: float | None) -> dict[str, Any]:
    t_end = gap.t_end if gap.t_end is not None else last
    return {"t_start": gap.t_start, "t_end": t_end, "frames": gap.frames, "cause": gap.cause}


@dataclass
class VideoWork:
    """A video on its way through perception."""

    plan: VideoPlan
    staging: Staging
    ticks: int  # per segment
    within: range | None = None  # ticks to which staged segments matter; None: all
    rows: dict[int, pa.Table] = field(default_factory=dict)  # finished segments that are not staged
    facts: dict[int, Facts] = field(default_factory=dict)
    num_frames: dict[int, int] = field(default_factory=dict)  # of each of these segments
    staged: dict[int, int] = field(default_factory=dict)  # first tick -> last tick, in the lake
    buffers: dict[int, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    info: VideoInfo | None = None
    letterboxes: dict[int, Letterbox] = field(default_factory=dict)  # by first tick, while decoding
    perceived: dict[int, deque[Perceived]] = field(default_factory=lambda: defaultdict(_few))  # likewise
    seen_s: dict[int, float] = field(default_factory=dict)  # how far decoding is, likewise
    end_first: int | None = None  # first tick of the segment that holds the file's end
    error: MareyError | None = None
    asked: dict[int, int] = field(default_factory=dict)  # first tick -> end tick of the jobs given out
    open_jobs: int = 0
    lost_in_a_row: int = 0
    next_shown: int = 0  # before this tick nothing is shown that was not asked for
    all_asked: bool = False
    runs_ahead: bool = True  # whether segments are handed out before the last is perceived
    watch: Stopwatch = field(default_factory=Stopwatch)
    _fresh: dict[int, pa.Table] = field(default_factory=dict)  # finished and not handed out
    _to_hand_out: deque[int] = field(default_factory=deque)  # first ticks of those asked for, in order

    def __post_init__(self) -> None:
        reach = -1
        kept = self.staging.segments()
        for first, last in kept:
            if first <= reach:
                continue  # segments of another length overlap; the first cover enough
            # The last may tell where the file ends. Each is read whole, and ranges of a video are many.
            if self._lies_outside(first, last) and (first, last) != kept[-1]:
                continue
            segment = self.staging.get(first, last)
            if segment is None:
                continue
            reach = last
            self.staged[first] = last
            self._note(first, Facts.from_json(segment.facts), segment.rows.num_rows)
        self.runs_ahead = not self.staged

    def _lies_outside(self, first: int, last: int) -> bool:
        return self.within is not None and (last < self.within.start or first >= self.within.stop)

    def missing(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
        """First and end tick of the segments to perceive, until the file's end, or tick `stop`, is met."""
        at = start
        while self.error is None and (self.end_first is None or at <= self.end_first):
            if stop is not None and at >= stop:
                return
            if at in self.staged:
                at = self.staged[at] + 1
                continue
            end = (at // self.ticks + 1) * self.ticks
            end = min([end, *(first for first in self.staged if first > at)])
            yield at, end
            # Times may leap by years: what a job found empty is not asked for minute by minute.
            at = max(end, self.next_shown // self.ticks * self.ticks)

    def ask(self, first: int, end: int) -> None:
        """A job for these ticks is given out."""
        self.open_jobs += 1
        self.asked[first] = end
        self._to_hand_out.append(first)

    def begin(self, first: int, start: JobStart) -> None:
        """The file is open for the segment."""
        self.info, self.letterboxes[first] = start.info, start.letterbox

    def seen_anew_s(self, first: int, t: float) -> float:
        """Seconds of video from the segment's last frame to the one at `t`."""
        before = self.seen_s.get(first, t)
        self.seen_s[first] = t
        return max(0.0, t - before)

    def end(self, first: int, end: JobEnd, changed: MareyError | None) -> None:
        """Decoding of a segment is over; `changed` says that the file is no longer what it was."""
        self.info = end.info or self.info
        self.letterboxes.pop(first, None)
        self.seen_s.pop(first, None)
        error = changed or (end.error and self.plan.source.told(end.error))
        # A worker that dies on opening the file costs the segment, if the file could be opened for others.
        if error is not None and not (isinstance(error, WorkerError) and self.facts):
            self.error = self.error or error
        self.next_shown = max(self.next_shown, end.next_sample or 0)
        lost = end.frames_decoded == 0 and any(gap.cause != "media" for gap in end.gaps)
        self.lost_in_a_row = self.lost_in_a_row + 1 if lost else 0
        # Where the decoder always dies, the rest is not waited for.
        if end.end_of_file or self.lost_in_a_row == MAX_LOST:
            self._end_at(first)

    def close(self, first: int, last: int, facts: Facts) -> None:
        """A segment's frames are all perceived."""
        parts = self.buffers.pop(first, [])
        self.perceived.pop(first, None)
        rows = pa.concat_tables(parts) if parts else Segment.empty()
        lost = any(gap["cause"] != "media" for gap in facts.gaps)
        alone = facts.end_of_file and first == 0
        if alone or lost or self.error is not None:  # what may go better another time is not kept for it
            self.rows[first] = rows
        else:
            self.staged[first] = last
            kept = self.staging.put(first, last, rows, vars(facts))  # another worker's may be there first
            facts, rows = Facts.from_json(kept.facts), kept.rows
        if self.runs_ahead:
            self._fresh[first] = rows
        self._note(first, facts, rows.num_rows)

    def next_in_order(self) -> Iterator[pa.Table]:
        """Rows of the next segments of which all before are finished, each handed out once.

        They are those that `pairs` begins with.
        """
        while self._fresh:
            first = self._to_hand_out[0]
            if first not in self._fresh or (self.end_first is not None and first > self.end_first):
                return
            self._to_hand_out.popleft()
            rows = self._fresh.pop(first)
            if rows.num_rows:
                yield rows

    def stop_ahead(self) -> None:
        """Hand out no more."""
        self.runs_ahead = False
        self._fresh.clear()

    def pairs(self) -> Iterator[Pair]:
        """Frames and detections of all segments, in canonical order.

        Raises:
            StagingGone: a segment that was staged is not there any more.
        """
        for first in self._order():
            rows = self.rows.get(first)
            if rows is None:
                segment = self.staging.get(first, self.staged[first])
                if segment is None:
                    raise StagingGone
                rows = segment.rows
            if rows.num_rows:
                yield pair_of(rows)

    def total(self) -> Facts:
        """Facts over all segments."""
        parts = [self.facts[first] for first in self._order()]
        ends = [part.end_t for part in parts if part.end_t is not None]
        return Facts(
            end_of_file=True,
            frames_failed=sum(part.frames_failed for part in parts),
            gaps=tuple(map(vars, joined_gaps(Gap(**gap) for part in parts for gap in part.gaps))),
            time_source=max(
                (p.time_source for p in parts), key=("pts", "dts", "duration").index, default="pts"
            ),
            reader=", ".join(sorted({part.reader for part in parts})) or "pyav",
            end_t=max(ends, default=None),
        )

    def without_frames(self) -> MareyError | None:
        """The error of a video of which no frame could be decoded."""
        if any(self.num_frames[first] for first in self._order()):
            return None
        causes = sorted({gap["cause"] for gap in self.total().gaps} - {"media"})
        return MediaError(
            f"{self.plan.source.uri}: no frame could be decoded",
            remedy="the file is damaged, or holds no picture",
            code=causes[0] if causes else "media",
        )

    @property
    def finished(self) -> bool:
        """Whether all segments up to the file's end are perceived."""
        return self.open_jobs == 0 and (
            self.error is not None or (self.all_asked and self.end_first is not None)
        )

    def _note(self, first: int, facts: Facts, num_frames: int) -> None:
        self.facts[first], self.num_frames[first] = facts, num_frames
        if facts.end_of_file:
            self._end_at(first)

    def _end_at(self, first: int) -> None:
        self.end_first = first if self.end_first is None else min(first, self.end_first)

    def _order(self) -> list[int]:
        """First ticks of the segments up to the file's end."""
        firsts = sorted({*self.rows, *self.staged})
        return [f for f in firsts if self.end_first is None or f <= self.end_first]


def pair_of(rows: pa.Table) -> Pair:
    """Frames and detections of a segment's rows, in canonical order."""
    frames, detections = unstage(rows)
    return frames, sort_rows("detections", detections)


def open_work(plan: VideoPlan, staging: Staging, config: Config, within: range | None = None) -> VideoWork:
    """Work on a video, with the segments that an earlier run finished, of all or of a range of ticks."""
    return VideoWork(plan, staging, segment_ticks(plan, config), within)


def segment_ticks(plan: VideoPlan, config: Config) -> int:
    """Ticks in a segment of a video."""
    fps = config.video.sample_fps or plan.name.fps_mean or 25.0
    ticks = max(1, round(config.run.segment_s * fps))
    if config.perceive.still_threshold:  # what is still must not depend on where a segment begins
        ticks = -(-ticks // block_ticks(fps)) * block_ticks(fps)
    return ticks


def decode_job(work: VideoWork, first: int, end: int, config: Config) -> DecodeJob:
    """The job of one segment; its key leads back to the work and the segment."""
    key = f"{work.plan.name.video_id}:{first}"
    return job_of(key, str(work.plan.source.path), config, first, end)


def job_of(key: str, path: str, config: Config, first: int = 0, end: int | None = None) -> DecodeJob:
    """A job as an analysis with this config has it: samples `first` <= s < `end`, None to the file's end."""
    video, perceive = config.video, config.perceive
    return DecodeJob(
        key=key,
        path=path,
        first_sample=first,
        end_sample=end,
        sample_fps=video.sample_fps,
        stretch=perceive.fit == "stretch",
        still_threshold=perceive.still_threshold,
        motion_grid=perceive.embeddings,  # stored as a part of them
        width=perceive.input_width,
        height=perceive.input_height,
        max_pixels=video.max_pixels,
        max_streams=video.max_streams,
        reader=video.reader,
        stall_s=video.stall_s,
        max_memory_bytes=video.max_memory_mb << 20,
    )
