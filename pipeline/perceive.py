"""What the CNN says of sampled frames: rows of `frames` and `detections`, before they have a place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.brought import read_spec
from models.files import CheckpointError, detector_path, has_ranges, weights_path
from models.precision import Precision, resolve, without_int8
from pipeline.config import PerceiveConfig
from pipeline.errors import ModelError
from pipeline.lake.schema import STAGED

if TYPE_CHECKING:
    from models.runtime import BroughtNetwork, Network

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
    @property
    def still(self) -> bool: ...


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
        """Load the weights, and the detector that was brought if one was.

        Raises:
            ModelError: the weights cannot be used, or the device or runtime is not there.
        """
        from models.boxes import Selection

        self.settings = settings = resolved(settings)
        try:
            self.network = _open(settings, threads)
        except (ValueError, RuntimeError) as exc:  # what runs the CNN says RuntimeError
            raise ModelError(str(exc), remedy="see [perceive] in `marey config --show`") from exc
        self._selection = Selection(settings.min_score, settings.nms_iou, settings.max_detections)

    @property
    def batch_size(self) -> int:
        return self.settings.batch_size

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> list[Perceived]:
        """Perceive up to `batch_size` pictures (N, H, W, 3), RGB.

        Raises:
            ModelError: a brought detector's outputs are not what its description says.
        """
        names = self.network.classes
        try:
            found = self.network.detect(pictures, self._selection)
        except CheckpointError as exc:
            raise ModelError(str(exc), remedy="see the TOML file beside the detector") from exc
        return [
            Perceived(d.boxes, d.scores, tuple(names[c] for c in d.classes), d.appearance, embedding)
            for d, embedding in found
        ]


def resolved(settings: PerceiveConfig) -> PerceiveConfig:
    """With what the machine and a brought detector decide: the number format and the size of the input.

    Raises:
        ModelError: the brought detector's description cannot be used.
    """
    chosen: dict[str, Any] = {"precision": _precision(settings)}
    if settings.detector:
        try:
            spec = read_spec(detector_path(settings.detector))
        except CheckpointError as exc:
            raise ModelError(str(exc), remedy="docs/recipes/detector.md shows such a file") from exc
        chosen |= {"input_width": spec.input[0], "input_height": spec.input[1], "fit": spec.fit}
    return settings.model_copy(update=chosen)


def _open(settings: PerceiveConfig, threads: int) -> Network | BroughtNetwork:
    from models.brought import open_brought
    from models.runtime import BroughtNetwork, open_network

    own = None
    if settings.embeddings or not settings.detector:
        if settings.input_width % 32 or settings.input_height % 32:
            raise ValueError(
                f"input {settings.input_width}x{settings.input_height} is no multiple of 32, as embeddings "
                "beside the detector need: set embeddings = false"
            )
        own = open_network(
            _weights(settings),
            width=settings.input_width,
            height=settings.input_height,
            batch=settings.batch_size,
            runtime=settings.runtime,
            device=settings.device,
            precision=_precision(settings),
            threads=threads,
            keep=settings.keep_compiled,
        )
        if not settings.detector:
            return own
    precision = without_int8(_precision(settings))
    brought = open_brought(detector_path(settings.detector), settings.runtime, precision, threads)
    return BroughtNetwork(brought, own)


def _weights(settings: PerceiveConfig) -> Path:
    return weights_path("detector" if settings.weights == "default" else settings.weights)


def _precision(settings: PerceiveConfig) -> Precision:
    ranges = False
    if settings.precision == "auto" and not settings.detector:
        with suppress(CheckpointError):  # said when they are loaded
            ranges = has_ranges(_weights(settings))
    return resolve(settings.precision, settings.runtime, settings.device, ranges=ranges)


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
                "reused": frame.still,
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
