"""What one would write by hand, in an environment of its own: OpenCV, ONNX Runtime, ByteTrack, CSV.

`python peer_opencv.py MODEL FPS OUT.csv VIDEO...`: frames between the samples are decoded, but not converted;
OpenCV and ONNX Runtime use the threads that they choose themselves. Prints the number of sampled frames.
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
import supervision
import trackers
from fastestdet import Detector


def sampled(path: str, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """Seconds and picture of the first frame at or after each tick."""
    capture = cv2.VideoCapture(path)
    tick = 0
    while capture.grab():
        t = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if t * fps >= tick - 1e-6:
            yield t, capture.retrieve()[1]
            tick = int(t * fps + 1e-6) + 1
    capture.release()


def main() -> None:
    """Detect, follow, write."""
    warnings.simplefilter("ignore")
    model, fps, out, videos = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4:]
    detector = Detector(model)
    frames = 0
    with open(out, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "t", "track_id", "x1", "y1", "x2", "y2", "class", "score"])
        for video in videos:
            tracker = trackers.ByteTrackTracker(frame_rate=fps)
            for t, picture in sampled(video, fps):
                frames += 1
                boxes, scores, classes = detector(picture)
                found = supervision.Detections(xyxy=boxes, confidence=scores, class_id=classes)
                tracked = tracker.update(found)
                for box, score, number, track in zip(
                    tracked.xyxy, tracked.confidence, tracked.class_id, tracked.tracker_id, strict=True
                ):
                    if track >= 0:
                        rows.writerow([video, t, track, *box, number, score])
    sys.stdout.write(f"{frames}\n")


if __name__ == "__main__":
    main()
