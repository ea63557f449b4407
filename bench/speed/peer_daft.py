"""Daft's `read_video_frames` with a detector by ONNX Runtime, to Parquet, in an environment of its own.

`python peer_daft.py MODEL FPS OUT VIDEO...`. Prints the number of sampled frames.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import daft
from daft import DataType
from fastestdet import SIDE, Detector

FOUND = DataType.struct(
    {
        "boxes": DataType.list(DataType.list(DataType.float32())),
        "scores": DataType.list(DataType.float32()),
        "classes": DataType.list(DataType.int64()),
    }
)


@daft.cls
class Finder:
    """The network, loaded once in each worker."""

    def __init__(self, model: str) -> None:
        self._detector = Detector(model)

    @daft.method.batch(return_dtype=FOUND)
    def __call__(self, pictures: Any) -> list[dict[str, Any]]:
        """Boxes of each of the pictures, in pixels of the network's input."""
        found = []
        for picture in pictures.to_pylist():
            boxes, scores, classes = self._detector(picture[..., ::-1])
            found.append({"boxes": boxes.tolist(), "scores": scores.tolist(), "classes": classes.tolist()})
        return found


def main() -> None:
    """Detect and write."""
    warnings.simplefilter("ignore")
    model, fps, out, videos = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4:]
    frames = daft.read_video_frames(
        videos, image_height=SIDE, image_width=SIDE, sample_interval_seconds=1 / fps
    )
    finder = Finder(model)
    rows = frames.select("path", "frame_time", finder(frames["data"]).alias("found"))
    rows.write_parquet(out)
    sys.stdout.write(f"{daft.read_parquet(out).count_rows()}\n")


if __name__ == "__main__":
    main()
