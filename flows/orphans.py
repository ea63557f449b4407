"""Runs whose process is gone: found, and freed by calling them crashed, which gives their slots back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.states import Crashed

from flows.submit import live_runs
from flows.tags import PROCESS, is_gone

SILENT = timedelta(minutes=3)
"""A run without heartbeat for so long has no process any more."""

PENDING = timedelta(minutes=15)
"""A run may be pending for so long: a pod waits until its machine is there and has its image."""


@dataclass(frozen=True)
class Orphan:
    """A run that the server takes for alive."""

    id: UUID
    name: str
    why: str


def orphans(client: SyncPrefectClient) -> list[Orphan]:
    """Our runs that are pending or running by the server's word, and have no process."""
    found: list[Orphan] = []
    for run in live_runs(client, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING):
        if why := lost(client, run):
            found.append(Orphan(run.id, run.name, why))
    return found


def free(client: SyncPrefectClient, found: list[Orphan]) -> None:
    """Say of them that they crashed. What they had staged stays; a reconcile submits their videos again."""
    for orphan in found:
        client.set_flow_run_state(orphan.id, Crashed(message=f"freed: {orphan.why}"), force=True)


def lost(client: SyncPrefectClient, run: FlowRun) -> str:
    """Why a run that has not ended is taken for one without a process; empty if it is not."""
    tag = next((tag for tag in run.tags if tag.startswith(PROCESS)), "")
    if tag and (gone := is_gone(tag)) is not None:
        return f"its {tag} is gone" if gone else ""
    since = run.state.timestamp if run.state is not None else run.created
    limit = PENDING if run.state is not None and run.state.is_pending() else SILENT
    if since is None or datetime.now(UTC) - since < limit or _heard(client, run):
        return ""
    return f"no sign of life for {int(limit.total_seconds())} s"


def _heard(client: SyncPrefectClient, run: FlowRun) -> bool:
    wanted = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
        occurred=EventOccurredFilter(since=datetime.now(UTC) - SILENT),
    )
    return bool(client.read_events(wanted, limit=1).events)
