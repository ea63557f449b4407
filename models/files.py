"""Weights files by name, and their digests. Importing this loads no torch."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


class CheckpointError(ValueError):
    """A weights file is missing, damaged, or of another kind than asked for."""


def weights_path(name: str) -> Path:
    """Path of weights given as a shipped name (`detector`, `motion`, `fight`, ...) or as a path."""
    shipped = re.fullmatch(r"[\w-]+", name) is not None
    return WEIGHTS / f"{name}.safetensors" if shipped else Path(name)


def file_digest(path: Path) -> str:
    """SHA-256 of a weights file, first 32 hex digits: what enters the ids of results."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    except OSError as exc:
        raise CheckpointError(f"weights {path} cannot be read: {exc.strerror}") from exc
