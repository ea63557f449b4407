"""Segments of videos through decoding processes and the CNN; batches are filled across segments and videos."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.analyze.interpret import Pair, Stopwatch
from pipeline.analyze.plan import VideoPlan
from pipeline.config import Config
from pipeline.errors import MareyError, MediaError
from pipeline.lake.staging import Segment, Staging, unstage
from pipeline.media import DecodeJob, Gap, JobEnd, Letterbox, SampledFrame, VideoInfo
from pipeline.perceive import Perceiver, to_rows


@dataclass(frozen=True)
class FrameRecord:
    """A sampled frame without its picture."""

    sample: int
    pts: int | None
    t: float
    motion_grid: npt.NDArray[np.float32]
    camera_motion: tuple[float, float, float, float] | None


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


def _gap(gap: Gap, last: float | None) -> dict[str, Any]:
    t_end = gap.t_end if gap.t_end is not None else last
    return {"t_start": gap.t_start, "t_end": t_end, "frames": gap.frames, "cause": gap.cause}


@dataclass
class VideoWork:
    """A video on its way through perception."""

    plan: VideoPlan
    staging: Staging
    ticks: int  # per segment
    rows: dict[int, pa.Table] = field(default_factory=dict)  # finished segments by first tick
    facts: dict[int, Facts] = field(default_factory=dict)
    staged: dict[int, int] = field(default_factory=dict)  # first tick -> last tick, in the lake
    buffers: dict[int, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    info: VideoInfo | None = None
    end_first: int | None = None  # first tick of the segment that holds the file's end
    error: MareyError | None = None
    asked: dict[int, int] = field(default_factory=dict)  # first tick -> end tick of the jobs given out
    open_jobs: int = 0
    lost_in_a_row: int = 0
    all_asked: bool = False
    watch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        reach = -1
        for first, last in self.staging.segments():
            if first <= reach:
                continue  # segments of another length overlap; the first cover enough
            segment = self.staging.get(first, last)
            if segment is None:
                continue
            reach = last
            self.staged[first] = last
            self.facts[first] = Facts.from_json(segment.facts)
            if self.facts[first].end_of_file:
                self.end_first = first

    @property
    def over(self) -> bool:
        """Whether no further job makes sense."""
        return self.error is not None or self.end_first is not None

    def missing(self) -> Iterator[tuple[int, int]]:
        """First and end tick of the segments to perceive, until the file's end is met."""
        at = 0
        while self.error is None and (self.end_first is None or at <= self.end_first):
            if at in self.staged:
                at = self.staged[at] + 1
                continue
            end = (at // self.ticks + 1) * self.ticks
            end = min([end, *(first for first in self.staged if first > at)])
            yield at, end
            at = end

    def close(self, first: int, last: int, facts: Facts) -> None:
        """A segment's frames are all perceived."""
        parts = self.buffers.pop(first, [])
        rows = pa.concat_tables(parts) if parts else Segment.empty()
        self.facts[first] = facts
        if facts.end_of_file:
            self.end_first = first if self.end_first is None else min(first, self.end_first)
        lost = any(gap["cause"] != "media" for gap in facts.gaps)
        alone = facts.end_of_file and first == 0
        if alone or lost:  # what may go better another time is not kept for it
            self.rows[first] = rows
        else:
            self.staged[first] = last
            kept = self.staging.put(first, last, rows, vars(facts))  # another worker's may be there first
            self.facts[first] = Facts.from_json(kept.facts)

    def pairs(self) -> Iterator[Pair]:
        """Frames and detections of all segments, in order."""
        for first in self._order():
            rows = self.rows.get(first)
            if rows is None:
                segment = self.staging.get(first, self.staged[first])
                if segment is None:
                    raise MediaError(f"staged segment of {self.plan.source.uri} is gone", remedy="run again")
                rows = segment.rows
            if rows.num_rows:
                yield unstage(rows)

    def _order(self) -> list[int]:
        """First ticks of the segments up to the file's end."""
        firsts = sorted({*self.rows, *self.staged})
        return [f for f in firsts if self.end_first is None or f <= self.end_first]

    def total(self) -> Facts:
        """Facts over all segments."""
        parts = [self.facts[first] for first in self._order()]
        ends = [part.end_t for part in parts if part.end_t is not None]
        return Facts(
            end_of_file=True,
            frames_failed=sum(part.frames_failed for part in parts),
            gaps=tuple(gap for part in parts for gap in part.gaps),
            time_source=max((p.time_source for p in parts), key=("pts", "dts", "duration").index, default="pts"),
            reader=parts[0].reader if parts else "pyav",
            end_t=max(ends, default=None),
        )


def open_work(plan: VideoPlan, staging: Staging, config: Config) -> VideoWork:
    """Work on a video, with the segments that an earlier run finished."""
    fps = config.video.sample_fps or plan.name.fps_mean or 25.0
    return VideoWork(plan, staging, max(1, round(config.run.segment_s * fps)))


def decode_job(work: VideoWork, first: int, end: int, config: Config) -> DecodeJob:
    """The job of one segment; its key leads back to the work and the segment."""
    video, perceive = config.video, config.perceive
    return DecodeJob(
        key=f"{work.plan.name.video_id}:{first}",
        path=str(work.plan.source.path),
        first_sample=first,
        end_sample=end,
        sample_fps=video.sample_fps,
        width=perceive.input_width,
        height=perceive.input_height,
        max_pixels=video.max_pixels,
        max_streams=video.max_streams,
        stall_s=video.stall_s,
        max_memory_bytes=video.max_memory_mb << 20,
    )


@dataclass(frozen=True)
class _SegmentEnd:
    work: VideoWork
    first: int
    last: int
    facts: Facts


@dataclass(frozen=True)
class _FrameEntry:
    work: VideoWork
    first: int
    record: FrameRecord
    letterbox: Letterbox


class Batcher:
    """Fills batches in the order in which frames come; ends of segments wait for their frames."""

    def __init__(self, perceiver: Perceiver, config: Config) -> None:
        self._perceiver = perceiver
        self._embeddings = config.perceive.embeddings
        shape = (perceiver.batch_size, config.perceive.input_height, config.perceive.input_width, 3)
        self._pictures = np.zeros(shape, np.uint8)
        self._count = 0
        self._entries: deque[_FrameEntry | _SegmentEnd] = deque()

    def add(self, work: VideoWork, first: int, frame: SampledFrame, letterbox: Letterbox) -> None:
        """Take a frame; its picture is copied."""
        self._pictures[self._count] = frame.picture
        self._count += 1
        record = FrameRecord(frame.sample, frame.pts, frame.t, frame.motion_grid, frame.camera_motion)
        self._entries.append(_FrameEntry(work, first, record, letterbox))
        if self._count == len(self._pictures):
            self.flush()

    def end(self, work: VideoWork, first: int, last: int, facts: Facts) -> None:
        """The segment has no more frames."""
        self._entries.append(_SegmentEnd(work, first, last, facts))
        if self._count == 0:
            self.flush()

    def flush(self) -> None:
        """Perceive what has come together, and close the segments that ended with it."""
        began = time.perf_counter()
        seen = iter(self._perceiver(self._pictures[: self._count])) if self._count else iter(())
        spent = time.perf_counter() - began
        share = spent / max(1, self._count)
        self._count = 0
        while self._entries:
            entry = self._entries.popleft()
            if isinstance(entry, _SegmentEnd):
                entry.work.open_jobs -= 1
                entry.work.close(entry.first, entry.last, entry.facts)
                continue
            rows = to_rows([entry.record], [next(seen)], entry.letterbox, embeddings=self._embeddings)
            entry.work.buffers[entry.first].append(rows)
            entry.work.watch.seconds["perceive"] += share


def settle_error(work: VideoWork, end: JobEnd) -> None:
    """Note that a file as a whole cannot be used."""
    if end.error is not None and work.error is None:
        work.error = end.error


def without_frames(work: VideoWork) -> MareyError | None:
    """The error of a video of which no frame could be decoded."""
    if any(True for _ in work.pairs()):
        return None
    causes = {gap["cause"] for gap in work.total().gaps} - {"media"}
    return MediaError(
        f"{work.plan.source.uri}: no frame could be decoded",
        remedy="the file is damaged, or holds no picture",
        code=next(iter(causes), "media"),
    )


def finished(work: VideoWork) -> bool:
    """Whether all segments up to the file's end are perceived."""
    return work.open_jobs == 0 and (work.error is not None or (work.all_asked and work.end_first is not None))
