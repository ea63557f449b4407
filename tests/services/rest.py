"""What a Prefect server says of its runs, over plain HTTP."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from prefect.client.schemas.objects import State

LAG_S = 30.0
"""States of tasks and logs travel to the server as events, a few seconds behind the work."""


def post(api: str, path: str, body: dict[str, Any]) -> Any:
    """The JSON answer to a POST."""
    request = urllib.request.Request(
        f"{api}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def flow_run(api: str, state: State[Any]) -> dict[str, Any]:
    """The flow run that ended in a state."""
    body = {"flow_runs": {"id": {"any_": [str(state.state_details.flow_run_id)]}}}
    return dict(post(api, "/flow_runs/filter", body)[0])


def task_runs(api: str, run: dict[str, Any]) -> list[dict[str, Any]]:
    """The task runs of a flow run, oldest first."""
    body = {"flow_runs": {"id": {"any_": [run["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
    return list(post(api, "/task_runs/filter", body))


def ended_task_runs(api: str, run: dict[str, Any]) -> list[dict[str, Any]]:
    """The same, as soon as the server knows the end of all."""

    def ended() -> list[dict[str, Any]]:
        runs = task_runs(api, run)
        return runs if all(task["end_time"] for task in runs) else []

    return list(wait_for(ended))


def artifacts(api: str, run: dict[str, Any]) -> dict[str, Any]:
    """Data of a flow run's artifacts by key."""
    found = post(api, "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    return {artifact["key"]: artifact["data"] for artifact in found}


def log_lines(api: str, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Level and message of a flow run's log lines, of its tasks too."""
    body = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "sort": "TIMESTAMP_ASC"}
    return list(post(api, "/logs/filter", body))


def wait_for(what: Callable[[], Any], lag_s: float = LAG_S) -> Any:
    """The first answer that is not empty, or the last."""
    deadline = time.monotonic() + lag_s
    while not (answer := what()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer
