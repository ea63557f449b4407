"""Trackers of the `trackers` package (Roboflow, Apache-2.0) on saved detections, in their own environment.

`python peers.py IN.npz OUT.npz`: IN holds `SEQUENCE/found`, `SEQUENCE/fps` and `SEQUENCE/frames`, OUT gets
`SEQUENCE/PEER` with the rows frame, id, x1, y1, x2, y2, score, and `SEQUENCE/PEER/seconds`, CPU time of the
tracker's own calls.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
import supervision
import trackers

PEERS = {
    "SORT": trackers.SORTTracker,
    "ByteTrack": trackers.ByteTrackTracker,
    "OC-SORT": trackers.OCSORTTracker,
    "BoT-SORT": trackers.BoTSORTTracker,
    "C-BIoU": trackers.CBIoUTracker,
}


def follow(peer: str, found: np.ndarray, fps: float, num_frames: int) -> tuple[np.ndarray, float]:
    """Rows of the tracks and CPU seconds; every setting is the package's default but the frame rate."""
    options = {"enable_cmc": False} if peer == "BoT-SORT" else {}
    tracker = PEERS[peer](frame_rate=fps, **options)
    rows, spent = [], 0.0
    edges = np.searchsorted(found[:, 0], np.arange(1, num_frames + 2))
    for i in range(num_frames):
        part = found[edges[i] : edges[i + 1]]
        given = supervision.Detections(
            xyxy=part[:, 2:6].astype(np.float32), confidence=part[:, 6].astype(np.float32),
            class_id=np.zeros(len(part), int),
        )  # fmt: skip
        began = time.process_time()
        out = tracker.update(given)
        spent += time.process_time() - began
        good = out.tracker_id >= 0 if out.tracker_id is not None else np.zeros(0, bool)
        if good.any():
            boxes = out.xyxy[good]
            column = np.full(len(boxes), i + 1)
            rows.append(np.column_stack([column, out.tracker_id[good], boxes, out.confidence[good]]))
    return np.concatenate(rows) if rows else np.empty((0, 7)), spent


def main() -> None:
    """Track every sequence with every peer."""
    warnings.simplefilter("ignore")
    data, out = np.load(sys.argv[1]), {}
    peers = sys.argv[3:] or list(PEERS)
    for name in sorted({key.rsplit("/", 1)[0] for key in data.files}):
        for peer in peers:
            rows, spent = follow(
                peer, data[f"{name}/found"], float(data[f"{name}/fps"]), int(data[f"{name}/frames"])
            )
            out[f"{name}/{peer}"], out[f"{name}/{peer}/seconds"] = rows, spent
    np.savez(sys.argv[2], **out)


if __name__ == "__main__":
    main()
