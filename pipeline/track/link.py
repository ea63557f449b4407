"""Re-linking: does a track that begins go on with one that ended? Forecasts from both ends have to agree."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.motion import MotionModel, MotionState
from pipeline.track.associate import best_pairs
from pipeline.track.camera import CameraPath
from pipeline.track.tracks import Track

Array = NDArray[np.float64]
Pairs = list[tuple[Track, Track]]

SIZE_TAIL = 0.1
"""By which forecasts of the logarithm of width and height err besides."""

ROUGH = 2.0
"""Nats by which a track's first box, which has its detector's error, may misjudge a pair."""


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

    Pairs that end later take part too, so that nobody is given what fits another better. In order of the
    earlier one's end; a track may end one pair and begin another.
    """
    pairs = _candidates(ended, begun, settings.max_gap_s)
    if not any(a.last_t <= until_t for a, _ in pairs):
        return []
    cost = np.array([b.first_t - a.last_t for a, b in pairs]) * settings.wait_cost
    cost += settings.appearance * np.array([_unlike(a, b) for a, b in pairs])
    pairs, cost = _disagreement(pairs, cost, model, path, settings)
    if not pairs:
        return []
    firsts, lasts = _unique([a for a, _ in pairs]), _unique([b for _, b in pairs])
    gain = np.zeros((len(firsts), len(lasts)))
    gain[[firsts[a] for a, _ in pairs], [lasts[b] for _, b in pairs]] = settings.max_cost - cost
    chosen = zip(*best_pairs(gain), strict=True)
    first_list, last_list = list(firsts), list(lasts)
    links = [(first_list[i], last_list[j]) for i, j in chosen if gain[i, j] > 0]
    return sorted([(a, b) for a, b in links if a.last_t <= until_t], key=lambda link: link[0].last_t)


def _candidates(ended: list[Track], begun: list[Track], max_gap_s: float) -> Pairs:
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
    pairs: Pairs, cost: Array, model: MotionModel, path: CameraPath, settings: LinkSettings
) -> tuple[Pairs, Array]:
    """Pairs that may be linked, with the whole cost: to the given one comes what either forecast errs.

    That is the negative log-likelihood of either end under the forecast from the other, mean of both ways.
    Whom the way forward alone rules out, the way back, which is dearer, is not asked for.
    """
    gaps = np.array([b.first_t - a.last_t for a, b in pairs])
    firsts, lasts = _unique([a for a, _ in pairs]), _unique([b for _, b in pairs])
    states = [path.carry(_end_of(track), track.end_sample) for track in firsts]
    forward = states[0].join(*states[1:]).take(np.array([firsts[a] for a, _ in pairs]))
    begins = path.to_reference([b.samples[0] for b in lasts], np.array([b.boxes[0] for b in lasts]))
    begins = begins[[lasts[b] for _, b in pairs]]
    least = np.log(2 * np.pi * (settings.tail * gaps) ** 2) + np.log(2 * np.pi * SIZE_TAIL**2)
    rough = cost + (_nats(model, forward, begins, gaps, settings.tail) + least) / 2
    good = np.nonzero(rough < settings.max_cost + ROUGH)[0]
    pairs, cost, gaps, forward = [pairs[i] for i in good], cost[good], gaps[good], forward.take(good)
    if not pairs:
        return pairs, cost
    lasts = _unique([b for _, b in pairs])
    backward = follow_back(list(lasts), model, path, settings.evidence)
    backward = backward.take(np.array([lasts[b] for _, b in pairs]))
    there = _nats(model, forward, backward.position, gaps, settings.tail)
    back = _nats(model, backward, forward.position, gaps, settings.tail)
    cost = cost + (there + back) / 2
    good = np.nonzero(cost < settings.max_cost)[0]
    return [pairs[i] for i in good], cost[good]


def _nats(model: MotionModel, state: MotionState, boxes: Array, gaps: Array, tail: float) -> Array:
    """(P,) negative log-likelihood of boxes under a forecast.

    Positions count in box heights, so that a wide forecast, which fits everything, is an unlikely one.
    """
    mean, variance = model.predict(state, gaps)
    scale = np.ones(mean.shape)
    scale[:, :2] = np.exp(state.position[:, 3:])
    extra = np.full(mean.shape, SIZE_TAIL)
    extra[:, :2] = (tail * gaps)[:, None]
    error = (boxes - mean) / scale
    spread = variance / (scale * scale) + extra * extra
    return np.asarray(0.5 * (error * error / spread + np.log(2 * np.pi * spread)).sum(axis=1))


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
