"""Re-linking: does a track that begins go on with one that ended? Forecasts from both ends have to agree."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from models.motion import MotionModel, MotionState
from pipeline.track.camera import CameraPath
from pipeline.track.tracks import Track

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinkSettings:
    """What a link must satisfy."""

    max_gap_s: float
    evidence: int = 12  # observations after its beginning from which a track is followed backwards
    max_cost: float = 1.0  # nats: negative log-likelihood, with the cost of waiting
    wait_cost: float = 0.5  # nats per second of gap
    appearance: float = 3.0  # nats for opposite appearance
    tail: float = 0.6  # share of box heights per second by which both forecasts err besides


def find_links(
    ended: list[Track],
    begun: list[Track],
    until_t: float,
    model: MotionModel,
    path: CameraPath,
    settings: LinkSettings,
) -> list[tuple[Track, Track]]:
    """The pairs (earlier, later) that are one object, where the earlier one ended by `until_t`.

    Pairs that end later take part too, so that nobody is given what fits another better.
    """
    pairs = _candidates(ended, begun, settings.max_gap_s)
    if not any(a.last_t <= until_t for a, _ in pairs):
        return []
    firsts, lasts = _unique([a for a, _ in pairs]), _unique([b for _, b in pairs])
    rows = np.array([firsts[a] for a, _ in pairs])
    columns = np.array([lasts[b] for _, b in pairs])
    ends = [path.carry(_end_of(a), a.end_sample) for a in firsts]
    forward = ends[0].join(*ends[1:]).take(rows)
    backward = follow_back(list(lasts), model, path, settings.evidence).take(columns)
    gaps = np.array([b.first_t - a.last_t for a, b in pairs])
    cost = _disagreement(model, forward, backward, gaps, settings.tail) + settings.wait_cost * gaps
    cost += settings.appearance * np.array([_unlike(a, b) for a, b in pairs])
    gain = np.zeros((len(firsts), len(lasts)))
    gain[rows, columns] = np.maximum(settings.max_cost - cost, 0)
    chosen = zip(*linear_sum_assignment(gain, maximize=True), strict=True)
    first_list, last_list = list(firsts), list(lasts)
    links = [(first_list[i], last_list[j]) for i, j in chosen if gain[i, j] > 0]
    return [(a, b) for a, b in links if a.last_t <= until_t]


def _candidates(ended: list[Track], begun: list[Track], max_gap_s: float) -> list[tuple[Track, Track]]:
    begun = sorted(begun, key=lambda track: track.first_t)
    times = [track.first_t for track in begun]
    out = []
    for a in ended:
        first = bisect_right(times, a.last_t)
        last = bisect_right(times, a.last_t + max_gap_s + 1e-9)
        out += [(a, b) for b in begun[first:last] if b.group == a.group]
    return out


def _unique(tracks: list[Track]) -> dict[Track, int]:
    return {track: i for i, track in enumerate(dict.fromkeys(tracks))}


def _disagreement(
    model: MotionModel, forward: MotionState, backward: MotionState, gaps: Array, tail: float
) -> Array:
    """(P,) negative log-likelihood of either end under the forecast from the other, mean of both ways.

    Positions count in box heights, so that a wide forecast, which fits everything, is an unlikely one.
    """
    total = np.zeros(len(gaps))
    for here, there in ((forward, backward), (backward, forward)):
        mean, variance = model.predict(here, gaps)
        height = np.exp(here.position[:, 3:])
        scale = np.concatenate([height, height, np.ones_like(height), np.ones_like(height)], axis=1)
        extra = np.concatenate([np.repeat(tail * gaps[:, None], 2, 1), np.full((len(gaps), 2), 0.1)], axis=1)
        error = (there.position - mean) / scale
        spread = variance / (scale * scale) + extra * extra
        total += 0.5 * (error * error / spread + np.log(2 * np.pi * spread)).sum(axis=1)
    return total / 2


def follow_back(tracks: list[Track], model: MotionModel, path: CameraPath, evidence: int) -> MotionState:
    """States at the tracks' first observations, as if time ran backwards from a little later."""
    length = max(min(evidence, len(track.times)) for track in tracks)
    boxes = np.zeros((length, len(tracks), 4))
    scores, times = np.zeros((length, len(tracks))), np.zeros((length, len(tracks)))
    used = np.zeros((length, len(tracks)), np.bool_)
    for k, track in enumerate(tracks):
        n = min(evidence, len(track.times))
        boxes[-n:, k] = path.to_reference(track.samples[:n], np.array(track.boxes[:n]))[::-1]
        scores[-n:, k], times[-n:, k] = track.scores[:n][::-1], track.times[:n][::-1]
        used[-n:, k] = True
    first = used.argmax(axis=0)
    columns = np.arange(len(tracks))
    state = model.start(boxes[first, columns], scores[first, columns])
    for i in range(1, length):
        now = np.nonzero(used[i - 1])[0]
        if len(now):
            dt = times[i - 1, now] - times[i, now]
            state.put(now, model.update(state.take(now), boxes[i, now], scores[i, now], dt))
    return state


def _end_of(track: Track) -> MotionState:
    if track.end is None:
        raise ValueError(f"track {track.number} is still followed")
    return track.end


def _unlike(a: Track, b: Track) -> float:
    """0 (alike, or unknown) to 1 (opposite)."""
    if a.look is None or b.look is None or a.look.shape != b.look.shape:
        return 0.0
    return float(np.clip((0.5 - a.look @ b.look) / 1.5, 0, 1))
