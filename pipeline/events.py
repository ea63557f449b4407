"""Event models on frame embeddings: scores per frame, and intervals from them.

The events do not depend on how the frames are cut into updates, to the last bit: a causal model runs over
blocks of a fixed number of frames, any other over windows that lie fixed on the time axis, in tensors whose
shape the frames alone decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.cells import sigmoid
from models.event_network import EventNetwork, State, cuts, load_event_network
from models.files import CheckpointError, file_digest
from pipeline.config import EventsConfig
from pipeline.errors import ModelError
from pipeline.event_rows import details_json, event_id, events_table
from pipeline.weights import weights_path

_CLOSE_SHARE, _LEAST_SHARE, _LIKELY = 0.9, 0.7, 0.5
"""An interval that `min_score` has opened goes on while the score is at least `_CLOSE_SHARE` of it, or while
the label is more likely there than not, but for no less than `_LEAST_SHARE` of it."""

MAX_GAP_S = 2.0
"""Frames farther apart are no neighbours: intervals end, models forget."""

_FINER = 1.5
"""Times as many frames a second as a model was trained on from which they are thinned out."""

_BLOCK = 64  # frames of a causal block
_BATCH = 16  # windows that are scored together

Floats = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]
Shots = npt.NDArray[np.int64]
Scored = tuple[Times, Floats]  # (N,) seconds and (N, labels) scores in 0..1, of frames in order


def load_event_model(name: str) -> tuple[EventNetwork, str]:
    """An event model by shipped name or path, and the digest of its file.

    Raises:
        ModelError: the file is missing, damaged, or no event model.
    """
    try:
        path = weights_path(name)
        return load_event_network(path), file_digest(path)
    except CheckpointError as exc:
        raise ModelError(
            f"event model {name!r} cannot be used",
            got=str(exc),
            remedy="give a shipped name, a .safetensors file or its address",
        ) from exc


def behind_another_detector(name: str, model: EventNetwork, detector: str | None) -> str | None:
    """A line for the user where the model learned from another detector's embeddings; else None.

    Scores are then not those that its card tells of. `detector` is the digest of what gives the embeddings,
    None where it is not known.
    """
    trained = model.config.detector
    if trained is None or detector is None or trained == detector:
        return None
    return (
        f"event model {name!r} was trained behind another detector ({trained[:12]}, here {detector[:12]}): "
        "its scores are not to be trusted; train it again behind this one with marey train events"
    )


def shown_too_few_frames(name: str, model: EventNetwork, sample_fps: float) -> str | None:
    """A line for the user where frames are farther apart than those the model learned from; else None.

    What changes from frame to frame then looks like more than it is. `sample_fps` is 0 for every frame.
    """
    trained = model.config.sample_fps
    if not 0 < _FINER * sample_fps <= trained:
        return None
    return (
        f"event model {name!r} was trained on {trained:g} frames a second, here it sees {sample_fps:g}: its "
        f"scores are not to be trusted; set video.sample_fps = {trained:g}, or events.models = [] for none"
    )


class EventDetector:
    """Frames of one video in, events of one model out, piece by piece, in constant memory."""

    def __init__(
        self,
        model: EventNetwork,
        settings: EventsConfig,
        *,
        video_id: str = "",
        name: str = "",
        digest: str = "",
        sample_fps: float = 10.0,
    ) -> None:
        """Prepare for one video.

        Args:
            model: that gives the scores.
            settings: what makes an interval.
            video_id: goes into the events' ids.
            name: of the model, for `details`.
            digest: of the model's file, for `details`.
            sample_fps: ticks per second of the frames' grid, 0 for every frame.
        """
        self._scores = FrameScorer(model, sample_fps)
        self._video_id, self._name, self._digest = video_id, name, digest
        self._cell = model.config.cell
        self.classes = model.config.classes
        """Of objects that take part in what the model finds, which `with_tracks` looks for."""
        self._labels = model.config.labels
        self._open = [Intervals(settings.min_score, settings.min_duration_s) for _ in self._labels]

    def update(self, frames: pa.Table) -> pa.Table:
        """Take the next frames, columns of FRAMES in order of `t`; events that are over, as EVENTS.

        Frames without embedding are passed over.

        Raises:
            ValueError: the frames are not in order of time.
            ModelError: the embeddings do not fit the model.
        """
        return self._events(self._scores.update(frames))

    def finish(self) -> pa.Table:
        """Events that the end of the video ends, as EVENTS."""
        rows = self._events(self._scores.finish())
        last = [
            self._row(label, found)
            for label, open_ in zip(self._labels, self._open, strict=True)
            for found in open_.finish()
        ]
        return pa.concat_tables([rows, events_table(last)])

    def _events(self, parts: Iterator[Scored]) -> pa.Table:
        rows = []
        for t, scores in parts:
            for column, label in enumerate(self._labels):
                rows += [self._row(label, found) for found in self._open[column].push(t, scores[:, column])]
        return events_table(rows)

    def _row(self, label: str, found: Interval) -> dict[str, object]:
        times = (found.t_start, found.t_end, found.t_peak)
        return {
            "event_id": event_id(self._video_id, "model", label, times),
            "source": "model",
            "label": label,
            "t_start": found.t_start,
            "t_end": found.t_end,
            "t_peak": found.t_peak,
            "score": found.score,
            "track_ids": [],
            "zone": None,
            "direction": None,
            "details": details_json(
                kind="model",
                model=self._name,
                weights=self._digest,
                cell=self._cell,
                mean_score=found.mean_score,
                num_frames=found.num_frames,
            ),
        }


@dataclass(frozen=True)
class Interval:
    """A stretch of frames with a label, from the first to the last; `score` is the highest, at `t_peak`."""

    t_start: float
    t_end: float
    t_peak: float
    score: float
    mean_score: float
    num_frames: int


@dataclass
class _Run:
    t_start: float
    t_end: float
    t_peak: float
    best: float
    total: float
    num_frames: int


class Intervals:
    """Stretches in which a score reaches `min_score` and stays at or above what closes them, a bit lower."""

    def __init__(self, min_score: float, min_duration_s: float) -> None:
        self._open_at = min_score
        self._close_below = max(_LEAST_SHARE * min_score, min(_CLOSE_SHARE * min_score, _LIKELY))
        self._min_s = min_duration_s
        self._run: _Run | None = None

    def push(self, t: Times, scores: Floats) -> list[Interval]:
        """Take the next frames, (N,) each; the intervals that are over."""
        found: list[Interval] = []
        for now, score in zip(t.tolist(), scores.tolist(), strict=True):
            run = self._run
            if run is not None and (score < self._close_below or now - run.t_end > MAX_GAP_S):
                found += self.finish()
                run = None
            if score < self._close_below:
                continue
            if run is None:
                self._run = _Run(now, now, now, score, score, 1)
                continue
            run.t_end, run.total, run.num_frames = now, run.total + score, run.num_frames + 1
            if score > run.best:
                run.best, run.t_peak = score, now
        return found

    def finish(self) -> list[Interval]:
        """The interval that is open, if it is one."""
        run, self._run = self._run, None
        if run is None or run.best < self._open_at or run.t_end - run.t_start < self._min_s - 1e-6:
            return []
        mean = run.total / run.num_frames
        return [Interval(run.t_start, run.t_end, run.t_peak, run.best, mean, run.num_frames)]


class FrameScorer:
    """Scores of every frame of one video, later than the frames come but the same however they are cut.

    A model sees each shot for itself: where the picture becomes another, nothing is known of before, as at
    the start of a video, and so it is after a gap.

    Frames on a finer grid than the model was trained on (by half and more) are thinned out to its rate; the
    frames between get no score.
    """

    def __init__(self, model: EventNetwork, sample_fps: float = 10.0) -> None:
        self._fps = model.config.sample_fps
        self._sample_fps = sample_fps
        self._tick = -1
        self._newest = -np.inf
        self._shot = 0
        self._last: tuple[float, Floats] | None = None  # time and embedding (D,) of the last frame
        self._scorer: _Scorer = _Blocks(model) if model.config.causal else _Windows(model)

    def update(self, frames: pa.Table) -> Iterator[Scored]:
        """Take frames, columns sample, t and embedding of FRAMES; times and scores that are certain now."""
        t, embeddings = self._take(frames)
        return _checked(self._push(t, embeddings)) if len(t) else iter(())

    def finish(self) -> Iterator[Scored]:
        """The rest."""
        return _checked(self._scorer.finish())

    def _take(self, frames: pa.Table) -> tuple[Times, Floats]:
        frames = frames.filter(frames["embedding"].is_valid())
        t = frames["t"].to_numpy()
        if not len(t):
            return t, np.empty((0, 0), np.float32)
        if t[0] < self._newest or (np.diff(t) < 0).any():
            raise ValueError("frames must come in order of t")
        self._newest = float(t[-1])
        keep = self._thinned(frames["sample"].to_numpy(), t)
        return t[keep], _matrix(frames["embedding"])[keep]

    def _push(self, t: Times, embeddings: Floats) -> Iterator[Scored]:
        yield from self._scorer.push(t, embeddings, self._shots(t, embeddings))

    def _shots(self, t: Times, embeddings: Floats) -> Shots:
        """The number of each frame's shot, (N,)."""
        begins = np.zeros(len(t), bool)
        begins[1:] = (np.diff(t) > MAX_GAP_S) | cuts(embeddings)
        if self._last is not None:
            last_t, last = self._last
            begins[0] = t[0] - last_t > MAX_GAP_S or cuts(np.stack([last, embeddings[0]]))[0]
        self._last = float(t[-1]), embeddings[-1].copy()
        shot = self._shot + np.cumsum(begins)
        self._shot = int(shot[-1])
        return shot

    def _thinned(self, sample: npt.NDArray[np.int64], t: Times) -> npt.NDArray[np.bool_]:
        if 0 < self._sample_fps < _FINER * self._fps:
            return np.ones(len(t), bool)
        at = sample / self._sample_fps if self._sample_fps else t
        ticks = np.floor(at * self._fps + 1e-6).astype(np.int64)
        keep: npt.NDArray[np.bool_] = np.diff(ticks, prepend=self._tick) > 0
        self._tick = int(ticks[-1])
        return keep


