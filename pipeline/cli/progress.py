"""Progress of a run on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

from pipeline.cli.text import BestEffortStream, for_machines, log, printable, say

if TYPE_CHECKING:
    from pipeline.analyze.outcome import VideoResult

_PLAIN_EVERY_S = 15.0
_BAR_EVERY_S = 0.1  # it is drawn no oftener


class Meter:
    """Videos done, hours of footage, times real time, time left."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.num_videos = self.num_done = 0
        self.seen_s = 0.0
        self._durations: dict[str, float] = {}
        self._known_s = 0.0  # their sum, which is asked for with each frame

    def add(self, uri: str, duration_s: float) -> None:
        """A video was opened."""
        self._known_s += duration_s - self._durations.get(uri, 0.0)
        self._durations[uri] = duration_s

    @property
    def speed(self) -> float:
        """Seconds of video per second."""
        return self.seen_s / max(1e-6, time.monotonic() - self.began)

    @property
    def total_s(self) -> float | None:
        """Seconds of video in all, as far as can be guessed from the videos opened so far."""
        if not self._durations:
            return None
        mean = self._known_s / len(self._durations)
        return self._known_s + mean * max(0, self.num_videos - self.num_done - 1)

    @property
    def eta_s(self) -> float | None:
        total = self.total_s
        return None if total is None or self.seen_s == 0 else max(0.0, total - self.seen_s) / self.speed

    def line(self) -> str:
        left = f", {clock(self.eta_s)} left" if self.eta_s is not None else ""
        return (
            f"{self.num_done}/{self.num_videos} videos, {self.seen_s / 3600:.2f} h of footage, "
            f"{self.speed:.1f}x real time{left}"
        )


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def result_line(result: VideoResult) -> str:
    """What became of a video, in one line."""
    line = f"{result.state:8} {result.uri}"
    if result.error:
        line += f" - {result.error}"
    elif result.rows:
        line += f" - {result.rows['objects']} objects, {result.rows['events']} events"
    if result.changes is not None:
        line += f", {result.changes}"
    if result.state == "partial":
        causes = ", ".join(sorted({str(gap["cause"]) for gap in result.gaps})) or "media"
        line += f", {result.frames_failed} frames lost ({causes})"
    return line + (f" ({result.note})" if result.note else "")


class PlainReporter:
    """Lines, for logs."""

    def __init__(self) -> None:
        self.meter = Meter()
        self._last = time.monotonic()

    def begin(self, num_videos: int) -> None:
        self.meter.num_videos = num_videos

    def video(self, uri: str, duration_s: float | None) -> None:
        if duration_s:
            self.meter.add(uri, duration_s)

    def advance(self, seconds: float) -> None:
        self.meter.seen_s += seconds
        if time.monotonic() - self._last > _PLAIN_EVERY_S:
            self._last = time.monotonic()
            self.note(self.meter.line())

    def segment(self, uri: str, video_id: str, first: int, last: int) -> None: ...

    def done(self, result: VideoResult) -> None:
        self.meter.num_done += 1
        if result.state not in ("current", "other_config"):
            self.note(result_line(result))

    def note(self, text: str) -> None:
        say(text)


class JsonReporter(PlainReporter):
    """A JSON object per line, with the ids of video and segment, for MAREY_LOG=json."""

    def segment(self, uri: str, video_id: str, first: int, last: int) -> None:
        log("segment", uri=uri, video_id=video_id, segment=f"{first}-{last}")

    def done(self, result: VideoResult) -> None:
        self.meter.num_done += 1
        told = {
            "uri": result.uri,
            "video_id": result.video_id,
            "state": result.state,
            "rows": dict(result.rows),
        }
        error = {"error_code": result.error_code, "error": result.error} if result.error else {}
        log("video", level="WARNING" if result.state == "failed" else "INFO", **told, **error)


class BarReporter(PlainReporter):
    """A bar that is drawn again and again; lines of videos stay above it."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(file=cast(IO[str], BestEffortStream(sys.stderr)))
        self.bar = Progress(BarColumn(), TextColumn("{task.description}"), console=console, transient=True)
        self.task = self.bar.add_task("", total=None)

    def advance(self, seconds: float) -> None:
        self.meter.seen_s += seconds
        if time.monotonic() - self._last < _BAR_EVERY_S:
            return
        self._last = time.monotonic()
        self.bar.update(
            self.task, total=self.meter.total_s, completed=self.meter.seen_s, description=self.meter.line()
        )

    def note(self, text: str) -> None:
        self.bar.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def reporter(quiet: bool = False) -> Iterator[PlainReporter]:
    """The reporter that fits stderr."""
    if for_machines():
        yield JsonReporter()
    elif sys.stderr.isatty() and not quiet:
        bar = BarReporter()
        with bar.bar:
            yield bar
    else:
        yield PlainReporter()
