"""How many cores this process may use: in a container mostly fewer than the machine has."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def usable_cores() -> int:
    """Cores that this process is bound to, or fewer where its control groups grant it less time (Linux).

    Threads for all 64 cores of a machine, in a container that is granted two, take turns on those two, and
    all stand still when the time is used up.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = granted_cores(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, math.ceil(min(bound, granted)))


def granted_cores(groups: Path, mounted: Path) -> float:
    """The least that the control groups of a process, and those around them, grant; infinite without a bound.

    `groups` lists them, as /proc/self/cgroup does; `mounted` is where their files are. A container sees its
    own group at the top there, whatever the list calls it.
    """
    least = math.inf
    for line in _read(groups).splitlines():
        _, kinds, name = line.split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        top = mounted / kinds
        inner = top / name.lstrip("/")
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(top):
                break
            least = min(least, _quota(folder))
    return least


def _quota(folder: Path) -> float:
    """Seconds of processors per second that a group is granted, by control groups v2 or v1."""
    grant = _read(folder / "cpu.max").split()
    if not grant:
        grant = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    with suppress(ValueError, ZeroDivisionError):  # "max", or no such file
        if (quota := int(grant[0])) > 0:  # -1 is without a bound, too
            return quota / int(grant[1])
    return math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
