"""Ids: digests of all that can change a result and of nothing else, and the ids of runs.

    content_id ── video_id        what was recorded, by which camera, when
        │
    perception_id ── tracking_id ── analysis_id

Each id of the second line holds the one before it, so a change reaches all that lies downstream and nothing
upstream. Of the config only fields marked *result* enter, each in the id of its own section. Names of weights
and models do not: their digests do, given by the caller. Patterns of `cameras` enter through `video_id`.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the lake's queries need digests and no config, which is slow to load
    from pydantic import BaseModel

    from pipeline.config import Config

PERCEPTION_VERSION = 5
TRACKING_VERSION = 7
EVENTS_VERSION = 9
STILL_VERSION = 2
"""Each is raised when the program gives other rows for the same input, config and weights. That of still
scenes is a part of the perception's where `still_threshold` is set."""

_LENGTH = 32

# These name files; what is in the files enters as a digest instead.
_BY_DIGEST = {"perceive": ("weights", "detector"), "track": ("weights",), "events": ("models",)}


def digest(*parts: Any) -> str:
    """SHA-256 over canonical JSON (sorted keys, no spaces, UTF-8), first 32 hex digits.

    Raises:
        TypeError: a part is not made of JSON's types.
        ValueError: a part holds a number that is not finite.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_LENGTH]


def content_id(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, first 32 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_LENGTH]


def video_id(content_id: str, camera: str | None, recorded_at: datetime | None) -> str:
    """Id of one content as recorded by one camera at one time.

    Raises:
        ValueError: `recorded_at` has no time zone.
    """
    if recorded_at is not None and recorded_at.tzinfo is None:
        raise ValueError(f"recorded_at needs a time zone, got {recorded_at!r}")
    at = None if recorded_at is None else recorded_at.astimezone(UTC).isoformat(timespec="microseconds")
    return digest("video", content_id, camera, at)


def perception_id(content_id: str, config: Config, weights: Mapping[str, str]) -> str:
    """Id of what the CNN says.

    Args:
        content_id: Digest of the file's bytes.
        config: Its sections `video` and `perceive` enter.
        weights: Role (encoder, detector) to digest of the weights.
    """
    settings = [_results(config, "video"), _results(config, "perceive")]
    version = [PERCEPTION_VERSION, STILL_VERSION] if config.perceive.still_threshold else PERCEPTION_VERSION
    # The None once stood for boxes from a file; without it every perception there is would have another id.
    return digest("perception", version, content_id, settings, dict(weights), None)


def tracking_id(perception_id: str, config: Config, weights: Mapping[str, str]) -> str:
    """Id of tracks and objects: section `track` and the digests of the motion weights by role."""
    return digest("tracking", TRACKING_VERSION, perception_id, _results(config, "track"), dict(weights))


def analysis_id(tracking_id: str, config: Config, models: Mapping[str, str], camera: str | None) -> str:
    """Id of events: section `events`, the event models' digests by name, and the rules for this camera.

    The order of rules does not matter, nor does the pattern by which a rule came to match.
    """
    rules = sorted(_rule_digest(rule) for rule in config.rules_for(camera))
    return digest("analysis", EVENTS_VERSION, tracking_id, _results(config, "events"), dict(models), rules)


def config_id(config: Config) -> str:
    """Id of the result fields of the whole tree: two configs that differ only in speed are one.

    Names of weights enter here, since a person looks a config up by what was written in it.
    """
    return digest("config", _marked(config))


def new_run_id(now_ms: int | None = None) -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix time in ms, then random bits."""
    ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    value = (ms & ((1 << 48) - 1)) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76  # version 7
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant of the RFC
    return str(uuid.UUID(int=value))


def _results(config: Config, section: str) -> dict[str, Any]:
    values = _marked(getattr(config, section))
    return {name: value for name, value in values.items() if name not in _BY_DIGEST.get(section, ())}


@lru_cache(maxsize=256)
def _rule_digest(rule: BaseModel) -> str:
    return digest(rule.model_dump(mode="json", exclude={"cameras"}))


@lru_cache(maxsize=256)  # a batch asks for the same sections once per video; nobody changes what it gets
def _marked(model: BaseModel) -> dict[str, Any]:
    """JSON values of the fields marked `result`, with those of nested sections."""
    from pydantic import BaseModel

    values = model.model_dump(mode="json")
    found: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        child = getattr(model, name)
        if isinstance(child, BaseModel):
            if marked := _marked(child):
                found[name] = marked
            continue
        extra = field.json_schema_extra
        if not isinstance(extra, dict) or extra.get("changes") not in ("result", "speed"):
            raise ValueError(f"config field {type(model).__name__}.{name} is marked neither result nor speed")
        if extra["changes"] == "result":
            found[name] = values[name]
    return found
