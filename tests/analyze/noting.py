"""The command, noting which segments it begins to decode, has decoded and has finished.

    python -m tests.analyze.noting FILE COMMAND...

A line per moment goes to FILE at once, so that it is there whatever becomes of the process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.analyze.perception import VideoWork
from pipeline.cli import run as run_command

Segment = str
"""Name of the video's file, then its first tick."""

MOMENTS = {"begun": "begin", "decoded": "end", "finished": "close"}


def noted(moments: dict[str, set[Segment]], text: str) -> dict[str, set[Segment]]:
    """The segments of each moment, from what was noted; a line that a kill cut short is left out."""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            moment, _, segment = line.strip().partition(" ")
            moments[moment].add(segment)
    return moments


def read(file: Path) -> dict[str, set[Segment]]:
    """What one run noted."""
    return noted({moment: set() for moment in MOMENTS}, file.read_text() if file.exists() else "")


def noting(handle: int, moment: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The method, which notes its segment: at its begin the one that is begun, else at its end."""

    def call(work: VideoWork, first: int, *rest: Any) -> Any:
        line = f"{moment} {Path(work.plan.source.uri).name}:{first}\n".encode()
        if moment == "begun":
            os.write(handle, line)
        result = function(work, first, *rest)
        if moment != "begun":
            os.write(handle, line)
        return result

    return call


if __name__ == "__main__":
    to = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for name, method in MOMENTS.items():
        setattr(VideoWork, method, noting(to, name, getattr(VideoWork, method)))
    sys.exit(run_command(sys.argv[2:]))
