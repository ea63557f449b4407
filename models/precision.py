"""Which number format the CNN runs in. Importing this loads no torch."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Literal

Precision = Literal["float32", "bfloat16"]

_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}


def resolve(precision: str, runtime: str, device: str) -> Precision:
    """`auto` is bfloat16 where this CPU computes in it and OpenVINO is there to use it, else float32."""
    if precision != "auto":
        return "bfloat16" if precision == "bfloat16" else "float32"
    openvino = runtime != "torch" and device != "cuda" and importlib.util.find_spec("openvino") is not None
    return "bfloat16" if openvino and _cpu_has_bfloat16() else "float32"


@cache
def cpu_flags() -> str:
    """The instruction sets of this CPU, as Linux lists them; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return ""
    return next((line for line in lines if line.startswith("flags")), "")


def _cpu_has_bfloat16() -> bool:
    return bool(_CPU_FLAGS & set(cpu_flags().split()))


def best_for_training(device: str) -> Precision:
    """bfloat16 where it is the faster one: GPUs, and CPUs that compute in it."""
    return "bfloat16" if device != "cpu" or _cpu_has_bfloat16() else "float32"
