"""What runs the detector: torch (CPU or CUDA) or OpenVINO, behind one call.

Every runtime takes batches of one fixed shape, padded, so that a frame gives the same numbers in any company.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from models.brought import Brought
from models.checkpoint import load_detector
from models.detector import Detections, Exported, Grid, Selection, best_first, clip, keep_best, select
from models.files import cache_folder
from models.precision import Precision

Pictures = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]


class CellOutputs(NamedTuple):
    """Outputs of all cells for a batch; see `models.detector.Exported`."""

    scores: Array  # (N, A, classes)
    sides: Array  # (N, A, 4 * bins), before the softmax
    appearance: Array  # (N, A, E), of any length
    embedding: Array  # (N, D)


class Network(NamedTuple):
    """A detector ready to run. `run` takes (N, H, W, 3) uint8 RGB with N up to `batch`."""

    run: Callable[[Pictures], CellOutputs]
    grid: Grid
    classes: tuple[str, ...]
    runtime: str
    device: str

    def detect(self, pictures: Pictures, selection: Selection) -> list[tuple[Detections, Array]]:
        """Per picture its boxes and its frame embedding (D,)."""
        out = self.run(pictures)
        rows = zip(out.scores, out.sides, out.appearance, out.embedding, strict=True)
        return [(select(s, b, a, self.grid, selection), embedding) for s, b, a, embedding in rows]


@dataclass(frozen=True)
class BroughtNetwork:
    """A detector that somebody brought; the vectors are those of our own network, or empty without one."""

    brought: Brought
    own: Network | None

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.brought.spec.classes)

    @property
    def runtime(self) -> str:
        return self.brought.runtime if self.own is None else f"{self.brought.runtime}, {self.own.runtime}"

    @property
    def device(self) -> str:
        return "cpu" if self.own is None else self.own.device

    def detect(self, pictures: Pictures, selection: Selection) -> list[tuple[Detections, Array]]:
        """Per picture its boxes and its frame embedding (D,); see `Network.detect`."""
        size = self.brought.spec.input
        vectors = self.own.run(pictures) if self.own else None
        found = []
        for number, (boxes, scores) in enumerate(self.brought.find(pictures)):
            cells, classes, values = best_first(scores, selection)
            kept = keep_best(boxes[cells], classes, size, selection)
            inside = clip(boxes[cells[kept]], size)
            looks, embedding = np.zeros((len(kept), 0), np.float32), np.zeros(0, np.float32)
            if self.own and vectors:
                embedding = vectors.embedding[number]
                looks = self.own.grid.looks(inside, vectors.scores[number], vectors.appearance[number])
            found.append((Detections(inside, values[kept], classes[kept], looks), embedding))
        return found


def choose(runtime: str, device: str) -> tuple[str, str]:
    """Resolve `auto`: CUDA if there is one, else OpenVINO where installed, else torch on the CPU.

    Raises:
        ValueError: what is asked for is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError('device = "cuda", but torch sees no CUDA device')
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    has_openvino = importlib.util.find_spec("openvino") is not None
    if runtime == "openvino" and (device != "cpu" or not has_openvino):
        raise ValueError('runtime = "openvino" needs device = "cpu" and: pip install "marey[openvino]"')
    if runtime == "auto":
        runtime = "openvino" if device == "cpu" and has_openvino else "torch"
    return runtime, device


def open_network(
    weights: Path,
    *,
    width: int,
    height: int,
    batch: int,
    runtime: str = "auto",
    device: str = "auto",
    precision: Precision = "float32",
    threads: int = 0,
) -> Network:
    """Load weights and prepare a runtime for pictures of `width` x `height`.

    Raises:
        CheckpointError: the weights cannot be used.
        ValueError: the runtime or device is not there.
    """
    runtime, device = choose(runtime, device)
    detector = load_detector(weights)
    module = Exported(detector).eval()
    threads = threads or os.cpu_count() or 1
    make = _openvino if runtime == "openvino" else _torch
    run = make(module, (batch, height, width, 3), device, precision, threads)
    name = f"{runtime} {_version(runtime)} {precision}"
    return Network(run, Grid.of(width, height), detector.config.classes, name, device)


def _version(runtime: str) -> str:
    from importlib.metadata import version

    return version(runtime)


def _filled(pictures: Pictures, batch: int) -> Pictures:
    """With black pictures behind the given ones, up to `batch`."""
    empty = np.zeros((batch - len(pictures), *pictures.shape[1:]), np.uint8)
    return np.concatenate([pictures, empty]) if len(empty) else pictures


def _torch(
    module: Exported, shape: tuple[int, ...], device: str, precision: Precision, threads: int
) -> Callable[[Pictures], CellOutputs]:
    if device == "cpu":
        torch.set_num_threads(threads)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    module.detector.to(dtype=dtype)
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(pictures: Pictures) -> CellOutputs:
        with torch.inference_mode():
            filled = np.ascontiguousarray(_filled(pictures, shape[0]))
            outputs = module(torch.from_numpy(filled).to(device))
            return CellOutputs(*(x.float().cpu().numpy()[: len(pictures)] for x in outputs))

    return run


def _openvino(
    module: Exported, shape: tuple[int, ...], device: str, precision: Precision, threads: int
) -> Callable[[Pictures], CellOutputs]:
    os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")
    import warnings

    import openvino as ov

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the tracer of torch warns of constants that are meant to be constant
        # One picture per core at a time: what a layer leaves is still in the cache for the next one. Eight at
        # once take a tenth more CPU time, and give the same numbers to the last bit (measured).
        shape = (min(shape[0], threads), *shape[1:])
        example = torch.zeros(shape, dtype=torch.uint8)
        model = ov.convert_model(module, example_input=example, input=[(ov.PartialShape(shape), ov.Type.u8)])
    core = ov.Core()
    core.set_property({"CACHE_DIR": str(cache_folder("openvino"))})
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        },
    )
    request = compiled.create_infer_request()

    def run(pictures: Pictures) -> CellOutputs:
        count, size = len(pictures), shape[0]
        sizes = [request.get_output_tensor(i).shape[1:] for i in range(4)]
        out = CellOutputs(*(np.empty((count, *s), np.float32) for s in sizes))
        for begin in range(0, count, size):
            part = pictures[begin : begin + size]
            request.infer([_filled(part, size)])
            for i, whole in enumerate(out):
                whole[begin : begin + len(part)] = request.get_output_tensor(i).data[: len(part)]
        return out

    return run
