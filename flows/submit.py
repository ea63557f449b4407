"""Handing videos to the workers: runs of our deployments, each submitted once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound

from flows import report
from flows.server import DEPLOYMENT, server
from flows.tags import TAG
from pipeline.errors import UsageError
from pipeline.ids import digest
from pipeline.uploads import Todo

UPLOADS, BACKFILL = "uploads", "backfill"
"""Queues of the pool that analyses; uploads come first."""

SHARD_SIZE = 16
"""Videos per run of a backfill: what is reported, and tried again, together."""

_LARGE_BYTES = 512 << 20
"""A video from this size on is a run of its own, so that it may be perceived by several workers."""

_FEW = 4 * SHARD_SIZE
"""More that come at once are no uploads but an archive: a run for each would cost seconds for each."""

_SHARDS_KNOWN_S = 60.0
"""For which it is taken for known which videos shards have."""

_SKEW = timedelta(minutes=5)
"""By which clocks of servers may differ."""

_LIVE = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING)
_PAGE = 200
_LINKS = 20
"""Runs of one version of a name that may end without the end of an attempt in the lake before it gets one a
day only. More than `lake.max_attempts`, which is an end, too."""


@dataclass(frozen=True)
class Submitted:
    """How many videos runs were submitted for, and which were left alone: their runs keep ending unheard."""

    num_videos: int
    left_alone: tuple[str, ...]


def submit(
    client: SyncPrefectClient,
    flow: str | UUID,
    parameters: dict[str, Any],
    *,
    key: str,
    name: str,
    queue: str | None = None,
) -> FlowRun | None:
    """A run of a deployment: a new one, or the one under this key that has not ended.

    For a known key the server gives back the run that has it, even one that crashed. The lake says that the
    work is not done, so another run is made, under the next key; after so many that ended, one a day (UTC):
    what kept them from a word in the lake, as a full disk, may have gone.

    Args:
        client: of the server.
        flow: name of the flow, or the id of its deployment, which is else asked for.
        parameters: of the run.
        key: the first of its keys.
        name: of the run.
        queue: of the pool.

    Returns:
        The run; None if it is left alone until tomorrow.

    Raises:
        UsageError: the server has no such deployment, or no pool for it.
    """
    deployment = _deployment(client, flow) if isinstance(flow, str) else flow
    links = [key, *(f"{key}-{link}" for link in range(1, _LINKS)), f"{key}-{datetime.now(UTC).date()}"]
    for link in links:
        run = client.create_flow_run_from_deployment(
            deployment,
            parameters=parameters,
            idempotency_key=link,
            name=name,
            tags=[TAG],
            work_queue_name=queue,
        )
        if run.state is None or not run.state.is_final():
            return run
    return None


def check_deployment(flow_name: str) -> None:
    """Ask the server for a deployment.

    Raises:
        UsageError: it has none of that name, no pool for it, or no server is configured.
        TransientError: it cannot be reached.
    """
    with server() as client:
        _deployment(client, flow_name)


def _deployment(client: SyncPrefectClient, flow_name: str) -> UUID:
    full = f"{flow_name}/{DEPLOYMENT}"
    try:
        found = client.read_deployment_by_name(full)
    except ObjectNotFound as exc:
        raise UsageError(f"the Prefect server has no deployment {full}", remedy="run `marey deploy`") from exc
    if found.work_pool_name is None:  # runs would wait for ever
        raise UsageError(f"the Prefect server has no pool for {full}", remedy="run `marey deploy`")
    return found.id


class Uploads:
    """Submits videos as they arrive. Not for several threads.

    What shards have is asked for once in a while: of an archive they are thousands of runs, and uploads come
    every second. A video of a shard made since may get a run of its own, and finds its result there.
    """

    def __init__(self, lake: str) -> None:
        self._lake = lake
        self._in_shards: dict[str, datetime] = {}
        self._asked_at = -_SHARDS_KNOWN_S

    def submit(self, todo: Sequence[Todo]) -> None:
        """A run for each of a few videos; many, as when an archive is watched for the first time, in shards.

        Those that a shard has are left to it. A video that has a run of its own keeps it: they share a key.
        """
        if len(todo) > _FEW:
            submit_shards(todo, self._lake, SHARD_SIZE)
            self._asked_at = -_SHARDS_KNOWN_S
        elif todo:
            submit_videos(_free(todo, self._shards()), self._lake)

    def _shards(self) -> dict[str, datetime]:
        if time.monotonic() - self._asked_at >= _SHARDS_KNOWN_S:
            with server() as client:
                self._in_shards = in_work(client, "analyze-batch")
            self._asked_at = time.monotonic()
        return self._in_shards


def submit_videos(todo: Sequence[Todo], lake: str, queue: str = UPLOADS) -> list[str]:
    """A run for each video; returns those that were left alone."""
    if not todo:
        return []
    left: list[str] = []
    with server() as client:
        deployment = _deployment(client, "analyze-video")
        for item in todo:
            parameters, name = {"video": item.uri, "lake": lake}, report.named([item.uri])
            if submit(client, deployment, parameters, key=item.key, name=name, queue=queue) is None:
                left.append(item.uri)
    return left


def submit_shards(todo: Sequence[Todo], lake: str, shard_size: int) -> Submitted:
    """Runs for shards of videos that no run works on, large ones alone."""
    with server() as client:
        free = _free(todo, in_work(client))
    large = [item for item in free if item.source.size_bytes >= _LARGE_BYTES]
    small = [item for item in free if item.source.size_bytes < _LARGE_BYTES]
    left = submit_videos(large, lake, BACKFILL)
    with server() as client:
        deployment = _deployment(client, "analyze-batch")
        for start in range(0, len(small), shard_size):
            shard = small[start : start + shard_size]
            uris = [item.uri for item in shard]
            key, name = f"marey-{digest(sorted(item.key for item in shard))}", report.named(uris)
            parameters = {"inputs": uris, "lake": lake, "shard_size": shard_size}
            if submit(client, deployment, parameters, key=key, name=name, queue=BACKFILL) is None:
                left += uris
    return Submitted(len(free) - len(left), tuple(left))


def in_work(client: SyncPrefectClient, flow: str | None = None) -> dict[str, datetime]:
    """URIs of the videos that runs which have not ended were submitted for, and when the newest was.

    Args:
        client: of the server.
        flow: runs of this flow only.
    """
    uris: dict[str, datetime] = {}
    for run in live_runs(client, flow=flow):
        made = run.created or datetime.now(UTC)
        video, inputs = run.parameters.get("video"), run.parameters.get("inputs")
        for uri in [*([video] if video else ()), *(inputs if isinstance(inputs, list) else ())]:
            uris[str(uri)] = max(made, uris.get(str(uri), made))
    return uris


def _free(todo: Sequence[Todo], busy: Mapping[str, datetime]) -> list[Todo]:
    """The videos that no run has, or that changed since it was made: it may have read them before.

    A time of change that is still to come, of a camera whose clock is ahead, tells nothing.
    """
    to_come = datetime.now(UTC) + _SKEW
    return [
        item for item in todo if item.uri not in busy or busy[item.uri] < item.source.changed_at <= to_come
    ]


def live_runs(client: SyncPrefectClient, *types: StateType, flow: str | None = None) -> Iterator[FlowRun]:
    """Our runs that have not ended, or are in states of these types; of one flow, or of all."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types or _LIVE)))
    wanted = FlowRunFilter(state=state, tags=FlowRunFilterTags(all_=[TAG]))
    flows = FlowFilter(name=FlowFilterName(any_=[flow])) if flow else None
    offset = 0
    while True:
        page = client.read_flow_runs(flow_filter=flows, flow_run_filter=wanted, limit=_PAGE, offset=offset)
        yield from page
        if len(page) < _PAGE:
            return
        offset += _PAGE
