"""The tracker: detections of one video in, final tracks and objects out, in bounded memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from models.motion import MotionModel
from pipeline.config import TrackConfig
from pipeline.lake.schema import OBJECTS, TRACKS
from pipeline.track.camera import CameraPath
from pipeline.track.emit import Rows, final_rows
from pipeline.track.follow import Follower, FollowSettings
from pipeline.track.link import LinkSettings, find_links
from pipeline.track.observe import Frame, read_frames
from pipeline.track.summary import Summary
from pipeline.track.tracks import Track

EPOCHS_PER_LOOKAHEAD = 5
"""Rows become final in blocks of this part of the lookahead, at most a second long."""

MIN_OBSERVED = 3
"""Boxes below which a track is taken for noise, however long it lasts."""

MIN_QUALITY = 0.65
"""Share of the video's typical score that a track's score must have, see `Tracker._quality`."""


@dataclass(frozen=True)
class _Limits:
    """Times of the offline half, in seconds, made to fit into the lookahead."""

    lookahead_s: float
    epoch_s: float
    max_gap_s: float
    max_fill_s: float
    min_track_s: float
    min_observed: int

    @staticmethod
    def of(settings: TrackConfig) -> _Limits:
        lookahead = settings.lookahead_s
        epoch = min(lookahead / EPOCHS_PER_LOOKAHEAD, 1.0)
        max_gap = min(settings.max_gap_s, lookahead - epoch)
        return _Limits(
            lookahead,
            epoch,
            max_gap,
            min(settings.max_fill_s, max_gap),
            min(settings.min_track_s, lookahead - epoch),
            MIN_OBSERVED if lookahead > 0 else 1,
        )


def beyond_lookahead(settings: TrackConfig) -> str | None:
    """A line for the user where the lookahead is too short for the other times; else None."""
    limits = _Limits.of(settings)
    longest = limits.lookahead_s - limits.epoch_s
    wanted = {name: getattr(settings, name) for name in ("max_gap_s", "min_track_s")}
    if not (cut := {name: value for name, value in wanted.items() if value > longest + 1e-9}):
        return None
    least = max(cut.values()) + min(max(cut.values()) / (EPOCHS_PER_LOOKAHEAD - 1), 1.0)
    return (
        f"track.lookahead_s = {settings.lookahead_s:g} sees no farther than {longest:g} s: "
        f"{' and '.join(f'{name} = {value:g}' for name, value in cut.items())} "
        f"{'counts' if len(cut) == 1 else 'count'} as that; set lookahead_s to {least:g}"
    )


class Tracker:
    """Turns one video's detections into tracks; forget it with the video.

    Results depend on frames and detections alone, not on how they are cut into calls of `update`: work is
    done frame by frame, and rows become final at moments of the video's own time.
    """

    def __init__(self, settings: TrackConfig, motion: MotionModel, frame_size: tuple[int, int]) -> None:
        """Begin a video.

        Args:
            settings: thresholds in seconds and scores.
            motion: the motion model; it is shared, states are kept here.
            frame_size: width and height of the displayed picture; camera motion turns about its centre.
        """
        centre = (frame_size[0] / 2, frame_size[1] / 2)
        start_score = (settings.high_score + settings.low_score) / 2
        self._settings = settings
        self._limits = _Limits.of(settings)
        self._model = motion
        follow_gap = min(settings.max_gap_s, max(self._limits.max_gap_s, 0.3))
        self._follower = Follower(
            motion,
            FollowSettings(min(start_score, settings.high_score), settings.low_score, follow_gap),
            centre,
        )
        self._link_settings = LinkSettings(self._limits.max_gap_s)
        self._path = CameraPath(centre)
        self._frames: deque[tuple[int, float]] = deque()
        self._tracks: list[Track] = []  # all whose end is not final, in order of birth
        self._epoch = 0
        self._horizon_t = -np.inf  # rows up to here have been given out
        self._first_sample: int | None = None
        self._last_sample: int | None = None
        self._next_id = 1
        self._rows: list[Rows] = []
        self._objects: list[Track] = []

    def update(self, frames: pa.Table, detections: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Take in further frames (FRAMES) and their detections (DETECTIONS).

        Returns:
            The rows of tracks (TRACKS) and objects (OBJECTS) that have become final.

        Raises:
            InputError: frames go back in time, a detection has no frame or no valid box.
        """
        for frame in read_frames(frames, detections, self._last_sample):
            self._step(frame)
        return self._give_out()

    def finish(self) -> tuple[pa.Table, pa.Table]:
        """End the video; returns the rows that were still open."""
        self._follower.end_all()
        self._settle(np.inf)
        return self._give_out(last=True)

    def _step(self, frame: Frame) -> None:
        if self._first_sample is None:
            self._first_sample = frame.sample
            self._epoch = self._epoch_of(frame.t)
        self._last_sample = frame.sample
        self._frames.append((frame.sample, frame.t))
        self._tracks += self._follower.step(frame)
        self._path.append(frame.sample, self._follower.camera)
        epoch = self._epoch_of(frame.t)
        if epoch > self._epoch or self._limits.epoch_s == 0:
            self._epoch = epoch
            self._settle(frame.t - self._limits.lookahead_s + self._limits.epoch_s)

    def _epoch_of(self, t: float) -> int:
        return int(t // self._limits.epoch_s) if self._limits.epoch_s > 0 else 0

    def _settle(self, horizon_t: float) -> None:
        """Make everything up to `horizon_t` final: links, which tracks are kept, rows, ends."""
        self._link(horizon_t)
        due = [frame for frame in self._frames if frame[1] <= horizon_t]
        samples = np.array([sample for sample, _ in due], np.int64)
        times = np.array([t for _, t in due], np.float64)
        fresh = []
        for track in self._tracks:
            if track.first_t <= horizon_t:
                track.settled = True
                track.kept = track.kept or self._is_real(track)
                if track.kept:
                    fresh.append(final_rows(track, samples, times, self._path, self._limits.max_fill_s))
        fresh = [rows for rows in fresh if len(rows.samples)]
        for rows in sorted(fresh, key=lambda r: (r.samples[0], r.track.number)):
            self._number(rows)
        self._rows += fresh
        self._close(horizon_t)
        self._horizon_t = max(self._horizon_t, horizon_t)
        self._forget()

    def _link(self, horizon_t: float) -> None:
        """Join tracks at ends that become final now; later ends are decided again with more evidence."""
        if self._limits.max_gap_s <= 0:
            return
        ended = [track for track in self._tracks if track.end is not None]
        begun = [track for track in self._tracks if not track.settled]
        heads: dict[Track, Track] = {}  # of chains
        links = find_links(ended, begun, horizon_t, self._model, self._path, self._link_settings)
        for earlier, later in links:
            heads[later] = heads.get(earlier, earlier)
            self._join(heads[later], later)

    def _join(self, earlier: Track, later: Track) -> None:
        if later.end is None:
            self._follower.replace(later, earlier)
        earlier.append(later)
        self._tracks.remove(later)

    def _is_real(self, track: Track) -> bool:
        lasted = track.last_t - track.first_t >= self._limits.min_track_s - 1e-9
        many = track.num_observed >= self._limits.min_observed
        sure = track.best_score >= self._settings.high_score
        return (
            lasted and many and sure and self._quality(track) >= MIN_QUALITY * self._follower.typical_score()
        )

    def _quality(self, track: Track) -> float:
        """Mean score, less where the track was seen in few of its frames: noise comes and goes."""
        possible = track.last_frame - track.first_frame + 1
        return float(track.mean_score * (track.num_observed / possible) ** 0.5)

    def _number(self, rows: Rows) -> None:
        track = rows.track
        if track.summary is None:
            track.summary, track.track_id = Summary(), self._next_id
            self._next_id += 1
        track.summary.add(rows.samples, rows.times, rows.corners)

    def _close(self, horizon_t: float) -> None:
        done = [track for track in self._tracks if track.end is not None and track.last_t <= horizon_t]
        self._tracks = [track for track in self._tracks if track not in done]
        self._objects += [track for track in done if track.summary is not None]

    def _forget(self) -> None:
        """Drop what no later row needs: a gap may still have to be filled from its far side."""
        old = self._horizon_t - self._limits.max_gap_s - 1.0
        for track in self._tracks:
            track.forget_before(old)
        while self._frames and self._frames[0][1] <= self._horizon_t:
            self._frames.popleft()
        oldest = [track.samples[0] for track in self._tracks] + [s for s, _ in list(self._frames)[:1]]
        if oldest:
            self._path.forget_before(min(oldest))

    def _give_out(self, *, last: bool = False) -> tuple[pa.Table, pa.Table]:
        tracks = track_table(self._rows)
        objects = pa.Table.from_pylist([self._object(track, last) for track in self._objects], OBJECTS)
        self._rows, self._objects = [], []
        return tracks, objects.sort_by("track_id")

    def _object(self, track: Track, last: bool) -> dict[str, object]:
        summary = track.summary
        if summary is None:
            raise ValueError(f"track {track.number} has no rows")
        mean_speed, top_speed = summary.speeds()
        return {
            "track_id": track.track_id,
            "class": track.best_class,
            "score": track.mean_score,
            "t_start": summary.t_start,
            "t_end": summary.t_end,
            "num_frames": summary.num_frames,
            "trajectory": summary.trajectory(),
            "mean_speed": mean_speed,
            "top_speed": top_speed,
            "cut_at_start": summary.first_sample == self._first_sample,
            "cut_at_end": last and summary.last_sample == self._last_sample,
        }


def track_table(rows: list[Rows]) -> pa.Table:
    """TRACKS, in order of sample and track."""
    if not rows:
        return TRACKS.empty_table()
    count = [len(r.samples) for r in rows]
    ids = np.repeat([r.track.track_id for r in rows], count)
    samples = np.concatenate([r.samples for r in rows])
    corners = np.concatenate([r.corners for r in rows]).astype(np.float32)
    columns = {
        "track_id": ids,
        "sample": samples,
        "t": np.concatenate([r.times for r in rows]),
        **{name: corners[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))},
        "class": np.repeat([r.name for r in rows], count),
        "score": np.concatenate([r.scores for r in rows]).astype(np.float32),
        "observed": np.concatenate([r.observed for r in rows]),
    }
    order = np.lexsort((ids, samples))
    return pa.table({name: column[order] for name, column in columns.items()}, schema=TRACKS)
