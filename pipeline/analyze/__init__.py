"""The main job: source -> segments -> perception -> tracking -> events -> commit.

Importing the package alone loads no network and no lake; its functions do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pipeline.analyze.outcome import Options, Reporter, Summary, VideoResult

if TYPE_CHECKING:
    from pipeline.analyze.job import analyze
    from pipeline.analyze.reinterpret import reinterpret

__all__ = ["Options", "Reporter", "Summary", "VideoResult", "analyze", "reinterpret"]

_HOME = {"analyze": "pipeline.analyze.job", "reinterpret": "pipeline.analyze.reinterpret"}


def __getattr__(name: str) -> object:
    """Load a function's module when it is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value  # a submodule of the same name must not stand in its way later
    return value
