"""Which number format the CNN runs in. Importing this loads no torch."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Literal, cast

Precision = Literal["float32", "bfloat16", "int8", "int8-bfloat16"]
"""Of the last two, what `models.quantize` does not round is computed in float32, or in bfloat16."""

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
_INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}


def resolve(precision: str, runtime: str, device: str, *, ranges: bool = False) -> Precision:
    """What `auto` is on this machine: where OpenVINO is there to use it, what this CPU has instructions for.

    Args:
        precision: a `Precision`, which is taken as it is, or `auto`.
        runtime: as `models.runtime.choose` gives it; `auto` if it cannot be chosen here.
        device: the same.
        ranges: whether the weights hold the ranges that 8 bits need.
    """
    if precision != "auto":
        return cast(Precision, precision)
    openvino = runtime != "torch" and device != "cuda" and importlib.util.find_spec("openvino") is not None
    rest: Precision = "bfloat16" if openvino and _has(_BFLOAT16_FLAGS) else "float32"
    if not (openvino and ranges and _has(_INT8_FLAGS)):
        return rest
    return "int8-bfloat16" if rest == "bfloat16" else "int8"


def without_int8(precision: Precision) -> Precision:
    """The number format of what is not rounded to 8 bits."""
    if precision == "int8":
        return "float32"
    return "bfloat16" if precision == "int8-bfloat16" else precision


@cache
def cpu_flags() -> str:
    """The instruction sets of this CPU, as Linux lists them; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return ""
    return next((line for line in lines if line.startswith("flags")), "")


def _has(flags: set[str]) -> bool:
    return bool(flags & set(cpu_flags().split()))


def best_for_training(device: str) -> Precision:
    """bfloat16 where it is the faster one: GPUs and CPUs that compute in it.

    Nvidia's do so from capability 8.0 (Ampere) on; those before convert, and convolve by a slow way round.
    """
    if device == "cpu":
        return "bfloat16" if _has(_BFLOAT16_FLAGS) else "float32"
    import torch

    fast = torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    return "bfloat16" if fast else "float32"
