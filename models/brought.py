"""Detectors that somebody brings: an ONNX file, and a TOML file of the same name that says how to read it.

    layout = "yolox"                  # or another of `LAYOUTS`
    input = [416, 416]                # width, height
    fit = "letterbox"                 # aspect kept, in the middle, grey 114 beside it; or "stretch"
    colour = "bgr"                    # or "rgb"
    mean = [0, 0, 0]                  # of the colours in that order, on a scale of 0 to 255
    scale = [1, 1, 1]                 # the network sees (pixel - mean) / scale
    strides = [8, 16, 32]             # of the grids that a layout has cells of

    [classes]                         # ours, and the numbers that the network gives them
    person = [0]
    cycle = [1, 3]

Boxes are suppressed as marey's own are, by `perceive.nms_iou`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.boxes import Array, Pictures, padded
from models.cores import usable_cores
from models.files import CheckpointError
from models.streams import Inputs, Take, open_streams, stream_settings

Outputs = Sequence[npt.NDArray[np.generic]]

ROUNDING = 0.01
"""By which a number format may lift a probability above 1."""


@dataclass(frozen=True)
class Spec:
    """What the TOML file says; see the head of this module."""

    layout: str
    input: tuple[int, int]
    classes: dict[str, tuple[int, ...]]
    fit: str = "letterbox"
    colour: str = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    strides: tuple[int, ...] = (8, 16, 32)

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout {self.layout!r}: one of {', '.join(sorted(LAYOUTS))}")
        if self.fit not in ("letterbox", "stretch"):
            raise ValueError(f"fit {self.fit!r}: letterbox or stretch")
        if self.colour not in ("rgb", "bgr"):
            raise ValueError(f"colour {self.colour!r}: rgb or bgr")
        if len(self.input) != 2 or not _are_whole(self.input, 1):
            raise ValueError(f"input {self.input}: width and height in pixels")
        if not self.strides or not _are_whole(self.strides, 1):
            raise ValueError(f"strides {self.strides}: pixels of the input from cell to cell")
        if len(self.mean) != 3 or len(self.scale) != 3 or 0 in self.scale:
            raise ValueError("mean and scale have three numbers each, those of scale other than 0")
        if not self.classes or not all(self.classes.values()):
            raise ValueError("[classes] names at least one class, and the network's numbers of each")
        if not all(_are_whole(numbers, 0) for numbers in self.classes.values()):
            raise ValueError("[classes] has the network's numbers, which begin at 0")


def _are_whole(values: Sequence[object], least: int) -> bool:
    """Whether all are whole numbers of `least` or more; what stands in a file may be anything."""
    return all(isinstance(value, int) and value >= least for value in values)


def spec_path(model: Path) -> Path:
    """The TOML file beside an ONNX file."""
    return model.with_suffix(".toml")


def read_spec(model: Path) -> Spec:
    """The description beside an ONNX file.

    Raises:
        CheckpointError: it is missing, not TOML, or says what cannot be.
    """
    path = spec_path(model)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        unknown = set(values) - {field.name for field in fields(Spec)}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        ready: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        ready["classes"] = {name: tuple(numbers) for name, numbers in values["classes"].items()}
        return Spec(**ready)
    except FileNotFoundError as exc:
        raise CheckpointError(f"{path}, which says how to read {model.name}, is not there") from exc
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise CheckpointError(f"{path}: {exc}") from exc


def brought_digest(model: Path) -> str:
    """SHA-256 over the ONNX file and its description, first 32 hex digits: what enters the ids of results.

    Raises:
        CheckpointError: one of them cannot be read.
    """
    sha = hashlib.sha256()
    for path in (model, spec_path(model)):
        try:
            sha.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as exc:
            raise CheckpointError(f"{path} cannot be read: {exc.strerror}") from exc
    return sha.hexdigest()[:32]


@dataclass(frozen=True)
class Brought:
    """A brought detector ready to run.

    `find` takes (N, H, W, 3) uint8 RGB of the size of `spec.input` and returns per picture boxes (A, 4), xyxy
    in its pixels, and scores (A, C) of our classes.
    """

    find: Callable[[Pictures], list[tuple[Array, Array]]]
    spec: Spec
    runtime: str


def open_brought(
    model: Path, runtime: str = "auto", precision: str = "float32", threads: int = 0, *, at_once: int = 8
) -> Brought:
    """Load an ONNX detector into OpenVINO, or into ONNX Runtime where that is absent or `runtime` is torch.

    `at_once` is how many pictures `find` mostly gets: no more of them have threads of their own.

    Raises:
        CheckpointError: the file or its description cannot be used.
        ValueError: the runtime is not installed.
    """
    spec = read_spec(model)
    if not model.exists():
        raise CheckpointError(f"detector {model} is not there")
    threads = threads or usable_cores()
    if runtime == "openvino" or (runtime == "auto" and importlib.util.find_spec("openvino")):
        run, batch, name = _openvino(model, spec, precision, threads, at_once)
    else:
        run, batch, name = _onnxruntime(model, spec, threads)
    read = LAYOUTS[spec.layout]

    def find(pictures: Pictures) -> list[tuple[Array, Array]]:
        size = batch or len(pictures)
        parts = [padded(pictures[begin : begin + size], size) for begin in range(0, len(pictures), size)]
        found: dict[int, list[tuple[Array, Array]]] = {}

        def take(place: int, outputs: Outputs) -> None:
            found[place] = [_own(boxes, scores) for boxes, scores in zip(*read(outputs, spec), strict=True)]
            if len(found[place]) != size:
                raise ValueError(f"{size} pictures gave boxes of {len(found[place])}")

        try:
            run(parts, take)
        except CheckpointError:
            raise
        except (IndexError, ValueError, RuntimeError) as exc:
            said = " ".join(str(exc).split())[:200]
            raise CheckpointError(f"{model}: its outputs are not of layout {spec.layout}: {said}") from exc
        return [one for place in range(len(parts)) for one in found[place]][: len(pictures)]

    return Brought(find, spec, name)


def _own(boxes: Array, scores: Array) -> tuple[Array, Array]:
    """Copies of a picture's boxes (A, 4) and scores (A, C), these at most 1.

    Raises:
        ValueError: they are of other shapes, or the scores no probabilities.
    """
    if boxes.ndim != 2 or scores.ndim != 2 or boxes.shape != (len(scores), 4):
        raise ValueError(f"boxes of shape {boxes.shape} and scores of shape {scores.shape} of a picture")
    if not (top := float(scores.max(initial=0))) <= 1 + ROUNDING:
        raise ValueError(f"a score of {top:.4g}, where 0 to 1 is expected: do they lack a sigmoid?")
    return boxes.copy(), np.asarray(np.minimum(scores, 1))


_Run = tuple[Callable[[Inputs, Take], None], int, str]
"""What runs batches, the size of a batch (0: any), and the runtime's name."""


