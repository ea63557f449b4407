"""Runs one flow run, as `python -m prefect.engine` does, in a process that dies with its worker.

A process worker that is killed leaves its flows' processes running (issue 17415 of Prefect's repository).
They would work on beside the worker that comes in its place, two on one GPU.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

from flows.tags import tag_process

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however it ends (Linux)."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    die_with_parent()
    tag_process()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
