"""What the CNN says of sampled frames: rows of `frames` and `detections`, before they have a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.config import PerceiveConfig
from pipeline.errors import ModelError
from pipeline.lake.schema import STAGED

Array = npt.NDArray[np.float32]


class Sampled(Protocol):
    """What perception needs of a sampled frame; `pipeline.media` delivers it."""

    @property
    def sample(self) -> int: ...
    @property
    def pts(self) -> int | None: ...
    @property
    def t(self) -> float: ...
    @property
    def motion_grid(self) -> Array: ...
    @property
    def camera_motion(self) -> tuple[float, float, float, float] | None: ...


class ToDisplay(Protocol):
    """Maps boxes from the CNN's input to displayed pixels."""

    def to_display(self, boxes: Array) -> Array: ...


@dataclass(frozen=True)
class Perceived:
    """Detections of one frame, in the CNN's input pixels, and its embedding."""

    boxes: Array  # (K, 4), xyxy
    scores: Array  # (K,)
    classes: tuple[str, ...]  # (K,)
    appearance: Array  # (K, E)
    embedding: Array  # (D,)


class Perceiver:
    """The CNN with its settings. One per process and device."""

    def __init__(self, settings: PerceiveConfig, *, threads: int = 0) -> None:
        """Load the weights.

        Raises:
            ModelError: the weights cannot be used, or the device or runtime is not there.
        """
        from models.checkpoint import file_digest, weights_path
        from models.runtime import open_network

        name = "detector" if settings.weights == "default" else settings.weights
        path: Path = weights_path(name)
        try:
            self.digest = file_digest(path)
            self.network = open_network(
                path,
                width=settings.input_width,
                height=settings.input_height,
                batch=settings.batch_size,
                runtime=settings.runtime,
                device=settings.device,
                precision=settings.precision,
                threads=threads,
            )
        except ValueError as exc:
            raise ModelError(str(exc), remedy="see [perceive] in `marey config --show`") from exc
        self.settings = settings

    @property
    def batch_size(self) -> int:
        return self.settings.batch_size

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> list[Perceived]:
        """Perceive up to `batch_size` pictures (N, H, W, 3), RGB."""
        from models.detector import select

        s = self.settings
        out = self.network.run(pictures)
        names = self.network.classes
        found = []
        for scores, boxes, appearance, embedding in zip(*out, strict=True):
            kept = select(
                scores,
                boxes,
                appearance,
                min_score=s.min_score,
                nms_iou=s.nms_iou,
                max_detections=s.max_detections,
                size=(s.input_width, s.input_height),
            )
            classes = tuple(names[c] for c in kept.classes)
            found.append(Perceived(kept.boxes, kept.scores, classes, kept.appearance, embedding))
        return found


def half(values: Array) -> Array:
    """Round to half precision, as vectors are stored."""
    return values.astype(np.float16).astype(np.float32)


def to_rows(
    frames: Sequence[Sampled], perceived: Sequence[Perceived], box_map: ToDisplay, *, embeddings: bool
) -> pa.Table:
    """Rows of a staging file (schema STAGED), one per sampled frame, boxes in displayed pixels."""
    records = []
    for frame, seen in zip(frames, perceived, strict=True):
        boxes = box_map.to_display(seen.boxes)
        alive = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # boxes in the grey bars are gone
        vectors = half(seen.appearance) if embeddings else [None] * len(boxes)
        detections = [
            {
                "x1": box[0],
                "y1": box[1],
                "x2": box[2],
                "y2": box[3],
                "class": name,
                "score": score,
                "appearance": vector,
            }
            for box, name, score, vector, ok in zip(
                boxes, seen.classes, seen.scores, vectors, alive, strict=True
            )
            if ok
        ]
        motion = frame.camera_motion
        records.append(
            {
                "sample": frame.sample,
                "pts": frame.pts,
                "t": frame.t,
                "embedding": half(np.concatenate([seen.embedding, frame.motion_grid]))
                if embeddings
                else None,
                "camera_motion": dict(zip(("dx", "dy", "scale", "rotation"), motion, strict=True))
                if motion
                else None,
                "reused": False,
                "detections": detections,
            }
        )
    return pa.Table.from_pylist(records, schema=STAGED)
