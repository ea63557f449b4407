"""Tags of runs: ours, the lake's, and the process that a run is in."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import httpx
from prefect import get_client
from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from flows import report

TAG = "marey"

PROCESS = "process:"
"""Start of the tag that says where a run's process is: host, process id, and when that process began."""


def named_by(parameter: str) -> Callable[[], str]:
    """What names the runs of a flow: an input, or the first of several, that a parameter holds."""

    def name() -> str:
        given = flow_run.parameters[parameter]
        return report.named(given if isinstance(given, list) else [given])

    return name


def tag_process() -> None:
    """Tag the run that a worker started in this process with it; `marey doctor` finds out whether it lives.

    A server that is away at this moment will be met again by the run itself, whose error tells.
    """
    run = os.environ.get("PREFECT__FLOW_RUN_ID")
    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        if run is not None:
            tags = {tag for tag in client.read_flow_run(UUID(run)).tags if not tag.startswith(PROCESS)}
            tags.add(f"{PROCESS}{socket.gethostname()}:{os.getpid()}:{began(os.getpid())}")
            client.update_flow_run(UUID(run), tags=sorted(tags))


def tag_run(lake: str | None = None) -> None:
    """Tag this flow run, so that lists can be narrowed to marey's runs, or to those of a lake."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    tags = {*context.flow_run.tags, TAG, *([f"lake:{report.named([lake])}"] if lake else [])}
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, tags=sorted(tags))


def is_gone(tag: str) -> bool | None:
    """Whether the process that a tag names has ended; None if it is another machine's, or nobody can tell."""
    host, pid, since = tag.removeprefix(PROCESS).rsplit(":", 2)
    if not since or host != socket.gethostname():
        return None
    return began(int(pid)) != since


def began(pid: int) -> str:
    """When a process began, in ticks since the machine did, see proc(5), stat.

    Empty if there is no such process, and where the system does not tell (macOS).
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
