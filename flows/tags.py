"""Tags of runs: ours, the lake's, and the process that a run is in."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from prefect import get_client
from prefect.context import FlowRunContext

from flows import report

TAG = "marey"

PROCESS = "process:"
"""Start of the tag that says where a run's process is: host, process id, and when that process began."""


def tag_run(lake: str | None = None) -> None:
    """Tag this flow run, so that lists can be narrowed to marey's runs, or to those of a lake.

    A run that a worker started gets its process too, by which `marey doctor` finds out whether it lives.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    kept = {tag for tag in context.flow_run.tags if not tag.startswith(PROCESS)}
    tags = {*kept, TAG, *([f"lake:{report.named([lake])}"] if lake else [])}
    if context.flow_run.deployment_id is not None:
        tags.add(f"{PROCESS}{socket.gethostname()}:{os.getpid()}:{began(os.getpid())}")
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, tags=sorted(tags))


def is_gone(tag: str) -> bool | None:
    """Whether the process that a tag names has ended; None if it is another machine's."""
    host, pid, since = tag.removeprefix(PROCESS).rsplit(":", 2)
    return began(int(pid)) != since if host == socket.gethostname() else None


def began(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty if there is none. See proc(5), stat."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
