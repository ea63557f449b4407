"""What a network says of several pictures, and machines with GPUs that are not there."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models import runtime
from models.boxes import CellOutputs, Pictures, Run, all_outputs

ARCHES = ("sm_75", "sm_80", "sm_90a", "sm_120f", "compute_120")
"""What a build of torch may be for."""


def outputs_of(run: Run, pictures: Pictures) -> CellOutputs:
    """Outputs of all pictures, (N, ...) each."""
    return CellOutputs(*(np.stack(values) for values in zip(*all_outputs(run, pictures), strict=True)))


def see_gpus(
    monkeypatch: pytest.MonkeyPatch, *capabilities: tuple[int, int], built: Sequence[str] = ARCHES
) -> None:
    """Let torch say that it sees GPUs of these capabilities, and that it was `built` for some."""

    def build(package: str) -> str:
        return "2.13.0" if package == "torch" else version(package)

    def properties(device: int | str) -> SimpleNamespace:
        index = int(str(device).removeprefix("cuda").removeprefix(":") or 0)
        major, minor = capabilities[index]
        return SimpleNamespace(name=f"GPU {index}", major=major, minor=minor, uuid=f"uuid-{index}")

    monkeypatch.setattr(runtime, "version", build)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(built))
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
