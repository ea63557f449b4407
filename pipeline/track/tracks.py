"""A track in the making: its observations within the window, and what is known of it as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.motion import MotionState
from pipeline.track.summary import Summary

Array = NDArray[np.float64]

LOOK_MEMORY = 0.9
"""Share of a track's appearance that stays when a box is added."""


@dataclass(eq=False)
class Track:
    """One object, as far as it is known. Observations older than the window are forgotten."""

    number: int  # order of birth
    group: int
    samples: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    boxes: list[Array] = field(default_factory=list)  # z, each in its own frame
    scores: list[float] = field(default_factory=list)
    first_t: float = 0.0
    first_frame: int = 0  # number of the frame within the video, without gaps
    last_frame: int = 0
    num_observed: int = 0
    score_sum: float = 0.0
    best_score: float = 0.0
    class_scores: dict[str, float] = field(default_factory=dict)
    look: Array | None = None
    end: MotionState | None = None  # the state when the track is no longer followed
    end_sample: int = (
        0  # the frame in whose picture that state is: the camera may have moved on since its box
    )
    settled: bool = False  # its beginning is decided: no earlier track will be put before it
    kept: bool = False
    track_id: int = 0
    summary: Summary | None = None

    def observe(
        self, frame: int, sample: int, t: float, z: Array, score: float, name: str, look: Array | None
    ) -> None:
        """Add a box."""
        if not self.samples:
            self.first_t, self.first_frame = t, frame
        self.last_frame = frame
        self.samples.append(sample)
        self.times.append(t)
        self.boxes.append(z)
        self.scores.append(score)
        self.num_observed += 1
        self.score_sum += score
        self.best_score = max(self.best_score, score)
        self.class_scores[name] = self.class_scores.get(name, 0.0) + score
        if look is not None and not np.isnan(look[0]):
            mixed = look if self.look is None else LOOK_MEMORY * self.look + (1 - LOOK_MEMORY) * look
            self.look = mixed / max(float(np.linalg.norm(mixed)), 1e-9)

    def append(self, later: Track) -> None:
        """Take over the observations of the same object's later track."""
        self.samples += later.samples
        self.times += later.times
        self.boxes += later.boxes
        self.scores += later.scores
        self.last_frame = later.last_frame
        self.num_observed += later.num_observed
        self.score_sum += later.score_sum
        self.best_score = max(self.best_score, later.best_score)
        for name, score in later.class_scores.items():
            self.class_scores[name] = self.class_scores.get(name, 0.0) + score
        self.look = later.look if later.look is not None else self.look
        self.end, self.end_sample = later.end, later.end_sample

    def forget_before(self, t: float) -> None:
        """Drop observations before `t`, but not the last one."""
        keep = 0
        while keep < len(self.times) - 1 and self.times[keep] < t:
            keep += 1
        if keep:
            del self.samples[:keep], self.times[:keep], self.boxes[:keep], self.scores[:keep]

    @property
    def last_t(self) -> float:
        """Seconds, time of the last observation."""
        return self.times[-1]

    @property
    def mean_score(self) -> float:
        """Mean score of the observed boxes so far."""
        return self.score_sum / self.num_observed

    @property
    def best_class(self) -> str:
        """The class with the highest summed score so far."""
        return max(sorted(self.class_scores), key=lambda name: self.class_scores[name])
