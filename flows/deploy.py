"""`marey deploy`: pools, queues, deployments, schedules and the automation for silent runs, onto the server.

Running it again changes nothing that is as the file says: each deployment and automation carries a digest of
what it was made from.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, DeploymentFilterTags
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from flows.server import DEPLOYMENT
from flows.spec import Definitions, DeploymentSpec, Pool, Spec, filled
from flows.tags import TAG
from pipeline.allowed import VARIABLE, setting
from pipeline.errors import UsageError
from pipeline.ids import digest

COMMAND = "python -m flows.engine"
AUTOMATION = "marey: silent runs are crashed"
_ENDS = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed")}
_HEARTBEAT = "prefect.flow-run.heartbeat"


@dataclass(frozen=True)
class Change:
    """What was, or with a dry run would be, done with one thing."""

    kind: str
    name: str
    state: str  # created, updated, unchanged, left out, kept
    note: str = ""


def deploy(
    client: SyncPrefectClient, spec: Spec, values: dict[str, Any], allow: list[str], *, dry_run: bool = False
) -> Iterator[Change]:
    """Bring the server to what the file says; yields each thing as it is done.

    Args:
        client: of the server.
        spec: the file.
        values: source, lake, config and queue, as far as they are given.
        allow: prefixes of URIs that runs may use.
        dry_run: only say.
    """
    for pool in spec.definitions.pools:
        yield _pool(client, pool, spec.definitions, allow, dry_run)
        yield from _queues(client, pool, spec.definitions, dry_run)
    named: set[str] = set()
    for deployment in spec.deployments:
        parameters = filled(deployment.parameters, values)
        if parameters is None:
            yield Change("deployment", _flow(deployment).name, "left out", "an option it needs is not given")
        else:
            named.add(_flow(deployment).name)
            yield _deployment(client, deployment, parameters, dry_run)
    yield from _others(client, named)
    yield _automation(client, spec.definitions.heartbeat_s, dry_run)


def template(definitions: Definitions, allow: list[str]) -> dict[str, Any]:
    """What a pool's worker starts for a run.

    Command, environment and folder are fixed: who may only submit runs cannot choose what these execute.
    """
    made = ProcessWorker.get_default_base_job_template()
    configuration, variables = made["job_configuration"], made["variables"]
    configuration |= {
        "command": COMMAND,
        "env": {
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(definitions.heartbeat_s),
            VARIABLE: setting(allow),
        },
    }
    del configuration["working_dir"]  # the command imports from there; without it each run gets a folder
    for name in ("command", "env", "working_dir"):
        del variables["properties"][name]
    # Workers lay a run's variables over the template, `env` even where it is no variable.
    variables["additionalProperties"] = False
    return dict(made)


def _pool(
    client: SyncPrefectClient, pool: Pool, definitions: Definitions, allow: list[str], dry_run: bool
) -> Change:
    try:
        found = client.read_work_pool(pool.name)
    except ObjectNotFound:
        found = None
    if found is not None and found.type != pool.type:
        raise UsageError(
            f"pool {pool.name} exists with type {found.type}", remedy="correct the file, or delete it"
        )
    wanted, limit = template(definitions, allow), pool.concurrency_limit
    if pool.type != "process":
        if found is None:
            remedy = "make it with its job template, see deploy/kubernetes/job.yaml"
            raise UsageError(f"there is no pool {pool.name} of type {pool.type}", remedy=remedy)
        wanted = found.base_job_template
    if found is None:
        if not dry_run:
            made = WorkPoolCreate(
                name=pool.name, type=pool.type, base_job_template=wanted, concurrency_limit=limit
            )
            client.create_work_pool(made)
        return Change("pool", pool.name, "created")
    note = "" if _is_closed(wanted) else "who submits a run may choose what it executes: close its template"
    if (found.base_job_template, found.concurrency_limit) == (wanted, limit):
        return Change("pool", pool.name, "unchanged", note)
    if not dry_run:
        client.update_work_pool(pool.name, WorkPoolUpdate(base_job_template=wanted, concurrency_limit=limit))
    return Change("pool", pool.name, "updated", note)


def _is_closed(template: dict[str, Any]) -> bool:
    """Whether a template, ours or one made by hand, refuses variables that it does not declare."""
    return (template.get("variables") or {}).get("additionalProperties") is False


def _queues(
    client: SyncPrefectClient, pool: Pool, definitions: Definitions, dry_run: bool
) -> Iterator[Change]:
    try:
        found = {queue.name: queue for queue in client.read_work_queues(pool.name)}
    except ObjectNotFound:  # in a dry run
        found = {}
    for queue in definitions.queues:
        name = f"{pool.name}/{queue.name}"
        if queue.name not in found:
            if not dry_run:
                client.create_work_queue(queue.name, priority=queue.priority, work_pool_name=pool.name)
            yield Change("queue", name, "created")
        elif _rank(found, queue.name, definitions) != queue.priority:
            if not dry_run:
                client.update_work_queue(found[queue.name].id, priority=queue.priority)
            yield Change("queue", name, "updated")
        else:
            yield Change("queue", name, "unchanged")


def _rank(found: dict[str, Any], name: str, definitions: Definitions) -> int:
    """A queue's place among ours: the server shifts the numbers of queues that get the same one."""
    ours = [queue.name for queue in definitions.queues if queue.name in found]
    order = sorted(ours, key=lambda other: found[other].priority)
    wanted = sorted(definitions.queues, key=lambda queue: queue.priority)
    return wanted[order.index(name)].priority if len(order) == len(wanted) else 0


