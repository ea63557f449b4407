"""A video being worked on: the row with which its attempt begins, and the one that ends it."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version

from pipeline.analyze.changes import EventChanges
from pipeline.analyze.interpret import Interpreter, Rows, Runs, Stopwatch
from pipeline.analyze.outcome import VideoResult
from pipeline.analyze.perception import Facts, StagingGone, VideoWork
from pipeline.analyze.plan import Step, VideoPlan, final
from pipeline.errors import MareyError
from pipeline.ids import new_run_id
from pipeline.lake.commit import Ending
from pipeline.lake.records import Analysis
from pipeline.lake.schema import PARTITIONED

INTERRUPTED = "the run was interrupted"


@dataclass
class Attempt:
    """One attempt at one video, from its running row to its end."""

    plan: VideoPlan
    row: Analysis  # its running row
    runs: Runs
    work: VideoWork | None = None  # where the video is decoded
    interpreter: Interpreter | None = None  # likewise, once its first segment is perceived
    started: float = field(default_factory=time.perf_counter)
    watch: Stopwatch = field(default_factory=Stopwatch)
    changes: EventChanges | None = None  # against the events of the perception that is taken over
    crash: Exception | None = None  # with which the program itself failed at it

    @contextmanager
    def answering(self) -> Iterator[None]:
        """For work on this video's rows alone: if the program fails in here, it fails at this video."""
        try:
            yield
        except (MareyError, StagingGone):
            raise
        except Exception as exc:
            self.crash = exc
            raise

    def succeeded(self, rows: Rows, facts: Facts, runtime: str | None, device: str | None) -> Ending:
        """The ending of an attempt whose rows are all in `rows`."""
        plan, runs, old = self.plan, self.runs, self.plan.perceived
        counts = {table: rows.counts[table] for table in PARTITIONED}
        if old is not None:
            counts |= {table: number for table, number in old.rows.items() if table not in runs.written}
        row = self.row.ended(
            status="partial" if facts.gaps or facts.frames_failed else "ok",
            perception_run_id=runs.perception,
            tracking_run_id=runs.tracking,
            events_run_id=runs.events,
            reader=facts.reader,
            time_source=facts.time_source,
            runtime=runtime,
            device=device,
            frames_sampled=counts["frames"],
            frames_failed=facts.frames_failed,
            gaps=facts.gaps,
            seconds=dict(self.watch.seconds),
            peak_memory_bytes=_peak_memory_bytes(),
            **{f"rows_{table}": count for table, count in counts.items()},
        )
        basis = plan.current.revision if plan.current else 0
        return Ending(analysis=row, basis=basis, rows=rows.rest(), names=(plan.name,))

    def failed(self, error: MareyError, facts: Facts | None = None) -> Ending:
        """The ending of an attempt at a video that cannot be analysed."""
        row = self.row.ended(
            status="failed",
            error_code=error.code,
            error=str(error),
            gaps=facts.gaps if facts else (),
            frames_failed=facts.frames_failed if facts else None,
            peak_memory_bytes=_peak_memory_bytes(),
        )
        return Ending(analysis=row, names=(self.plan.name,))

    def broken_off(self, why: str = INTERRUPTED) -> Ending:
        """The ending of an attempt that came to no result.

        If the program failed at it, that is counted as if it had been killed (`History.dead`).
        """
        if self.crash is not None:
            told = " ".join(f"{type(self.crash).__name__}: {self.crash}".split())
            return Ending(analysis=self.row.ended(status="crashed", error_code="bug", error=told))
        return broken_off(self.row, why)

    def result(self, row: Analysis) -> VideoResult:
        """What is said of the attempt, ended by `row`."""
        return VideoResult(
            uri=row.uri,
            state="ok" if row.status == "ok" else "partial" if row.status == "partial" else "failed",
            video_id=row.video_id,
            duration_s=self.plan.name.duration_s,
            rows=row.rows if row.succeeded else {},
            seconds=dict(row.seconds),
            frames_failed=row.frames_failed or 0,
            gaps=tuple(row.gaps),
            error_code=row.error_code,
            error=row.error,
            note="" if self.plan.step is Step.PERCEPTION else _REUSED[self.plan.step],
            changes=self.changes if row.succeeded else None,
        )


def running_row(plan: VideoPlan, config_id: str, weights: str) -> Analysis:
    """The row with which an attempt begins; `weights` as JSON."""
    return Analysis(
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
        config_id=config_id,
        weights=weights,
        marey_version=version("marey"),
        started_at=datetime.now(UTC),
    )


def broken_off(running: Analysis, why: str = INTERRUPTED) -> Ending:
    """The ending of an attempt, by its running row, that was given up for no fault of the video's."""
    return Ending(analysis=running.ended(status="abandoned", error_code="interrupted", error=why))


def skipped(plan: VideoPlan, *, dry_run: bool) -> VideoResult | None:
    """What is said of a plan by which nothing is done; None: it is to be worked on."""
    name = plan.name
    result = VideoResult(plan.source.uri, "planned", name.video_id, name.duration_s)
    if (last := plan.last_error) is not None:
        note = "failed before" if final(last.error_code) else "failed before: --retry-failed"
        code, error = last.error_code, last.error
        return replace(result, state="failed", duration_s=None, error_code=code, error=error, note=note)
    if plan.step is Step.NOTHING:
        return replace(result, state="current")
    if plan.step is Step.OTHER_CONFIG:
        return replace(result, state="other_config", note=plan.note)
    if dry_run:
        note = "cannot be read" if plan.error else plan.step.value
        return replace(result, note=note, size_bytes=name.size_bytes)
    return None


_REUSED = {
    Step.COPY: "perceived before under another name",
    Step.TRACKING: "tracked anew",
    Step.EVENTS: "events anew",
}


def _peak_memory_bytes() -> int:
    """Largest resident set so far of this process, and of its largest child that ended."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (own + child) * (1 if sys.platform == "darwin" else 1024)  # macOS counts bytes, Linux KiB
