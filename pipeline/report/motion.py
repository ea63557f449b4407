"""Where the boxes of tracks are between their samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Numbers = npt.NDArray[np.float64]

HOLD_S = 0.5
"""Of two samples further apart than this nothing is said between them, unless sampling itself is slower."""


def hold_s(sample_fps: float | None, fps_mean: float | None) -> float:
    """Seconds up to which a box is drawn between two samples: HOLD_S, or what lies between two in any case.

    The frame on display at a tick is up to a frame older than the tick, and frames come unevenly: half a step
    more is left for that.

    Args:
        sample_fps: of the grid; 0 or None if every frame was sampled.
        fps_mean: of the video; None if it is not known.
    """
    rates = sorted(rate for rate in (sample_fps, fps_mean) if rate)
    if not rates:
        return HOLD_S
    step_s = 1 / rates[0]
    return max(HOLD_S, step_s + max(step_s / 2, 1 / rates[-1] if len(rates) > 1 else 0))


@dataclass(frozen=True)
class Path:
    """One track: times (N,) in seconds, strictly rising; boxes (N, 4) xyxy in pixels; observed (N,).

    Of two samples more than `hold_s` seconds apart nothing is said between them.
    """

    track_id: int
    label: str
    times: Numbers
    boxes: Numbers
    observed: npt.NDArray[np.bool_]
    hold_s: float = HOLD_S

    def at(self, t: float) -> tuple[Numbers, bool] | None:
        """The box (4,) at a time, linear between samples, and whether it was observed; None if unknown."""
        k = int(np.searchsorted(self.times, t + 1e-6, side="right")) - 1
        if k < 0:
            return None
        if abs(self.times[k] - t) <= 1e-6:
            return self.boxes[k], bool(self.observed[k])
        if k + 1 >= len(self.times) or self.times[k + 1] - self.times[k] > self.hold_s:
            return None
        share = (t - self.times[k]) / (self.times[k + 1] - self.times[k])
        return self.boxes[k] + share * (self.boxes[k + 1] - self.boxes[k]), bool(self.observed[k])

    def trail(self, t: float, length_s: float) -> Numbers:
        """Bottom centres (N, 2) of the boxes in the last `length_s` seconds, the present one last."""
        now = self.at(t)
        chosen = self.boxes[(self.times >= t - length_s) & (self.times < t)]
        boxes = chosen if now is None else np.vstack([chosen, now[0]])
        return np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], axis=1)


def paths(tracks: pa.Table, hold_s: float = HOLD_S) -> list[Path]:
    """One path per track of a TRACKS table, in order of track_id; `hold_s` as in `Path`.

    Its label is the last row's class, which is the object's: what was known before may have been another.
    """
    if tracks.num_rows == 0:
        return []
    ordered = tracks.sort_by([("track_id", "ascending"), ("t", "ascending")])
    ids = ordered["track_id"].to_numpy()
    times = ordered["t"].to_numpy()
    boxes = np.stack([ordered[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1).astype(
        np.float64
    )
    observed = ordered["observed"].to_numpy(zero_copy_only=False)
    labels = ordered["class"].to_pylist()
    starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))
    ends = [*starts[1:], len(ids)]
    return [
        Path(int(ids[a]), labels[b - 1], times[a:b], boxes[a:b], observed[a:b], hold_s)
        for a, b in zip(starts, ends, strict=True)
    ]