def _flow(deployment: DeploymentSpec) -> Flow[..., Any]:
    module, _, name = deployment.entrypoint.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise UsageError(f"there is no flow {deployment.entrypoint}", remedy="correct the file") from exc
    if not isinstance(found, Flow):
        raise UsageError(f"{deployment.entrypoint} is not a flow", remedy="correct the file")
    return found


def _deployment(
    client: SyncPrefectClient, spec: DeploymentSpec, parameters: dict[str, Any], dry_run: bool
) -> Change:
    flow = _flow(spec)
    schema = parameter_schema(flow).model_dump_for_openapi()
    version = digest(spec.model_dump(mode="json"), parameters, schema)
    try:
        found = client.read_deployment_by_name(f"{flow.name}/{DEPLOYMENT}")
    except ObjectNotFound:
        found = None
    # A pool that was deleted since leaves its deployments without one.
    if found is not None and (found.version, found.work_pool_name) == (version, spec.work_pool.name):
        return Change("deployment", flow.name, "unchanged", str(found.id))
    made = None if dry_run else _create(client, flow, spec, parameters, schema, version)
    return Change("deployment", flow.name, "updated" if found else "created", str(made or ""))


def _create(
    client: SyncPrefectClient,
    flow: Flow[..., Any],
    spec: DeploymentSpec,
    parameters: dict[str, Any],
    schema: dict[str, Any],
    version: str,
) -> UUID:
    schedules = [
        DeploymentScheduleCreate(schedule=CronSchedule(cron=s.cron, timezone=s.timezone), active=True)
        for s in spec.schedules
    ]
    return client.create_deployment(
        flow_id=client.create_flow(flow),
        name=DEPLOYMENT,
        version=version,
        schedules=schedules,
        concurrency_limit=spec.concurrency_limit,
        parameters=parameters,
        description=flow.description,
        work_pool_name=spec.work_pool.name,
        work_queue_name=spec.work_pool.work_queue_name,
        tags=[TAG],
        entrypoint=spec.entrypoint,
        parameter_openapi_schema=schema,
        enforce_parameter_schema=True,
    )


def _others(client: SyncPrefectClient, named: set[str]) -> Iterator[Change]:
    """Deployments that were made from an earlier file or with other options: their schedules go on."""
    ours = DeploymentFilter(
        name=DeploymentFilterName(any_=[DEPLOYMENT]), tags=DeploymentFilterTags(all_=[TAG])
    )
    names = (
        client.read_flow(found.flow_id).name for found in client.read_deployments(deployment_filter=ours)
    )
    for name in sorted(set(names) - named):
        remedy = f"`prefect deployment delete {name}/{DEPLOYMENT}` removes it"
        yield Change("deployment", name, "kept", f"of an earlier call, with its schedules; {remedy}")


def _automation(client: SyncPrefectClient, heartbeat_s: int, dry_run: bool) -> Change:
    """A run whose heartbeat stays away is marked as crashed, which frees its slots.

    After the recipe in Prefect's documentation, "Detect zombie flows".
    """
    wanted = AutomationCore(
        name=AUTOMATION,
        description=f"made by marey deploy for heartbeats of {heartbeat_s} s",
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *_ENDS},
            for_each={"prefect.resource.id"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=3 * heartbeat_s),
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: its worker is taken for dead")
        ],
    )
    found = client.read_automations_by_name(AUTOMATION)
    if found and found[0].description == wanted.description:
        return Change("automation", AUTOMATION, "unchanged")
    if not dry_run:
        if found:
            client.update_automation(found[0].id, wanted)
        else:
            client.create_automation(wanted)
    return Change("automation", AUTOMATION, "updated" if found else "created")
