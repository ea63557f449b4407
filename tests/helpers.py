"""What several tests need: where the shared data lies, and tolerances."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

TIME_TOLERANCE_S = 0.002
"""Presentation times against ffprobe's, which prints microseconds of differently rounded time bases."""


def shared_path(*parts: str) -> Path:
    """Path inside the shared data folder.

    Skips the calling test where the folder is absent; in CI (`CI=true`) its absence is a failure.
    """
    base = Path(os.environ.get("MAREY_SHARED", ROOT.parent / "shared"))
    path = base.joinpath(*parts)
    if not path.exists():
        reason = f"shared data is not here: {path} (set MAREY_SHARED)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path
