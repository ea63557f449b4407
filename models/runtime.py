"""What runs the detector: torch (CPU or CUDA) or OpenVINO, behind one call.

torch takes batches of one fixed shape, padded, and OpenVINO pictures one by one, so that a frame gives the
same numbers in any company.
Importing this loads no torch, which takes a second: `models.compiled` mostly does without.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.boxes import (
    Array,
    CellOutputs,
    Detections,
    Grid,
    Pictures,
    Run,
    Selection,
    Take,
    best_first,
    clip,
    keep_best,
    select,
)
from models.brought import Brought
from models.compiled import open_compiled
from models.cores import usable_cores
from models.precision import Precision, without_int8


class Network(NamedTuple):
    """A detector ready to run. `run` takes uint8 RGB, up to `batch` pictures at once."""

    run: Run
    grid: Grid
    classes: tuple[str, ...]
    runtime: str
    device: str

    def detect(self, pictures: Pictures, selection: Selection) -> list[tuple[Detections, Array]]:
        """Per picture its boxes and its frame embedding (D,)."""
        found: dict[int, tuple[Detections, Array]] = {}

        def take(place: int, out: CellOutputs) -> None:
            boxes = select(out.scores, out.sides, out.appearance, self.grid, selection)
            found[place] = boxes, out.embedding.copy()

        self.run(pictures, take)
        return [found[place] for place in range(len(pictures))]


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
        found: list[tuple[Detections, Array]] = []
        for boxes, scores in self.brought.find(pictures):
            cells, classes, values = best_first(scores, selection)
            kept = keep_best(boxes[cells], classes, size, selection)
            inside, none = clip(boxes[cells[kept]], size), np.zeros((len(kept), 0), np.float32)
            found.append((Detections(inside, values[kept], classes[kept], none), np.zeros(0, np.float32)))
        if self.own is None:
            return found
        grid = self.own.grid

        def take(place: int, out: CellOutputs) -> None:
            boxes, _ = found[place]
            looks = grid.looks(boxes.boxes, out.scores, out.appearance)
            found[place] = boxes._replace(appearance=looks), out.embedding.copy()

        self.own.run(pictures, take)
        return found


def choose(runtime: str, device: str) -> tuple[str, str]:
    """Resolve `auto`: CUDA if there is one, else OpenVINO where installed, else torch on the CPU.

    Who asks for OpenVINO gets the CPU, which is where it runs.

    Raises:
        ValueError: what is asked for is not there.
    """
    if device == "cuda" and (why := refusal("cuda")):
        raise ValueError(f'device = "cuda", but {why}')
    if device == "auto":
        device = "cpu" if runtime == "openvino" or refusal("cuda") else "cuda"
    has_openvino = importlib.util.find_spec("openvino") is not None
    if runtime == "openvino" and (device != "cpu" or not has_openvino):
        raise ValueError('runtime = "openvino" needs device = "cpu" and: pip install "marey[openvino]"')
    if runtime == "auto":
        runtime = "openvino" if device == "cpu" and has_openvino else "torch"
    return runtime, device


def refusal(device: str) -> str:
    """Why torch cannot compute on `device`, as cpu, cuda or cuda:1; empty if it can.

    torch is not asked, nor loaded, where it cannot see a GPU.
    """
    kind, _, number = device.partition(":")
    if device == "cpu":
        return ""
    if kind != "cuda" or not (number or "0").isdecimal():
        return "a device is cpu or cuda"
    build = version("torch")
    if "+cpu" in build or sys.platform == "darwin" or not _has_driver(build):
        return _NO_GPU
    import torch

    if not torch.cuda.is_available():
        return _NO_GPU
    index, count = int(number or 0), torch.cuda.device_count()
    if index >= count:
        return f"torch sees {count} CUDA devices, the first of which is cuda:0"
    capability = torch.cuda.get_device_capability(index)
    if torch.version.cuda and not _runs_on(capability, torch.cuda.get_arch_list()):
        name = f"{torch.cuda.get_device_name(index)}, sm_{capability[0]}{capability[1]}"
        return f"torch {build} was not built for this GPU ({name})"
    return ""


_NO_GPU = "torch sees no CUDA device"


def _has_driver(build: str) -> bool:
    if sys.platform != "linux" or "+rocm" in build:
        return True  # not known without torch
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _runs_on(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Whether a GPU runs any of the code that torch was `built` with, as `sm_75` or `compute_90`.

    Machine code (sm) runs on GPUs of its own generation that are not older, PTX (compute) on all later ones.
    """
    for name in built:
        kind, _, number = name.partition("_")
        needed = divmod(int(number.rstrip("af")), 10)
        if needed <= capability and (kind == "compute" or needed[0] == capability[0]):
            return True
    return not built


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
    keep: bool = True,
) -> Network:
    """Load weights and prepare a runtime for pictures of `width` x `height`.

    With `keep`, what OpenVINO compiles is kept for the next process; see `models.compiled`.

    Raises:
        CheckpointError: the weights cannot be used.
        ValueError: the runtime or device is not there.
    """
    runtime, device = choose(runtime, device)
    threads = threads or usable_cores()
    if runtime == "openvino":
        run, classes = open_compiled(weights, (width, height), batch, precision, threads, keep=keep)
    elif precision != without_int8(precision):
        raise ValueError(f'precision = "{precision}" needs device = "cpu" and: pip install "marey[openvino]"')
    else:
        run, classes = _torch(weights, (batch, height, width, 3), device, precision, threads)
    return Network(run, Grid.of(width, height), classes, f"{runtime} {version(runtime)} {precision}", device)


def _torch(
    weights: Path, shape: tuple[int, ...], device: str, precision: Precision, threads: int
) -> tuple[Run, tuple[str, ...]]:
    import torch

    from models.checkpoint import load_detector
    from models.detector import Exported

    detector = load_detector(weights)
    module = Exported(detector).eval()
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    module.detector.to(dtype=dtype)
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    # From pinned memory a GPU fetches by itself, and what it found comes back in one copy.
    given = torch.zeros(shape, dtype=torch.uint8, pin_memory=device == "cuda")

    def run(pictures: Pictures, take: Take) -> None:
        # Last digits depend on it, and it is the process's: who else uses torch may have set another.
        if device == "cpu" and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            given.numpy()[: len(pictures)] = pictures
            given[len(pictures) :] = 0
            outputs = module(given.to(device, non_blocking=True))
            rows = torch.cat([x.float().flatten(1) for x in outputs], dim=1).cpu().numpy()  # (B, all numbers)
        shapes = [x.shape[1:] for x in outputs]
        parts = np.split(rows, np.cumsum([math.prod(part) for part in shapes])[:-1], axis=1)
        for place in range(len(pictures)):
            take(place, CellOutputs(*(x[place].reshape(s) for x, s in zip(parts, shapes, strict=True))))

    return run, detector.config.classes
