"""Boxes of tracks as small pieces that a page decodes when it needs them.

A piece holds what is drawn during `PIECE_S` seconds: also the samples some seconds before it, for the trails,
and just after it, to interpolate towards; more of both where samples are farther apart. It is a gzip of these
arrays, little endian, one after the other:

    uint32  rows, runs
    uint32  per run: index of the track among the objects, rows
    float32 per row: seconds since the piece's start, rising within a run
    int16   per row: x1, then all y1, x2, y2; differences to the row before, in 1 / scale pixels, wrapping
    uint8   per row: 1 if observed
"""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.report.motion import HOLD_S

PIECE_S = 60.0
BEFORE_S, AFTER_S = 3.0, 1.0
_SCALES = (16, 8, 4, 2, 1)
_LEVEL = 6


@dataclass(frozen=True)
class Pieces:
    """Base64 text of each piece, by its number (start / PIECE_S), and pixels per unit as 1 / `scale`."""

    texts: list[str]
    scale: int


def pack(
    tracks: pa.Table, track_ids: npt.NDArray[np.int64], duration_s: float, hold_s: float = HOLD_S
) -> Pieces:
    """Pack TRACKS rows.

    Args:
        tracks: rows of one video, in any order.
        track_ids: (K,) the ids that runs refer to by index, ascending; tracks beside them are left out.
        duration_s: seconds that the pieces cover.
        hold_s: seconds between two samples up to which a box is drawn between them.
    """
    rows = tracks.sort_by([("t", "ascending"), ("track_id", "ascending")])
    ids, t = rows["track_id"].to_numpy(), rows["t"].to_numpy()
    boxes = np.stack([rows[name].to_numpy() for name in ("x1", "y1", "x2", "y2")]).astype(np.float64)
    observed = rows["observed"].to_numpy(zero_copy_only=False).astype(np.uint8)
    known = np.isin(ids, track_ids)
    slots, t, boxes, observed = (
        np.searchsorted(track_ids, ids[known]),
        t[known],
        boxes[:, known],
        observed[known],
    )
    far = float(np.abs(boxes).max(initial=1.0))
    scale = next((scale for scale in _SCALES if far * scale < 32767), 1)
    fixed = np.clip(np.round(boxes * scale), -32768, 32767).astype(np.int16)
    before_s, after_s = max(BEFORE_S, hold_s), max(AFTER_S, hold_s)
    texts = []
    for number in range(max(1, int(np.ceil(duration_s / PIECE_S)))):
        start = number * PIECE_S
        begin, stop = np.searchsorted(t, [start - before_s, start + PIECE_S + after_s])
        order = begin + np.argsort(slots[begin:stop], kind="stable")
        texts.append(_piece(slots[order], t[order] - start, fixed[:, order], observed[order]))
    return Pieces(texts, scale)


def _piece(
    slots: npt.NDArray[np.int64],
    t: npt.NDArray[np.float64],
    boxes: npt.NDArray[np.int16],
    observed: npt.NDArray[np.uint8],
) -> str:
    which, counts = np.unique(slots, return_counts=True)
    runs = np.stack([which, counts], axis=1).astype("<u4")
    steps = np.diff(boxes, axis=1, prepend=np.int16(0))  # wraps, as the sum on the other side does
    parts = [
        np.array([len(t), len(runs)], "<u4"),
        runs,
        t.astype("<f4"),
        steps.astype("<i2"),
        observed,
    ]
    raw = b"".join(part.tobytes() for part in parts)
    return base64.b64encode(gzip.compress(raw, _LEVEL, mtime=0)).decode("ascii")
