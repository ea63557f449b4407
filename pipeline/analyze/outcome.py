"""What a run is asked to do, and what it says of each video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from pipeline.analyze.changes import EventChanges

State = Literal["ok", "partial", "failed", "current", "other_config", "planned"]


@dataclass(frozen=True)
class Options:
    """Which videos are taken, beyond those that have no result yet."""

    upgrade: bool = False  # those with a current result of another config
    force: bool = False  # the same, and what failed before for whatever reason
    retry_failed: bool = False  # those that failed for another reason than their bytes
    dry_run: bool = False  # plan only
    limit: int | None = None  # at most so many videos are worked on
    since: datetime | None = None  # files changed before it are left out of directories and globs
    attempt_id: str | None = None  # of an attempt that was begun (`ranges.share`): its video goes on with it


@dataclass(frozen=True)
class VideoResult:
    """What became of one input. `rows` counts by table; `seconds` are wall seconds by stage."""

    uri: str
    state: State
    video_id: str | None = None
    duration_s: float | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    frames_failed: int = 0
    gaps: tuple[Mapping[str, Any], ...] = ()
    error_code: str | None = None
    error: str | None = None
    note: str = ""
    size_bytes: int | None = None
    changes: EventChanges | None = None  # of events that were found anew
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # dry run: by rule and direction


@dataclass(frozen=True)
class Summary:
    """The results of a run, in the order in which they came."""

    results: tuple[VideoResult, ...]
    elapsed_s: float

    def count(self, state: State) -> int:
        return self.states[state]

    @property
    def changes(self) -> EventChanges | None:
        """Of all videos whose events were found anew; None if none were."""
        known = [result.changes for result in self.results if result.changes is not None]
        return sum(known, EventChanges()) if known else None

    @property
    def states(self) -> Counter[str]:
        return Counter(result.state for result in self.results)

    def exit_code(self, *, strict: bool = False) -> int:
        """0, or 1 if an input failed; with `strict` also if one is partial."""
        return int(bool(self.states["failed"] or (strict and self.states["partial"])))


class Reporter(Protocol):
    """Where progress goes. All times are seconds of video."""

    def begin(self, num_videos: int) -> None: ...
    def video(self, uri: str, duration_s: float | None) -> None: ...
    def advance(self, seconds: float) -> None: ...
    def segment(self, uri: str, video_id: str, first: int, last: int) -> None: ...  # decoded, ticks
    def done(self, result: VideoResult) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """A reporter that says nothing."""

    def begin(self, num_videos: int) -> None: ...
    def video(self, uri: str, duration_s: float | None) -> None: ...
    def advance(self, seconds: float) -> None: ...
    def segment(self, uri: str, video_id: str, first: int, last: int) -> None: ...
    def done(self, result: VideoResult) -> None: ...
    def note(self, text: str) -> None: ...