def _matrix(column: pa.ChunkedArray) -> Floats:
    """Lists of one length as (N, D)."""
    lists = pa.concat_arrays([chunk.cast(pa.list_(pa.float32())) for chunk in column.chunks])
    lengths = np.unique(lists.value_lengths().to_numpy())
    if len(lengths) != 1:
        raise ModelError("frame embeddings of one video differ in length", got=lengths.tolist())
    values: Floats = lists.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(lists), -1)


def _checked(parts: Iterator[Scored]) -> Iterator[Scored]:
    try:
        yield from parts
    except ValueError as exc:
        raise ModelError(
            "the event model does not fit the embeddings",
            got=str(exc),
            remedy="use a model trained on these perception weights, or perceive again",
        ) from exc


class _Scorer(Protocol):
    def push(self, t: Times, embeddings: Floats, shot: Shots) -> Iterator[Scored]: ...

    def finish(self) -> Iterator[Scored]: ...


class _Blocks:
    """A causal model: blocks of `_BLOCK` frames, counted from the shot's start."""

    def __init__(self, model: EventNetwork) -> None:
        self._model = model
        self._state: State | None = None
        self._last_shot = 0  # of the last frame that was scored
        self._t: Times = np.empty(0)
        self._embeddings: Floats = np.empty((0, 0), np.float32)
        self._shot: Shots = np.empty(0, np.int64)

    def push(self, t: Times, embeddings: Floats, shot: Shots) -> Iterator[Scored]:
        if len(self._t):
            t, embeddings = np.concatenate([self._t, t]), np.concatenate([self._embeddings, embeddings])
            shot = np.concatenate([self._shot, shot])
        begin = 0
        for stop in [*np.flatnonzero(np.diff(shot, prepend=self._last_shot)).tolist(), len(t)]:
            ends = [*range(begin + _BLOCK, stop + 1, _BLOCK), *([stop] if stop < len(t) else [])]
            for end in ends:
                if end > begin:
                    yield self._score(t[begin:end], embeddings[begin:end])
                begin = end
            if stop < len(t):
                self._state = None
        if begin:
            self._last_shot = int(shot[begin - 1])
        self._t, self._embeddings, self._shot = t[begin:], embeddings[begin:], shot[begin:]

    def finish(self) -> Iterator[Scored]:
        if len(self._t):
            yield self._score(self._t, self._embeddings)
        self._t, self._state = np.empty(0), None

    def _score(self, t: Times, embeddings: Floats) -> Scored:
        block = np.zeros((_BLOCK, embeddings.shape[1]), np.float32)
        block[: len(t)] = embeddings
        logits, self._state = self._model.advance(block, self._state)
        return t, sigmoid(logits[: len(t)])