def _onnxruntime(model: Path, spec: Spec, threads: int) -> _Run:
    try:
        import onnxruntime
    except ImportError as exc:
        raise ValueError('a brought detector needs ONNX Runtime: pip install "marey[onnx]"') from exc
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Its threads are not to wait in a loop for more work: decoding needs the core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # it raises exceptions of its own kinds, direct children of Exception
        raise CheckpointError(f"{model} is not a model that ONNX Runtime reads: {exc}") from exc
    first = session.get_inputs()[0]

    def run(parts: Inputs, take: Take) -> None:
        for place, part in enumerate(parts):
            try:
                outputs = session.run(None, {first.name: _prepare(part, spec)})
            except Exception as exc:  # as above
                said = " ".join(str(exc).split())[:200]
                raise CheckpointError(f"{model} does not run on pictures of {spec.input}: {said}") from exc
            take(place, outputs)

    batch = first.shape[0] if isinstance(first.shape[0], int) else 0
    return run, batch, f"onnxruntime {onnxruntime.__version__} float32"


def _prepare(pictures: npt.NDArray[np.generic], spec: Spec) -> Array:
    """(N, H, W, 3) uint8 RGB -> (N, 3, H, W) as the network wants it."""
    ordered = pictures[..., ::-1] if spec.colour == "bgr" else pictures
    x: Array = np.ascontiguousarray(ordered.transpose(0, 3, 1, 2), np.float32)
    if any(spec.mean):
        x -= np.array(spec.mean, np.float32)[:, None, None]
    if set(spec.scale) != {1.0}:
        x /= np.array(spec.scale, np.float32)[:, None, None]
    return x


