"""The online half: frame by frame, boxes continue tracks or begin new ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.motion import MotionModel, MotionState
from pipeline.track.associate import Weighing, assign, doubles, gains
from pipeline.track.ego import EgoMotion
from pipeline.track.observe import GROUPS, CameraMotion, Frame
from pipeline.track.tracks import Track

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

SCORE_BINS = 200
"""Bins of the counts of scores, from 0 to 1."""


@dataclass(frozen=True)
class FollowSettings:
    """Thresholds of the online half."""

    start_score: float  # from here on a box takes part in the first round and may begin a track
    low_score: float  # from here on a box may continue a track
    max_gap_s: float  # seconds without a box after which a track is no longer followed
    first_gap_s: float = 0.4  # a new track may be lost that long, and as long again as it was seen
    proven: int = 6  # observations from which a track is taken for an object rather than for noise
    proven_nats: float = 3.0  # by which a younger one has to fit a box better to go before it
    double_iou: float = 0.65  # a new box that overlaps a better one more is no new object
    weighing: Weighing = field(default_factory=Weighing)


class Follower:
    """Live tracks with their motion states, row by row the same object."""

    def __init__(self, model: MotionModel, settings: FollowSettings, centre: tuple[float, float]) -> None:
        self.tracks: list[Track] = []
        self._model = model
        self._settings = settings
        self._centre = centre
        self._state: MotionState = model.start(np.empty((0, 4)), np.empty(0))
        self._last_t = np.empty(0)
        self._group = np.empty(0, np.int64)
        self._groups: dict[str, int] = {}
        self.camera: CameraMotion | None = None
        self._ego = EgoMotion()
        self._born = 0
        self._num_frames = 0
        self._sample = 0
        self._now = -np.inf
        self._step_s = 0.0  # recent time between frames
        self._score_counts = np.zeros(SCORE_BINS, np.int64)

    def step(self, frame: Frame) -> list[Track]:
        """Take in the next frame; returns the tracks that began. Those that ended got their `end`."""
        self._clock(frame.t)
        self._end_lost(frame.t)
        self._sample = frame.sample
        frame = self._without_twins(frame)
        group = self._groups_of(frame)
        taken = np.zeros(len(frame.z), np.bool_)
        self.camera = frame.camera
        if self.tracks:
            mean, variance = self._expect(frame)
            if len(frame.z):
                taken = self._continue(frame, group, mean, variance)
        return self._begin(frame, group, taken)

    def _expect(self, frame: Frame) -> tuple[Array, Array]:
        """Boxes (T, 4) expected in this frame, and variances, after the camera's motion, given or felt."""
        if frame.camera is not None:
            self._move(frame.camera)
        mean, variance = self._model.predict(self._state, frame.t - self._last_t)
        if frame.camera is None:
            sure = frame.scores >= self._settings.start_score
            self.camera = self._ego.estimate(mean, variance, frame.z[sure])
            if self.camera is not None:
                self._move(self.camera)
                mean[:, :2] += (self.camera.dx, self.camera.dy)
        return mean, variance

    def _move(self, by: CameraMotion) -> None:
        self._state = self._state.warp(by.dx, by.dy, by.scale, by.rotation, self._centre)

    def end_all(self) -> None:
        """End every track; for the end of the video."""
        self._drop(np.ones(len(self.tracks), np.bool_))

    def replace(self, old: Track, new: Track) -> None:
        """Go on with `new` where `old` was followed."""
        self.tracks[self.tracks.index(old)] = new

    def _groups_of(self, frame: Frame) -> NDArray[np.int64]:
        """(N,) which boxes can be of one object."""
        names = [GROUPS.get(name, name) for name in frame.classes]
        return np.array([self._groups.setdefault(name, len(self._groups)) for name in names], np.int64)

    def _without_twins(self, frame: Frame) -> Frame:
        """Without boxes that the detector gave twice, as a car and as a truck: the surer name stays."""
        kinds = {name: number for number, name in enumerate(dict.fromkeys(frame.classes))}
        if len(kinds) < 2:
            return frame
        kind = np.array([kinds[name] for name in frame.classes], np.int64)
        everyone = np.arange(len(kind))
        keep = ~doubles(frame.z, everyone, self._groups_of(frame), self._settings.double_iou, kind)
        if keep.all():
            return frame
        return replace(
            frame, z=frame.z[keep], scores=frame.scores[keep],
            classes=[name for name, kept in zip(frame.classes, keep, strict=True) if kept],
            appearance=None if frame.appearance is None else frame.appearance[keep],
        )  # fmt: skip

    def typical_score(self) -> float:
        """Median score of the boxes that continued tracks: detectors differ in what they call sure."""
        half = self._score_counts.sum() / 2
        return float(np.searchsorted(np.cumsum(self._score_counts), half)) / SCORE_BINS

    def _clock(self, t: float) -> None:
        self._num_frames += 1
        if np.isfinite(self._now):
            step = min(t - self._now, self._settings.max_gap_s)
            self._step_s = step if self._step_s == 0 else self._step_s + 0.1 * (step - self._step_s)
        self._now = t

    def _end_lost(self, t: float) -> None:
        limit = self._settings.first_gap_s + self._state.age * self._step_s
        lost = t - self._last_t > np.minimum(limit, self._settings.max_gap_s) + 1e-9
        if lost.any():
            self._drop(lost)

    def _drop(self, gone: NDArray[np.bool_]) -> None:
        for i in np.nonzero(gone)[0]:
            self.tracks[i].end = self._state.take(np.array([i]))
            self.tracks[i].end_sample = self._sample
        self.tracks = [track for track, out in zip(self.tracks, gone, strict=True) if not out]
        self._state, self._last_t, self._group = (
            self._state.take(~gone),
            self._last_t[~gone],
            self._group[~gone],
        )

    def _continue(
        self, frame: Frame, group: NDArray[np.int64], mean: Array, variance: Array
    ) -> NDArray[np.bool_]:
        """Match boxes to tracks, the confident ones first; returns which boxes were taken."""
        dt = frame.t - self._last_t
        gain = gains(mean, variance, frame.z, self._looks(frame), self._settings.weighing)
        gain[self._group[:, None] != group[None]] = -np.inf
        rows, columns = self._assign(gain, frame.scores)
        self._observe(frame, rows, columns, dt)
        taken = np.zeros(len(frame.z), np.bool_)
        taken[columns] = True
        return taken

    def _assign(self, gain: Array, scores: Array) -> tuple[Ints, Ints]:
        """Rows and columns of (T, D) that belong together, in three rounds.

        First sure boxes go to proven tracks, unless a young track fits a box better by far. A young one may
        be noise; DeepSORT and ByteTrack, too, ask it last (arXiv 1703.07402, 2110.06864). Then sure boxes go
        to any track that is left, and then doubtful ones.
        """
        settings = self._settings
        proven, anyone = self._state.age >= settings.proven, np.ones(len(gain), np.bool_)
        sure = scores >= settings.start_score
        doubtful = ~sure & (scores >= settings.low_score)
        least = gain[~proven].max(axis=0, initial=-np.inf) - settings.proven_nats
        first = np.where(gain >= least, gain, -np.inf)
        rows, columns = np.empty(0, np.intp), np.empty(0, np.intp)
        for tracks, boxes, worth in ((proven, sure, first), (anyone, sure, gain), (anyone, doubtful, gain)):
            i, j = np.flatnonzero(tracks), np.flatnonzero(boxes)
            if not len(i) or not len(j):
                continue
            row, column = assign(worth[np.ix_(i, j)])
            rows, columns = np.concatenate([rows, i[row]]), np.concatenate([columns, j[column]])
            proven[i[row]] = anyone[i[row]] = sure[j[column]] = False
        return rows, columns

    def _observe(self, frame: Frame, rows: Ints, columns: Ints, dt: Array) -> None:
        if not len(rows):
            return
        boxes, scores = frame.z[columns], frame.scores[columns]
        self._state.put(rows, self._model.update(self._state.take(rows), boxes, scores, dt[rows]))
        self._last_t[rows] = frame.t
        grown = scores[self._state.age[rows] > 3]
        self._score_counts += np.bincount((grown * (SCORE_BINS - 1)).astype(int), minlength=SCORE_BINS)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            self._add(self.tracks[row], frame, column)

    def _begin(self, frame: Frame, group: NDArray[np.int64], taken: NDArray[np.bool_]) -> list[Track]:
        new = np.nonzero(~taken & (frame.scores >= self._settings.start_score))[0]
        if len(new):
            new = new[~doubles(frame.z, new, group, self._settings.double_iou)]
        if not len(new):
            return []
        self._state = self._state.join(self._model.start(frame.z[new], frame.scores[new]))
        self._last_t = np.concatenate([self._last_t, np.full(len(new), frame.t)])
        self._group = np.concatenate([self._group, group[new]])
        born = []
        for column in new.tolist():
            born.append(Track(self._born, int(group[column])))
            self._born += 1
            self._add(born[-1], frame, column)
        self.tracks += born
        return born

    def _add(self, track: Track, frame: Frame, column: int) -> None:
        look = None if frame.appearance is None else frame.appearance[column]
        score = float(frame.scores[column])
        name = frame.classes[column]
        track.observe(self._num_frames, frame.sample, frame.t, frame.z[column], score, name, look)

    def _looks(self, frame: Frame) -> tuple[Array, Array] | None:
        if frame.appearance is None:
            return None
        unknown = np.full(frame.appearance.shape[1], np.nan)
        return np.array([unknown if t.look is None else t.look for t in self.tracks]), frame.appearance