class _Windows:
    """Any other model: window k covers `hop` * k to `hop` * (k + 2) seconds and scores its middle half.

    Of a window with frames of several shots each shot's are a sequence of their own. Windows are scored in
    batches, of which batch m holds windows m * _BATCH and following.
    """

    def __init__(self, model: EventNetwork) -> None:
        self._model = model
        self._hop_s = model.config.window_s / 2
        self._t: Times = np.empty(0)
        self._embeddings: Floats = np.empty((0, 0), np.float32)
        self._shot: Shots = np.empty(0, np.int64)
        self._batch = -1  # of the window that scores the frame at 0 s

    def push(self, t: Times, embeddings: Floats, shot: Shots) -> Iterator[Scored]:
        if len(self._t):
            t, embeddings = np.concatenate([self._t, t]), np.concatenate([self._embeddings, embeddings])
            shot = np.concatenate([self._shot, shot])
        self._t, self._embeddings, self._shot = t, embeddings, shot
        self._pass_over_gap()
        while len(self._t) and self._t[-1] >= self._end_of_batch():
            yield from self._next_batch()

    def finish(self) -> Iterator[Scored]:
        while len(self._t) and self._window_of(self._t)[-1] >= self._batch * _BATCH:
            yield from self._next_batch()
        self._t = np.empty(0)

    def _end_of_batch(self) -> float:
        return ((self._batch + 1) * _BATCH + 1) * self._hop_s

    def _window_of(self, t: Times) -> npt.NDArray[np.int64]:
        """The window in whose middle half each frame lies."""
        return np.floor(t / self._hop_s - 0.5).astype(np.int64)

    def _next_batch(self) -> Iterator[Scored]:
        own = self._window_of(self._t)
        chosen = np.flatnonzero(own // _BATCH == self._batch)
        if len(chosen):
            # A sequence for each pair of window and shot that has frames to score.
            pairs = np.stack([own[chosen], self._shot[chosen]])
            (window, shot), row = np.unique(pairs, axis=1, return_inverse=True)
            begins = np.maximum(self._t.searchsorted(window * self._hop_s), self._shot.searchsorted(shot))
            ends = np.minimum(
                self._t.searchsorted((window + 2) * self._hop_s),
                self._shot.searchsorted(shot, side="right"),
            )
            scores = self._score(begins, ends)
            yield self._t[chosen], scores[row, chosen - begins[row]]
        self._batch += 1
        # The next batch's first window begins one hop before this one's last ends.
        keep = int(np.searchsorted(self._t, self._batch * _BATCH * self._hop_s))
        self._t, self._embeddings, self._shot = self._t[keep:], self._embeddings[keep:], self._shot[keep:]
        self._pass_over_gap()

    def _pass_over_gap(self) -> None:
        """Go on with the batch of the first window that holds a frame: times may leap by years."""
        if len(self._t):
            first = int(np.floor(self._t[0] / self._hop_s)) - 1
            self._batch = max(self._batch, first // _BATCH)

    def _score(self, begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> Floats:
        """Scores (rows, steps, labels) of the frames from `begins` to `ends`, (rows,)."""
        longest = int((ends - begins).max())
        scores = np.zeros((len(begins), longest, len(self._model.config.labels)), np.float32)
        for first in range(0, len(begins), _BATCH):
            some = range(first, min(first + _BATCH, len(begins)))
            lengths = np.zeros(_BATCH, np.int64)
            lengths[: len(some)] = (ends - begins)[some]
            windows = np.zeros((_BATCH, lengths.max(), self._embeddings.shape[1]), np.float32)
            for row, n in enumerate(some):
                windows[row, : lengths[row]] = self._embeddings[begins[n] : ends[n]]
            scores[some, : lengths.max()] = sigmoid(self._model.logits(windows, lengths))[: len(some)]
        return scores
