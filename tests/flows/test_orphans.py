"""How long a run may be silent before its heartbeats are asked for; `tests/services` has the rest."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Pending, Running

from flows.orphans import lost
from flows.tags import PROCESS, began

NOBODY = "http://127.0.0.1:9/api"


def asks_the_server(run: FlowRun) -> bool:
    """Whether the server is asked for a run's heartbeats; else it must count as alive."""
    with SyncPrefectClient(NOBODY) as client:
        try:
            assert lost(client, run) == ""
        except httpx.ConnectError:
            return True
    return False


@pytest.mark.parametrize(
    ("state", "minutes", "asked"),
    [
        (Running, 2.9, False),
        (Running, 3.1, True),
        (Pending, 14.9, False),  # a pod that waits for its machine
        (Pending, 15.1, True),
    ],
)
def test_patience_depends_on_whether_a_run_has_begun(
    state: Callable[[], State], minutes: float, asked: bool
) -> None:
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    run = FlowRun(flow_id=uuid4(), state=state().model_copy(update={"timestamp": since}))
    assert asks_the_server(run) == asked


@pytest.mark.parametrize(("since", "asked"), [(began(os.getpid()), False), ("", True)], ids=["tells", ""])
def test_heartbeats_count_where_the_system_does_not_tell_when_a_process_began(
    since: str, asked: bool
) -> None:
    """As on macOS: a run whose process was killed there was alive for good, and its video in work."""
    tag = f"{PROCESS}{socket.gethostname()}:{os.getpid()}:{since}"
    silent = Running(timestamp=datetime.now(UTC) - timedelta(minutes=5))
    run = FlowRun(flow_id=uuid4(), state=silent, tags=[tag])
    assert asks_the_server(run) == asked
