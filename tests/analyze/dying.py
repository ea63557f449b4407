"""The command, killed at a chosen moment.

    python -m tests.analyze.dying MOMENT NUMBER before|after COMMAND...

Before or after the NUMBERth call of what MOMENT names, the whole process group gets SIGKILL. With NUMBER 0 it
lives, and says at the end, as JSON on standard error, how often each moment came.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from pipeline.analyze.interpret import EventFinder
from pipeline.analyze.run import Run
from pipeline.cli import run as run_command
from pipeline.lake.staging import Staging
from pipeline.lake.tables import Lake
from pipeline.perceive import Perceiver
from pipeline.track import Tracker

MOMENTS: dict[str, tuple[Any, str]] = {
    "item": (Run, "_take"),  # one that decoding gave
    "cnn": (Perceiver, "__call__"),
    "stage": (Staging, "put"),
    "clear": (Staging, "clear"),
    "track": (Tracker, "update"),
    "events": (EventFinder, "update"),
    "write": (Lake, "_write"),
}

calls: Counter[str] = Counter()


def die() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def watched(
    name: str, function: Callable[..., Any], moment: str, number: int, when: str
) -> Callable[..., Any]:
    """The function, deadly at its time."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        here = name == moment and calls[name] == number
        if here and when == "before":
            die()
        result = function(*args, **kwargs)
        if here:
            die()
        return result

    return call


def run(moment: str, number: int, when: str, command: list[str]) -> int:
    for name, (owner, attribute) in MOMENTS.items():
        setattr(owner, attribute, watched(name, getattr(owner, attribute), moment, number, when))
    code = run_command(command)
    sys.stderr.write(f"\n{json.dumps(calls)}\n")
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
