"""The automation of `marey deploy`: a run whose process was killed is called crashed, its place is free."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from tests.s3 import Server
from tests.services.stack import Stack, production

SILENT_S = 90
"""Three heartbeats of deploy/prefect.yaml."""

SLOW_S = 600.0
"""What a busy machine may take besides."""

PATIENCE_S = 1800.0


@pytest.fixture
def stack(tmp_path: Path, moto: Server) -> Iterator[Stack]:
    with production(tmp_path, moto) as made:
        yield made


def started(stack: Stack, worker: str) -> str:
    """A run of `watch`, which goes on for an hour, when it is under way and its heart has been heard."""
    stack.start_worker(worker)
    run = stack.submit("watch")
    stack.wait_until(lambda: heartbeats(stack, run), "the heart of the run is heard", PATIENCE_S)
    return run


def heartbeats(stack: Stack, run: str) -> list[datetime]:
    """When the run's heart was heard."""
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
    }
    found = stack.ask("/events/filter", {"filter": wanted})["events"]
    return [datetime.fromisoformat(event["occurred"]) for event in found]


def test_a_killed_run_is_called_crashed(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.s3.use(monkeypatch.setenv)
    bucket = stack.s3.bucket()
    queue = boto3.client("sqs").create_queue(QueueName=bucket)["QueueUrl"]
    options = ("--source", f"s3://{bucket}/up/", "--lake", f"s3://{bucket}/lake", "--queue", queue)
    done = stack.marey("deploy", *options)
    assert done.returncode == 0, done.stderr

    run = started(stack, "first")
    children = psutil.Process(stack.processes["first"].pid).children(recursive=True)
    flows = [child for child in children if "flows.engine" in child.cmdline()]
    assert flows
    stack.stop("first", signal.SIGKILL)
    assert not psutil.wait_procs(flows, timeout=30)[1]

    def state() -> dict[str, Any]:
        return dict(stack.ask(f"/flow_runs/{run}")["state"])

    assert state()["type"] == "RUNNING"  # as the server believes
    stack.wait_until(lambda: state()["type"] != "RUNNING", "the automation fires", PATIENCE_S)
    found = state()
    assert (found["type"], found["message"]) == ("CRASHED", "no heartbeat: its worker is taken for dead")
    last = max(heartbeats(stack, run))
    silent_s = (datetime.fromisoformat(found["timestamp"]) - last).total_seconds()
    # The server looks at an automation once in the time of silence, so it may take that time twice.
    assert SILENT_S <= silent_s < 2 * SILENT_S + SLOW_S
    started(stack, "second")  # the deployment lets one run at a time: the place is free again
