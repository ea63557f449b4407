"""What runs the detector: torch (CPU or CUDA) or OpenVINO, behind one call.

Every runtime takes batches of one fixed shape, padded, so that a frame gives the same numbers in any company.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from models.checkpoint import load_detector
from models.detector import Decoded

Pictures = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]
Precision = Literal["float32", "bfloat16"]


class CellOutputs(NamedTuple):
    """Outputs of all cells for a batch; see `models.detector.Decoded`."""

    scores: Array  # (N, A, classes)
    boxes: Array  # (N, A, 4), xyxy in input pixels
    appearance: Array  # (N, A, E)
    embedding: Array  # (N, D)


class Network(NamedTuple):
    """A detector ready to run. `run` takes (N, H, W, 3) uint8 RGB with N up to `batch`."""

    run: Callable[[Pictures], CellOutputs]
    classes: tuple[str, ...]
    runtime: str
    device: str


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
    module = Decoded(detector, height, width).eval()
    threads = threads or os.cpu_count() or 1
    make = _openvino if runtime == "openvino" else _torch
    run = make(module, (batch, height, width, 3), device, precision, threads)
    name = f"{runtime} {_version(runtime)} {precision}"
    return Network(_padded(run, batch), detector.config.classes, name, device)


def _version(runtime: str) -> str:
    from importlib.metadata import version

    return version(runtime)


def _padded(run: Callable[[Pictures], CellOutputs], batch: int) -> Callable[[Pictures], CellOutputs]:
    def call(pictures: Pictures) -> CellOutputs:
        count = len(pictures)
        if count < batch:
            empty = np.zeros((batch - count, *pictures.shape[1:]), np.uint8)
            pictures = np.concatenate([pictures, empty])
        return CellOutputs(*(part[:count] for part in run(pictures)))

    return call


def _torch(
    module: Decoded, shape: tuple[int, ...], device: str, precision: Precision, threads: int
) -> Callable[[Pictures], CellOutputs]:
    if device == "cpu":
        torch.set_num_threads(threads)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    module.detector.to(dtype=dtype)
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(pictures: Pictures) -> CellOutputs:
        with torch.inference_mode():
            outputs = module(torch.from_numpy(np.ascontiguousarray(pictures)).to(device))
            return CellOutputs(*(x.float().cpu().numpy() for x in outputs))

    return run


def _openvino(
    module: Decoded, shape: tuple[int, ...], device: str, precision: Precision, threads: int
) -> Callable[[Pictures], CellOutputs]:
    os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")
    import warnings

    import openvino as ov

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the tracer of torch warns of constants that are meant to be constant
        example = torch.zeros(shape, dtype=torch.uint8)
        model = ov.convert_model(module, example_input=example, input=[(ov.PartialShape(shape), ov.Type.u8)])
    core = ov.Core()
    cache = Path(os.environ.get("MAREY_CACHE", Path.home() / ".cache" / "marey")) / "openvino"
    core.set_property({"CACHE_DIR": str(cache)})
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
        request.infer([pictures])
        return CellOutputs(*(np.array(request.get_output_tensor(i).data) for i in range(4)))

    return run
