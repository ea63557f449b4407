"""Final rows of a track: boxes smoothed with past and future, gaps filled in between."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.motion import to_xyxy
from pipeline.track.camera import CameraPath
from pipeline.track.tracks import Track

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

SMOOTH_S = 0.12
"""Seconds, standard deviation of the smoothing kernel: it evens out a detector's jitter, not a step."""

REACH = 2.5
"""Standard deviations after which the kernel is cut."""

LEAST_WEIGHT = 0.001
"""Of a box beside others, however low its score: of boxes that weigh nothing there is no mean."""


@dataclass(frozen=True)
class Rows:
    """Rows of one track in order of time."""

    track: Track
    name: str  # class, as far as it is known
    samples: Ints = field(repr=False)  # (N,)
    times: Array = field(repr=False)  # (N,) seconds
    corners: Array = field(repr=False)  # (N, 4) xyxy pixels
    scores: Array = field(repr=False)  # (N,)
    observed: NDArray[np.bool_] = field(repr=False)  # (N,)


def final_rows(track: Track, samples: Ints, times: Array, path: CameraPath, max_fill_s: float) -> Rows:
    """The track's boxes at those of the given sampled frames where it has one.

    A box is filled between two observations at most `max_fill_s` apart.
    """
    seen = np.array(track.samples)
    inside = (samples >= seen[0]) & (samples <= seen[-1])
    samples, times = samples[inside], times[inside]
    after = np.searchsorted(seen, samples)  # the observation at or after each frame
    before = np.where(seen[after] == samples, after, after - 1)
    known = np.array(track.times)
    observed = after == before
    near = observed | (known[after] - known[before] <= max_fill_s + 1e-9)
    samples, times, before, after, observed = (x[near] for x in (samples, times, before, after, observed))
    if not len(samples):
        return Rows(track, track.best_class, samples, times, np.empty((0, 4)), np.empty(0), observed)
    first, last = int(before[0]), int(after[-1]) + 1
    smooth = _smoothed(track, known, path, first, last)
    a, b = smooth[before - first], smooth[after - first]
    share = (times - known[before]) / np.maximum(known[after] - known[before], 1e-9)
    z = a + share[:, None] * (b - a)
    corners = to_xyxy(path.from_reference(samples.tolist(), z))
    scores = np.where(observed, np.array(track.scores)[after], track.mean_score)
    return Rows(track, track.best_class, samples, times, corners, scores, observed)


def _smoothed(track: Track, times: Array, path: CameraPath, first: int, last: int) -> Array:
    """Boxes z (last - first, 4) of some observations, by local lines over their neighbours in time."""
    low = int(times.searchsorted(times[first] - REACH * SMOOTH_S))
    high = int(times.searchsorted(times[last - 1] + REACH * SMOOTH_S))
    z = path.to_reference(track.samples[low:high], np.array(track.boxes[low:high]))
    if high - low < 3:
        return z[first - low : last - low]
    away = times[None, low:high] - times[first:last, None]  # (R, K)
    weight = np.exp(-0.5 * (away / SMOOTH_S) ** 2) * np.maximum(track.scores[low:high], LEAST_WEIGHT)
    weight[np.abs(away) > REACH * SMOOTH_S] = 0
    s0, s1, s2 = weight.sum(1), (weight * away).sum(1), (weight * away * away).sum(1)
    spread = s0 * s2 - s1 * s1
    line = weight * (s2[:, None] - s1[:, None] * away)  # weights of the local line's value at 0
    flat = spread < 1e-4 * (s0 * SMOOTH_S) ** 2  # too few neighbours for a line
    line = np.where(flat[:, None], weight * (away == 0), line)
    return np.asarray((line / np.maximum(line.sum(1, keepdims=True), 1e-12)) @ z)
