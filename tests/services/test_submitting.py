"""Videos submitted to a real Prefect server again and again: each has one run that has not ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.states import Crashed, Running

from flows import submit as submitting
from flows.deploy import deploy
from flows.server import server
from flows.spec import read_spec
from flows.submit import SHARD_SIZE, Uploads, live_runs, submit
from pipeline.lake import Lake
from pipeline.lake.commit import Ending, commit, start_attempts
from pipeline.uploads import sweep_once
from tests.helpers import ROOT
from tests.lake.build import running
from tests.services.media import tiny_settings, write_clip, write_weights
from tests.services.rest import wait_for


class Place:
    """A folder that is listed as `marey watch --once` does, and the runs that came of it."""

    def __init__(self, top: Path) -> None:
        self.source, self.lake = top / "in", str(top / "lake")
        self.source.mkdir()
        values = {"source": str(self.source), "lake": self.lake, "queue": None, "config": None}
        with server() as client:
            list(deploy(client, read_spec(ROOT / "deploy" / "prefect.yaml"), values, [str(top)]))

    def put(self, number: int, data: bytes = b"no video") -> Path:
        path = self.source / f"{number}.mp4"
        path.write_bytes(data + bytes([number]))
        return path

    def sweep(self, num_videos: int | None = None) -> None:
        """Submit what is undone, or the first of it."""
        Uploads(self.lake).submit(sweep_once([str(self.source)], self.lake)[:num_videos])

    def live(self) -> dict[UUID, FlowRun]:
        """Runs that were submitted for videos; those that the server schedules are of other flows."""
        with server() as client:
            own = [run for run in live_runs(client) if run.parameters["lake"] == self.lake]
        return {run.id: run for run in own if {"video", "inputs"} & run.parameters.keys()}


@pytest.fixture
def place(prefect_api: str, tmp_path: Path) -> Place:
    return Place(tmp_path)


def set_state(run: UUID, state: Callable[[], object]) -> None:
    with server() as client:
        client.set_flow_run_state(run, state(), force=True)  # type: ignore[arg-type]


def test_a_video_at_work_gets_no_second_run(place: Place) -> None:
    video, lake = place.put(1), Lake.open(place.lake)
    place.sweep()
    [run] = place.live()
    set_state(run, Running)
    [attempt] = start_attempts(lake, [running("f" * 32, uri=str(video))])
    for _ in range(2):
        place.sweep()
    assert list(place.live()) == [run]

    # A run that died, and one that was interrupted, are followed by one each.
    set_state(run, Crashed)
    for _ in range(2):
        place.sweep()
    [other] = place.live()
    assert other != run
    commit(lake, [Ending(analysis=attempt.ended(status="abandoned", error_code="interrupted"))])
    set_state(other, Crashed)
    for _ in range(2):
        place.sweep()
    [third] = place.live()
    assert third not in (run, other)
    place.put(1, b"another version")
    place.sweep()
    assert len(place.live()) == 2


def test_what_a_shard_has_gets_no_run_of_its_own(place: Place) -> None:
    for number in range(5 * SHARD_SIZE):
        place.put(number)
    place.sweep()
    shards = place.live()
    assert len(shards) == 5
    place.sweep(3)  # as if the others were done
    assert place.live().keys() == shards.keys()
    os.utime(place.source / "0.mp4", times=(time.time() + 86_400,) * 2)  # a clock that is ahead tells nothing
    place.sweep(3)
    assert place.live().keys() == shards.keys()
    os.utime(place.put(0, b"another version"))  # the shard may have read it before
    place.sweep(3)
    [new] = place.live().keys() - shards.keys()
    assert place.live()[new].parameters["video"] == str(place.source / "0.mp4")


def test_the_deployment_is_asked_for_once_for_all_shards(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was half of the requests of a backfill."""
    asked, read = [], SyncPrefectClient.read_deployment_by_name

    def counted(self: SyncPrefectClient, name: str) -> DeploymentResponse:
        asked.append(name)
        return read(self, name)

    for number in range(5 * SHARD_SIZE):
        place.put(number)
    with monkeypatch.context() as patched:
        patched.setattr(SyncPrefectClient, "read_deployment_by_name", counted)
        place.sweep()
    assert asked == ["analyze-batch/marey"]
    assert len(place.live()) == 5


def test_what_shards_have_is_asked_for_once_in_a_while(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each upload all runs of an archive's shards were read: 63 pages of 12,500."""
    for number in range(5 * SHARD_SIZE):
        place.put(number)
    place.sweep()
    pages, read = [], SyncPrefectClient.read_flow_runs

    def counted(self: SyncPrefectClient, **asked: Any) -> list[FlowRun]:
        pages.append(asked["offset"])
        return read(self, **asked)

    items, uploads = sweep_once([str(place.source)], place.lake), Uploads(place.lake)
    with monkeypatch.context() as patched:
        patched.setattr(SyncPrefectClient, "read_flow_runs", counted)
        for item in items[:4]:
            uploads.submit([item])
        assert pages == [0]
        patched.setattr(submitting, "_SHARDS_KNOWN_S", 0.0)
        uploads.submit(items[:1])
        assert pages == [0, 0]
    assert len(place.live()) == 5


def test_a_run_that_is_ended_takes_its_ranges_back(place: Place, prefect_api: str, tmp_path: Path) -> None:
    """Else they hold up all uploads, for a video that nobody interprets."""
    write_clip(place.source / "long.mp4", 20.0, shade=60)
    write_weights(tmp_path / "tiny.safetensors")
    parameters = {
        "video": str(place.source / "long.mp4"),
        "lake": place.lake,
        "config": tiny_settings(tmp_path / "tiny.safetensors") | {"run.segment_s": 1.0},
        "range_segments": 1,
    }

    def ranges(*types: StateType) -> list[FlowRun]:
        with server() as client:
            found = live_runs(client, *types, flow="perceive-range")
            return [run for run in found if run.parameters["lake"] == place.lake]

    with server() as client:
        run = submit(client, "analyze-video", parameters, key=place.lake, name="long")
    assert run is not None
    names = {
        "PREFECT__FLOW_RUN_ID": str(run.id),
        "PREFECT_API_URL": prefect_api,
        "PREFECT_HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "flows.engine"]
    with subprocess.Popen(command, env=os.environ | names, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        assert wait_for(lambda: len(ranges(*StateType)) == 20, 600.0)
        process.send_signal(signal.SIGTERM)
    assert process.returncode
    assert ranges() == []
