"""How good events are: accuracy of whole clips, and mean average precision of intervals in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NONE = "none"

T_IOUS = (0.3, 0.5, 0.7)
TOLERANCES_S = (1.0, 2.0, 5.0)


@dataclass(frozen=True)
class TrueEvent:
    """What happened, in seconds of its video."""

    video: str
    label: str
    t_start: float
    t_end: float


@dataclass(frozen=True)
class FoundEvent:
    """What was found, in seconds of its video, with a score."""

    video: str
    label: str
    t_start: float
    t_end: float
    score: float
    t_peak: float | None = None  # None: its middle


@dataclass(frozen=True)
class ClipReport:
    """Accuracies in 0..1. `confusion` counts (truth, found); a clip without label is `none`."""

    num_clips: int
    accuracy: float
    balanced_accuracy: float
    by_label: dict[str, float]
    by_group: dict[str, float]
    confusion: dict[tuple[str, str], int]

    def to_json(self) -> dict[str, object]:
        table = [{"truth": a, "found": b, "clips": n} for (a, b), n in sorted(self.confusion.items())]
        return {**vars(self), "confusion": table}


def clip_report(
    truth: Sequence[str | None], found: Sequence[str | None], groups: Sequence[str] | None = None
) -> ClipReport:
    """Compare the label of each clip, None for no label, with what was found.

    Raises:
        ValueError: no clips, or lengths differ.
    """
    groups = groups if groups is not None else [""] * len(truth)
    if not len(truth) == len(found) == len(groups) or not truth:
        raise ValueError(f"{len(truth)} true labels, {len(found)} found and {len(groups)} groups")
    a = [label or NONE for label in truth]
    b = [label or NONE for label in found]
    hits = [x == y for x, y in zip(a, b, strict=True)]
    by_label = _means(a, hits)
    return ClipReport(
        num_clips=len(a),
        accuracy=sum(hits) / len(hits),
        balanced_accuracy=sum(by_label.values()) / len(by_label),
        by_label=by_label,
        by_group=_means(groups, hits),
        confusion=dict(Counter(zip(a, b, strict=True))),
    )


def _means(keys: Sequence[str], hits: Sequence[bool]) -> dict[str, float]:
    counts, right = Counter(keys), Counter(key for key, hit in zip(keys, hits, strict=True) if hit)
    return {key: right[key] / counts[key] for key in sorted(counts)}


def label_of(scores: npt.NDArray[np.float32], labels: Sequence[str], min_score: float) -> str | None:
    """Label of a clip: that with the highest mean of the frames' scores, (T, labels), if high enough."""
    if not len(scores):
        return None
    means = scores.mean(axis=0)
    best = int(means.argmax())
    return labels[best] if means[best] >= min_score else None


def temporal_iou(a: TrueEvent | FoundEvent, b: TrueEvent | FoundEvent) -> float:
    """Shared time over joint time, 0..1; 0 for events of different videos."""
    if a.video != b.video:
        return 0.0
    shared = min(a.t_end, b.t_end) - max(a.t_start, b.t_start)
    joint = max(a.t_end, b.t_end) - min(a.t_start, b.t_start)
    return max(shared, 0.0) / joint if joint > 0 else float(a.t_start == b.t_start)


def spotting_error_s(a: TrueEvent, b: FoundEvent) -> float:
    """Seconds from the peak of what was found to what happened, 0 within it; infinite for other videos."""
    if a.video != b.video:
        return float("inf")
    peak = (b.t_start + b.t_end) / 2 if b.t_peak is None else b.t_peak
    return max(a.t_start - peak, peak - a.t_end, 0.0)


def average_precision(truth: Iterable[TrueEvent], found: Iterable[FoundEvent], t_iou: float) -> float:
    """Area under the interpolated precision-recall curve of one label, 0..1 (THUMOS, ActivityNet).

    From the highest score down, a finding takes the free true event that it overlaps most, if that is at
    least `t_iou`; else it is false. NaN without true events.
    """
    return _average_precision(truth, found, temporal_iou, t_iou)


def spotting_precision(truth: Iterable[TrueEvent], found: Iterable[FoundEvent], tolerance_s: float) -> float:
    """The same with the free true event that is nearest, if within `tolerance_s` (as in SoccerNet)."""
    return _average_precision(truth, found, lambda a, b: -spotting_error_s(a, b), -tolerance_s)


def _average_precision(
    truth: Iterable[TrueEvent],
    found: Iterable[FoundEvent],
    likeness: Callable[[TrueEvent, FoundEvent], float],
    least: float,
) -> float:
    free = list(truth)
    num_true = len(free)
    if not num_true:
        return float("nan")
    hits = []
    for one in sorted(found, key=lambda event: -event.score):
        best = max(free, key=lambda event: likeness(event, one), default=None)
        hit = best is not None and likeness(best, one) >= least
        if best is not None and hit:
            free.remove(best)
        hits.append(hit)
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    # Interpolated: at each recall the best precision at this or any higher one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[np.asarray(hits, bool)].sum() / num_true)


def mean_average_precision(truth: Sequence[TrueEvent], found: Sequence[FoundEvent]) -> dict[str, float]:
    """Mean over the labels that occur in `truth`: by threshold (`map_0.5`) and over these (`map`).

    Raises:
        ValueError: there are no true events.
    """
    return _means_over_labels(truth, found, average_precision, "map", T_IOUS)


def mean_spotting_precision(truth: Sequence[TrueEvent], found: Sequence[FoundEvent]) -> dict[str, float]:
    """The same for spotting: by tolerance in seconds (`spotting_map_1`) and over these (`spotting_map`)."""
    return _means_over_labels(truth, found, spotting_precision, "spotting_map", TOLERANCES_S)


def _means_over_labels(
    truth: Sequence[TrueEvent],
    found: Sequence[FoundEvent],
    measure: Callable[[Iterable[TrueEvent], Iterable[FoundEvent], float], float],
    name: str,
    limits: Sequence[float],
) -> dict[str, float]:
    if not truth:
        raise ValueError("mean average precision needs at least one true event")
    labels = sorted({event.label for event in truth})
    by_label = [
        ([e for e in truth if e.label == label], [e for e in found if e.label == label]) for label in labels
    ]
    means = {
        f"{name}_{limit:g}": float(np.mean([measure(true, seen, limit) for true, seen in by_label]))
        for limit in limits
    }
    return {**means, name: float(np.mean(list(means.values())))}
