"""What is asked of a decoding process, and what it gives: jobs and items."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, MareyError, MediaError, SourceError, WorkerError
from pipeline.media.container import Limits
from pipeline.media.info import TimeSource, VideoInfo
from pipeline.media.letterbox import Letterbox
from pipeline.media.reader import Picture, ReaderName

Cause = Literal["media", "timeout", "crash", "memory"]


@dataclass(frozen=True)
class Fault:
    """For tests only: what a decoding process does to itself before it gives the sample `at_sample`.

    -1: before it opens the file. `attempts` = 1 spares the second try. `slow` gives each sample from there
    on, 0.2 s later than it could. In-process decoding ignores it.
    """

    kind: Literal["hang", "crash", "leak", "slow"]
    at_sample: int
    attempts: int = 1


@dataclass(frozen=True)
class DecodeJob:
    """Decode the samples `first_sample` <= s < `end_sample` of one file; None: to the file's end.

    `key` is the caller's name for the job and must be unique within a run. `sample_fps` 0 takes every frame;
    samples are then numbers of frames. `width`, `height` are the CNN's input in pixels, which a picture fills
    without its aspect if `stretch`. Above 0, `still_threshold` marks frames that hardly differ from some
    before them (see `pipeline.media.still`). Without `motion_grid` the grids are 0. `stall_s` is how long a
    decoding process may go without progress, `max_memory_bytes` how large it may grow. A job that starts
    later than `seek_after_s` seeks if the file is safe for it; None: never. `reader` is tried first; files
    that are not plain enough for it are read by PyAV. `sparse` spares the decoder, where the file is safe for
    it, what is on display at no tick (`pipeline.media.sparse`); frames are the same. `explain` asks for
    `JobEnd.read_from_start`.
    """

    key: str
    path: str
    first_sample: int = 0
    end_sample: int | None = None
    sample_fps: float = 10.0
    width: int = 544
    height: int = 320
    stretch: bool = False
    still_threshold: float = 0.0
    motion_grid: bool = True
    max_pixels: int = Limits.max_pixels
    max_streams: int = Limits.max_streams
    stall_s: float = 60.0
    max_memory_bytes: int = 2 << 30
    seek_after_s: float | None = 20.0
    reader: ReaderName = "pyav"
    sparse: bool = True
    explain: bool = False
    fault: Fault | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.sample_fps) or self.sample_fps < 0:
            raise ValueError(f"sample_fps is 0 or more, got {self.sample_fps}")
        if self.first_sample < 0 or (self.end_sample is not None and self.end_sample <= self.first_sample):
            raise ValueError(f"a job needs 0 <= first_sample < end_sample, got {self}")

    @property
    def reading(self) -> tuple[object, ...]:
        """What decides which samples there are and how they look: jobs that agree in it can share a file."""
        looks = self.width, self.height, self.stretch, self.still_threshold, self.motion_grid
        limits = self.max_pixels, self.max_streams
        return self.path, self.sample_fps, *looks, *limits, self.reader, self.sparse

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; `from_json` is the inverse."""
        return {**vars(self), "fault": vars(self.fault) if self.fault else None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DecodeJob:
        fault = values["fault"]
        return cls(**{**values, "fault": Fault(**fault) if fault else None})


@dataclass(frozen=True)
class Gap:
    """What is lost between two times, in seconds from the first displayed frame.

    `frames` packets did not decode (`media`), or an unknown number of frames was not reached (0).
    `t_end` None: to the end of the job.
    """

    t_start: float
    t_end: float | None
    frames: int
    cause: Cause


@dataclass(frozen=True)
class JobStart:
    """The file is open. Comes before the job's frames, once."""

    job_key: str
    info: VideoInfo
    letterbox: Letterbox

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; `from_json` is the inverse."""
        return {**vars(self), "info": self.info.to_json(), "letterbox": vars(self.letterbox)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> JobStart:
        info, letterbox = VideoInfo.from_json(values["info"]), Letterbox(**values["letterbox"])
        return cls(values["job_key"], info, letterbox)


@dataclass(frozen=True, repr=False, eq=False)
class SampledFrame:
    """One sampled frame.

    `picture` is (H, W, 3) RGB uint8, letterboxed; empty, (0, 0, 3), if the frame is still. From `Feed.run` it
    is a view into memory that is used again after the next item is asked for: copy what must live longer.
    `motion_grid` is (96,) float32 and `camera_motion` (dx, dy, scale, rotation) or None, both against the
    sampled frame before (see `pipeline.media.motion`). `pts` is in the stream's time base, None if the file
    has none. `like` above 0: what was perceived of the job's frame that many back, of those that are
    perceived, holds for this one too.
    """

    job_key: str
    sample: int
    pts: int | None
    t: float
    picture: Picture
    motion_grid: NDArray[np.float32]
    camera_motion: tuple[float, float, float, float] | None
    like: int = 0

    @property
    def still(self) -> bool:
        """Whether the frame need not be perceived."""
        return self.like > 0

    def __repr__(self) -> str:
        shape = self.picture.shape
        return f"SampledFrame({self.job_key!r}, sample={self.sample}, t={self.t}, picture={shape})"


@dataclass(frozen=True)
class JobEnd:
    """The last item of every job.

    `frames_decoded` and `frames_failed` count the frames that belong to the job's samples, whether sampled
    or not; those that need not be decoded count as good. Jobs that follow on each other count each frame
    once. `last_t` is the time of the last of them, `end_t` the end of the last frame's display if its
    duration is known. `end_of_file`: the file ends within the job. `next_sample` is the next sample at
    which something is shown or lost, where it is known: there is nothing between the job's end and it.
    `reader` read the job's frames; `reader_note` says why it was not the one that the job named,
    `read_from_start` why no job may begin in the middle of the file. `error` is set where the file as a
    whole cannot be used, or no decoding process survived opening it; a job that was broken off later has a
    gap instead.
    """

    job_key: str
    info: VideoInfo | None = None
    letterbox: Letterbox | None = None
    frames_decoded: int = 0
    frames_failed: int = 0
    gaps: tuple[Gap, ...] = ()
    last_t: float | None = None
    end_t: float | None = None
    end_of_file: bool = False
    next_sample: int | None = None
    time_source: TimeSource = "pts"
    reader: ReaderName = "pyav"
    reader_note: str | None = None
    read_from_start: str | None = None
    error: MareyError | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; `from_json` is the inverse."""
        values = dict(vars(self))
        values["info"] = self.info.to_json() if self.info else None
        values["letterbox"] = vars(self.letterbox) if self.letterbox else None
        values["gaps"] = [vars(gap) for gap in self.gaps]
        values["error"] = error_to_json(self.error) if self.error else None
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> JobEnd:
        return cls(
            **{
                **values,
                "info": VideoInfo.from_json(values["info"]) if values["info"] else None,
                "letterbox": Letterbox(**values["letterbox"]) if values["letterbox"] else None,
                "gaps": tuple(Gap(**gap) for gap in values["gaps"]),
                "error": error_from_json(values["error"]) if values["error"] else None,
            }
        )


Item = JobStart | SampledFrame | JobEnd

_ERRORS: dict[str, type[MareyError]] = {
    cls.__name__: cls for cls in (MareyError, InputError, MediaError, SourceError, WorkerError)
}


def error_to_json(error: MareyError) -> dict[str, Any]:
    """Class, code and the parts of the message."""
    got = None if error.got is None else str(error.got)
    parts = {"what": error.what, "got": got, "remedy": error.remedy}
    return {"type": type(error).__name__, "code": error.code, **parts}


def error_from_json(values: dict[str, Any]) -> MareyError:
    """The error again; an unknown class becomes the root of the tree."""
    kind = _ERRORS.get(values["type"], MareyError)
    return kind(values["what"], got=values["got"], remedy=values["remedy"], code=values["code"])
