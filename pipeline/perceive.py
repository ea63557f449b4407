"""What the CNN says of sampled frames: rows of `frames` and `detections`, before they have a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
        from models.checkpoint import weights_path
        from models.runtime import open_network

        name = "detector" if settings.weights == "default" else settings.weights
        path = weights_path(name)
        try:
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
        except (ValueError, RuntimeError) as exc:  # what runs the CNN says RuntimeError
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
        motion = frame.camera_motion
        vector = half(np.concatenate([seen.embedding, frame.motion_grid])) if embeddings else None
        records.append(
            {
                "sample": frame.sample,
                "pts": frame.pts,
                "t": frame.t,
                "embedding": vector,
                "camera_motion": dict(zip(_MOTION, motion, strict=True)) if motion else None,
                "reused": False,
                "detections": _detections(seen, box_map, embeddings=embeddings),
            }
        )
    return pa.Table.from_pylist(records, schema=STAGED)


_MOTION = ("dx", "dy", "scale", "rotation")


def displayed(boxes: Array, box_map: ToDisplay) -> Array:
    """Boxes (K, 4) in displayed pixels; K may be 0."""
    return box_map.to_display(boxes) if len(boxes) else boxes


def _detections(seen: Perceived, box_map: ToDisplay, *, embeddings: bool) -> list[dict[str, Any]]:
    vectors = half(seen.appearance) if embeddings else [None] * len(seen.scores)
    rows = []
    for box, name, score, vector in zip(
        displayed(seen.boxes, box_map), seen.classes, seen.scores, vectors, strict=True
    ):
        x1, y1, x2, y2 = box
        if x2 > x1 and y2 > y1:  # boxes in the grey bars are gone
            corners = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
            rows.append({**corners, "class": name, "score": score, "appearance": vector})
    return rows