def _openvino(model: Path, spec: Spec, precision: str, threads: int, at_once: int) -> _Run:
    try:
        import openvino as ov
    except ImportError as exc:
        raise ValueError('runtime = "openvino" needs: pip install "marey[openvino]"') from exc
    try:
        network = ov.Core().read_model(str(model))
        shape = network.input().partial_shape
        batch = shape[0].get_length() if shape[0].is_static else 1
        width, height = spec.input
        network.reshape([batch, 3, height, width])
        streams = min(-(-at_once // batch), threads)
        settings = stream_settings(streams, threads, bfloat16=precision == "bfloat16")
        compiled = ov.Core().compile_model(_with_preparation(network, spec), "CPU", settings)
    except RuntimeError as exc:
        raise CheckpointError(f"{model} is not a model that OpenVINO reads: {exc}") from exc
    return open_streams(compiled), batch, f"openvino {ov.__version__.split('-')[0]} {precision}"


def _with_preparation(network: Any, spec: Spec) -> Any:
    """The network with `_prepare` as its first layers."""
    from openvino import Model
    from openvino import opset13 as ops

    given = network.input()
    batch, _, height, width = given.shape
    pictures = ops.parameter([batch, height, width, 3], np.uint8, name="pictures")
    order = [2, 1, 0] if spec.colour == "bgr" else [0, 1, 2]  # of `mean` and `scale`, pictures being RGB
    mean, scale = (np.array(values, np.float32)[order] for values in (spec.mean, spec.scale))
    x = ops.divide(ops.subtract(ops.convert(pictures, np.float32), mean), scale)
    # Scaled before the axes are named anew: between the two OpenVINO would turn the pictures round twice.
    x = ops.transpose(x, np.array([0, 3, 1, 2]))
    if spec.colour == "bgr":
        x = ops.gather(x, np.array(order), np.array(1))
    x = ops.convert(x, given.element_type.to_dtype())  # a network of half precision takes no other
    for user in list(given.get_target_inputs()):
        user.replace_source_output(x.output(0))
    return Model(network.outputs, [pictures])


def _ours(scores: Array, spec: Spec) -> Array:
    """Scores (N, A, C) of our classes: the highest of the network's classes that each stands for."""
    return np.stack([scores[..., list(numbers)].max(axis=-1) for numbers in spec.classes.values()], axis=-1)


@lru_cache
def _cells(size: tuple[int, int], steps: tuple[int, ...]) -> tuple[Array, Array]:
    """Upper left corners (A, 2) of the cells in cells, and strides (A, 1); row by row, stride by stride."""
    corners, strides = [], []
    for stride in steps:
        rows, columns = np.mgrid[: -(-size[1] // stride), : -(-size[0] // stride)]
        corners.append(np.stack([columns, rows], axis=-1).reshape(-1, 2))
        strides.append(np.full((len(corners[-1]), 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _yolox(outputs: Outputs, spec: Spec) -> tuple[Array, Array]:
    """One output (N, A, 5 + classes): centre in cells, log of size in strides, objectness, classes."""
    out = np.asarray(outputs[0], np.float32)
    corners, strides = _cells(spec.input, spec.strides)
    centre = (out[..., :2] + corners) * strides
    half = np.exp(out[..., 2:4]) * strides / 2
    scores = _ours(out[..., 5:], spec) * out[..., 4:5]
    return np.concatenate([centre - half, centre + half], axis=-1), scores


def _picodet(outputs: Outputs, spec: Spec) -> tuple[Array, Array]:
    """Per stride class probabilities (N, A, classes), then per stride sides (N, A, 4 * bins)."""
    levels = len(spec.strides)
    scores = np.concatenate([np.asarray(o, np.float32) for o in outputs[:levels]], axis=1)
    sides = np.concatenate([np.asarray(o, np.float32) for o in outputs[levels : 2 * levels]], axis=1)
    bins = sides.reshape(*sides.shape[:2], 4, -1)
    weights = np.exp(bins - bins.max(axis=-1, keepdims=True))
    corners, strides = _cells(spec.input, spec.strides)
    distance = weights @ np.arange(bins.shape[-1], dtype=np.float32) / weights.sum(axis=-1) * strides
    centre = (corners + 0.5) * strides
    boxes = np.concatenate([centre - distance[..., :2], centre + distance[..., 2:]], axis=-1)
    return boxes, _ours(scores, spec)


def _fastestdet(outputs: Outputs, spec: Spec) -> tuple[Array, Array]:
    """One output (N, 5 + classes, rows, columns) of a single stride.

    Objectness, centre in cells before tanh, size in inputs before the sigmoid, classes. Objectness
    and classes are probabilities.
    """
    out = np.asarray(outputs[0], np.float32)
    out = out.reshape(*out.shape[:2], -1).transpose(0, 2, 1)  # (N, A, 5 + classes)
    corners, strides = _cells(spec.input, spec.strides)
    centre = (np.tanh(out[..., 1:3]) + corners) * strides
    half = np.array(spec.input, np.float32) / (1 + np.exp(-out[..., 3:5])) / 2
    scores = out[..., :1] ** 0.6 * _ours(out[..., 5:], spec) ** 0.4
    return np.concatenate([centre - half, centre + half], axis=-1), scores


def _boxes_scores_labels(outputs: Outputs, spec: Spec) -> tuple[Array, Array]:
    """Boxes (N, A, 4), xyxy in input pixels, scores (N, A), labels (N, A); or without N."""
    boxes, values, labels = (np.asarray(o) for o in outputs[:3])
    values, labels = np.atleast_2d(values), np.atleast_2d(labels)
    boxes = boxes.reshape(*values.shape, 4)  # A may be 0
    scores = [np.where(np.isin(labels, numbers), values, 0) for numbers in spec.classes.values()]
    return boxes.astype(np.float32), np.stack(scores, axis=-1).astype(np.float32)


LAYOUTS: dict[str, Callable[[Outputs, Spec], tuple[Array, Array]]] = {
    "yolox": _yolox,
    "picodet": _picodet,
    "fastestdet": _fastestdet,
    "boxes_scores_labels": _boxes_scores_labels,
}
