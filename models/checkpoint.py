"""Checkpoints: safetensors with a JSON config in the header. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from models.detector import Detector, DetectorConfig
from models.files import RANGES, WEIGHTS, CheckpointError, file_digest, read_checkpoint, weights_path

__all__ = [
    "WEIGHTS", "CheckpointError", "file_digest", "load", "load_detector", "load_ranges", "save",
    "save_detector", "weights_path",
]  # fmt: skip


def save(path: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], *, half: bool = False) -> None:
    """Write tensors and config; `half` stores floating-point tensors in half precision.

    Raises:
        CheckpointError: the file cannot be written; what stood there stays.
    """
    ready = {
        k: (v.half() if half and v.is_floating_point() else v).contiguous().cpu() for k, v in tensors.items()
    }
    temporary = path.with_suffix(".tmp")
    try:
        save_file(ready, temporary, metadata={"config": json.dumps(config, sort_keys=True)})
        temporary.replace(path)
    except (SafetensorError, OSError) as exc:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"weights {path} cannot be written: {exc}") from exc


def load(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (floating-point ones as float32) and config of a checkpoint.

    Raises:
        CheckpointError: see `read_checkpoint`.
    """
    tensors, config = read_checkpoint(path, kind, "pt")
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, config


def save_detector(path: Path, detector: Detector, *, ranges: Tensor | None = None, half: bool = True) -> None:
    """Write a detector with its config, and the `ranges` of `models.quantize` if they were measured."""
    tensors = detector.state_dict() | ({} if ranges is None else {RANGES: ranges})
    save(path, tensors, detector.config.to_json(), half=half)


def load_ranges(path: Path) -> Tensor | None:
    """The ranges (layers, 2) that lie in a detector's weights, if any.

    Raises:
        CheckpointError: see `load`.
    """
    return load(path, "detector")[0].get(RANGES)


def load_detector(path: Path) -> Detector:
    """A detector in evaluation mode.

    Raises:
        CheckpointError: see `load`; also tensors that do not fit the config.
    """
    tensors, values = load(path, "detector")
    try:
        config = DetectorConfig.from_json(values)
        with torch.device("meta"):
            detector = Detector(config)
        detector.load_state_dict({k: v for k, v in tensors.items() if k != RANGES}, assign=True)
    except (TypeError, KeyError, RuntimeError, ValueError) as exc:
        said = " ".join(str(exc).split())[:200]
        raise CheckpointError(f"{path}: tensors and config do not fit: {said}") from exc
    return detector.eval()
