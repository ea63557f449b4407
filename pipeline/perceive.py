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
from models.files import CheckpointError, has_ranges
from models.precision import Precision, resolve, without_int8
from pipeline.config import PerceiveConfig
from pipeline.errors import ModelError
from pipeline.lake.schema import STAGED, VECTOR
from pipeline.weights import detector_path, weights_path

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
    path, at_once = detector_path(settings.detector), settings.batch_size
    brought = open_brought(path, settings.runtime, precision, threads, at_once=at_once)
    return BroughtNetwork(brought, own)


def _weights(settings: PerceiveConfig) -> Path:
    return weights_path("detector" if settings.weights == "default" else settings.weights)


def _precision(settings: PerceiveConfig) -> Precision:
    from models.runtime import choose

    ranges = False
    runtime: str = settings.runtime
    device: str = settings.device
    if settings.precision == "auto":
        with suppress(ValueError):  # said when the network is opened
            runtime, device = choose(runtime, device)
        if not settings.detector:
            with suppress(CheckpointError):  # said when they are loaded
                ranges = has_ranges(_weights(settings))
    return resolve(settings.precision, runtime, device, ranges=ranges)


def half(values: Array) -> Array:
    """Round to half precision, as vectors are stored."""
    return values.astype(np.float16).astype(np.float32)


def to_rows(
    frames: Sequence[Sampled], perceived: Sequence[Perceived], box_map: ToDisplay, *, embeddings: bool
) -> pa.Table:
    """Rows of a staging file (schema STAGED), one per sampled frame, boxes in displayed pixels."""
    motions = [frame.camera_motion for frame in frames]
    grids = [np.concatenate([p.embedding, f.motion_grid]) for f, p in zip(frames, perceived, strict=True)]
    columns = {
        "sample": [frame.sample for frame in frames],
        "pts": [frame.pts for frame in frames],
        "t": [frame.t for frame in frames],
        "embedding": _vectors(np.stack(grids)) if embeddings else pa.nulls(len(frames), VECTOR),
        "camera_motion": [dict(zip(_MOTION, motion, strict=True)) if motion else None for motion in motions],
        "reused": [frame.still for frame in frames],
        "detections": _detections(perceived, box_map, embeddings=embeddings),
    }
    return pa.table(columns, schema=STAGED)


_MOTION = ("dx", "dy", "scale", "rotation")
_LISTS: pa.ListType = STAGED.field("detections").type


def _vectors(values: Array) -> pa.ListArray:
    """Rows (N, D) in half precision."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(offsets, half(values).reshape(-1), type=VECTOR)


def displayed(boxes: Array, box_map: ToDisplay) -> Array:
    """Boxes (K, 4) in displayed pixels; K may be 0."""
    return box_map.to_display(boxes) if len(boxes) else boxes


def _detections(perceived: Sequence[Perceived], box_map: ToDisplay, *, embeddings: bool) -> pa.ListArray:
    """Per frame the list of its detections."""
    boxes: Array = displayed(np.concatenate([seen.boxes for seen in perceived]), box_map)
    good = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)  # not those in the grey bars
    frame = np.repeat(np.arange(len(perceived)), [len(seen.boxes) for seen in perceived])
    counts = np.bincount(frame[good], minlength=len(perceived))
    names = [name for seen in perceived for name in seen.classes]
    looks = [seen.appearance for seen in perceived if len(seen.boxes)]
    columns = {
        **{side: boxes[good, i] for i, side in enumerate(("x1", "y1", "x2", "y2"))},
        "class": [name for name, kept in zip(names, good.tolist(), strict=True) if kept],
        "score": np.concatenate([seen.scores for seen in perceived])[good],
        "appearance": _vectors(np.concatenate(looks)[good]) if embeddings and looks else None,
    }
    inner: list[pa.Field] = list(_LISTS.value_type)
    arrays = [
        pa.nulls(int(good.sum()), field.type) if columns[field.name] is None
        else pa.array(columns[field.name], field.type)
        for field in inner
    ]  # fmt: skip
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=inner), type=_LISTS)
