"""What the tracker works on: sampled frames with their boxes, taken from Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.motion import to_z
from pipeline.errors import InputError

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

GROUPS = {"car": "vehicle", "bus": "vehicle", "truck": "vehicle"}
"""Classes that a detector confuses, so one object may change between them; others stand for themselves."""


@dataclass(frozen=True)
class CameraMotion:
    """Motion of the picture since the sampled frame before: turn and scale about its centre, then shift."""

    dx: float
    dy: float
    scale: float
    rotation: float


@dataclass(frozen=True)
class Frame:
    """One sampled frame and its N boxes, the best-scored first."""

    sample: int
    t: float
    camera: CameraMotion | None
    z: Array = field(repr=False)  # (N, 4) centre x, centre y, log width, log height
    scores: Array = field(repr=False)  # (N,)
    classes: list[str] = field(repr=False)
    appearance: Array | None = field(repr=False)  # (N, D), rows of NaN where absent


def read_frames(frames: pa.Table, detections: pa.Table, last_sample: int | None) -> Iterator[Frame]:
    """Frames in order of time, each with its detections in an order that does not depend on the input's.

    Raises:
        InputError: a sample comes twice or not after `last_sample`, a detection has no frame, or a box is
            not finite or has no area.
    """
    samples = _integers(frames, "sample")
    order = np.argsort(samples, kind="stable")
    samples, times = samples[order], _floats(frames, "t")[order]
    before = np.concatenate([[-1 if last_sample is None else last_sample], samples[:-1]])
    if (samples <= before).any():
        first = int(samples[samples <= before][0])
        raise InputError("frames repeat or go back in time", got=first, remedy="give each once, in order")
    motions = frames["camera_motion"].take(pa.array(order)).to_pylist()
    rows = _sorted_rows(detections)
    if not np.isin(rows.sample, samples).all():
        missing = int(rows.sample[~np.isin(rows.sample, samples)][0])
        raise InputError("detections of a frame that is not given", got=missing)
    starts, ends = np.searchsorted(rows.sample, samples), np.searchsorted(rows.sample, samples, side="right")
    for i, sample in enumerate(samples.tolist()):
        part = slice(int(starts[i]), int(ends[i]))
        yield Frame(
            sample, float(times[i]), _camera_motion(motions[i]), rows.z[part], rows.scores[part],
            rows.classes[part], None if rows.appearance is None else rows.appearance[part],
        )  # fmt: skip


@dataclass(frozen=True)
class _Rows:
    sample: Ints
    z: Array
    scores: Array
    classes: list[str]
    appearance: Array | None


def _sorted_rows(detections: pa.Table) -> _Rows:
    sample = _integers(detections, "sample")
    boxes = np.stack([_floats(detections, name) for name in ("x1", "y1", "x2", "y2")], axis=1)
    scores = _floats(detections, "score")
    _check(sample, boxes, scores)
    names = detections["class"].to_pylist()
    codes = {name: code for code, name in enumerate(sorted(set(names)))}
    code = np.array([codes[name] for name in names], np.int64)
    order = np.lexsort((code, boxes[:, 3], boxes[:, 2], boxes[:, 1], boxes[:, 0], -scores, sample))
    appearance = _vectors(detections["appearance"])
    return _Rows(
        sample[order], to_z(boxes[order]), scores[order], [names[i] for i in order],
        None if appearance is None else appearance[order],
    )  # fmt: skip


def _check(sample: Ints, boxes: Array, scores: Array) -> None:
    bad = ~(np.isfinite(boxes).all(axis=1) & np.isfinite(scores))
    bad |= (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    if bad.any():
        first = int(np.nonzero(bad)[0][0])
        raise InputError(
            f"sample {sample[first]} has a box that is not finite or has no area", got=boxes[first].tolist()
        )


def _integers(table: pa.Table, name: str) -> Ints:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.int64)


def _floats(table: pa.Table, name: str) -> Array:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)


def _vectors(column: pa.ChunkedArray) -> Array | None:
    """(N, D) of a list column, NaN where null; None if all are null."""
    if column.null_count == len(column):
        return None
    lists = column.to_pylist()
    width = max(len(x) for x in lists if x is not None)
    if width == 0:
        return None
    return np.array([x if x is not None and len(x) == width else [np.nan] * width for x in lists], np.float64)


def _camera_motion(value: dict[str, float] | None) -> CameraMotion | None:
    if value is None or any(v is None or not np.isfinite(v) for v in value.values()) or value["scale"] <= 0:
        return None
    return CameraMotion(value["dx"], value["dy"], value["scale"], value["rotation"])
