"""deploy/prefect.yaml: what is to stand on the server, checked before anything is asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from prefect.client.schemas.schedules import CronSchedule
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipeline.errors import UsageError


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pool(_Model):
    """A work pool. One of another type than process is made by hand, with its own job template."""

    name: str
    type: str = "process"
    concurrency_limit: int = Field(ge=1)


class QueueSpec(_Model):
    """A queue of every pool; those of lower numbers come first."""

    name: str
    priority: int = Field(ge=1)


class Definitions(_Model):
    """What Prefect's own form of the file has no place for."""

    analysis: str
    pools: tuple[Pool, ...]
    queues: tuple[QueueSpec, ...]
    heartbeat_s: int = Field(ge=30)


class WorkPoolRef(_Model):
    """Where a deployment's runs go."""

    name: str
    work_queue_name: str


class Schedule(_Model):
    """When a deployment runs."""

    cron: str
    timezone: str = "UTC"

    @field_validator("cron", "timezone")
    @classmethod
    def _as_prefect_takes_it(cls, value: str, info: ValidationInfo) -> str:
        try:
            CronSchedule.model_validate({"cron": "* * * * *", str(info.field_name): value})
        except ValidationError as exc:
            why = exc.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise PydanticCustomError("schedule", "{why}", {"why": why}) from exc
        return value


class DeploymentSpec(_Model):
    """A deployment; `entrypoint` is the dotted name of its flow."""

    entrypoint: str
    work_pool: WorkPoolRef
    parameters: dict[str, Any] = {}
    schedules: tuple[Schedule, ...] = ()
    concurrency_limit: int | None = Field(None, ge=1)


class Spec(_Model):
    """The whole file."""

    name: str
    definitions: Definitions
    deployments: tuple[DeploymentSpec, ...]


def read_spec(path: Path) -> Spec:
    """The file, checked.

    Raises:
        UsageError: it cannot be read, is not YAML, or says what we do not know; the first place is named.
    """
    try:
        spec = Spec.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise UsageError(f"{path} cannot be read", remedy=exc.strerror or str(exc)) from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} is not YAML", remedy=str(exc)) from exc
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{path}: {place}", got=first["input"], remedy=first["msg"]) from exc
    _check(path, spec)
    return spec


def _check(path: Path, spec: Spec) -> None:
    pools = {pool.name for pool in spec.definitions.pools}
    queues = {queue.name for queue in spec.definitions.queues}
    for deployment in spec.deployments:
        used = deployment.work_pool
        if used.name not in pools or used.work_queue_name not in queues:
            what = f"{path}: {deployment.entrypoint} uses pool {used.name}, queue {used.work_queue_name}"
            raise UsageError(what, remedy="name both under `definitions`")


def filled(parameters: dict[str, Any], values: dict[str, Any]) -> dict[str, Any] | None:
    """Parameters with `{name}` replaced; None if one is not given. A `config` may be left out."""
    found: dict[str, Any] = {}
    for key, value in parameters.items():
        name = value[1:-1] if isinstance(value, str) and value[:1] == "{" and value[-1:] == "}" else None
        if name is None:
            found[key] = value
        elif values.get(name) is not None:
            found[key] = values[name]
        elif name != "config":
            return None
    return found
