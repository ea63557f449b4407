"""Ids: what enters each, what does not, and their shape."""

from __future__ import annotations

import hashlib
import json
import re
import typing
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline import ids
from pipeline.config import Config, Rule, load

HEX = re.compile(r"[0-9a-f]{32}")
RULE = {
    "name": "gate",
    "kind": "dwell",
    "cameras": "gate*",
    "classes": ["car"],
    "line": [[0.1, 0.1], [0.9, 0.9]],
    "zone": [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]],
    "min_duration_s": 2.0,
}
ALL = {"perception", "tracking", "analysis"}
DOWNSTREAM = {"video": ALL, "perceive": ALL, "track": {"tracking", "analysis"}, "events": {"analysis"}}
BY_DIGEST = {("perceive", "weights"), ("perceive", "detector"), ("track", "weights"), ("events", "models")}


def all_ids(config: Config, weights: str = "w", motion: str = "m", model: str = "e") -> dict[str, str]:
    perception = ids.perception_id("c" * 32, config, {"detector": weights})
    tracking = ids.tracking_id(perception, config, {"motion": motion})
    analysis = ids.analysis_id(tracking, config, {"fight": model}, "gate 1")
    return {
        "perception": perception,
        "tracking": tracking,
        "analysis": analysis,
        "config": ids.config_id(config),
    }


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def flipped(model: type[BaseModel], name: str, value: Any) -> Any:
    """Another value that the field allows."""
    field = model.model_fields[name]
    if typing.get_origin(field.annotation) is typing.Literal:
        return next(other for other in typing.get_args(field.annotation) if other != value)
    special = {"cameras": "*", "models": ["smoking"], "classes": ["bus"], "timezone": "Europe/Berlin"}
    if name in special and special[name] != value:
        return special[name]
    if name in ("line", "zone"):
        return [[0.2, 0.1], *value[1:]]
    if isinstance(value, list):
        return [*value, "x"]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 32
    if isinstance(value, float):
        return value / 2 if value else 1.0
    return f"{value}x"


def leaves() -> Iterator[tuple[str, str, type[BaseModel]]]:
    for section, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name in kind.model_fields:
                yield section, name, kind


@pytest.mark.parametrize(
    ("section", "name", "kind"), list(leaves()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_field_changes_its_ids_and_those_downstream(section: str, name: str, kind: type[BaseModel]) -> None:
    before = Config(rules=[RULE])
    values = {name: getattr(before, name) for name in Config.model_fields}
    values |= {name: v.model_dump(mode="json") for name, v in values.items() if isinstance(v, BaseModel)}
    values[section][name] = flipped(kind, name, values[section][name])
    after = Config(**values)
    assert after != before
    extra = kind.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    expected: set[str] = set()
    if extra["changes"] == "result":
        expected = {"config"} | (set() if (section, name) in BY_DIGEST else DOWNSTREAM[section])
    assert changed(all_ids(before), all_ids(after)) == expected


@pytest.mark.parametrize("name", list(Rule.model_fields))
def test_a_field_of_a_matching_rule_changes_the_analysis_only(name: str) -> None:
    before = Config(rules=[RULE])
    rule = before.model_dump(mode="json")["rules"][0]
    after = Config(rules=[{**rule, name: flipped(Rule, name, rule[name])}])
    assert after != before
    expected = {"config"} if name == "cameras" else {"analysis", "config"}
    assert changed(all_ids(before), all_ids(after)) == expected


def test_only_rules_of_the_camera_enter_in_any_order() -> None:
    other = {**RULE, "name": "elsewhere", "cameras": "yard"}
    second = {**RULE, "name": "second"}
    alone, more = all_ids(Config(rules=[RULE])), all_ids(Config(rules=[RULE, other]))
    assert changed(alone, more) == {"config"}
    assert changed(alone, all_ids(Config(rules=[RULE, second]))) == {"analysis", "config"}
    there, back = all_ids(Config(rules=[RULE, second])), all_ids(Config(rules=[second, RULE]))
    assert there["analysis"] == back["analysis"]


def test_camera_patterns_enter_no_id_but_the_config() -> None:
    for pattern in ({"pattern": "{camera}"}, {"timezone": "Europe/Berlin"}):
        assert changed(all_ids(Config()), all_ids(Config(cameras=[pattern]))) == {"config"}


def test_weights_enter_by_digest() -> None:
    config = Config()
    before = all_ids(config)
    assert changed(before, all_ids(config, weights="other")) == ALL
    assert changed(before, all_ids(config, motion="other")) == {"tracking", "analysis"}
    assert changed(before, all_ids(config, model="other")) == {"analysis"}


@pytest.mark.parametrize(
    ("constant", "expected"),
    [
        ("PERCEPTION_VERSION", ALL),
        ("TRACKING_VERSION", {"tracking", "analysis"}),
        ("EVENTS_VERSION", {"analysis"}),
    ],
)
def test_a_version_changes_its_stage(
    monkeypatch: pytest.MonkeyPatch, constant: str, expected: set[str]
) -> None:
    before = all_ids(Config())
    monkeypatch.setattr(ids, constant, getattr(ids, constant) + 1)
    assert changed(before, all_ids(Config())) == expected


def test_the_version_of_still_scenes_counts_only_where_they_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, saving = load(None, {}), load(None, {"perceive.still_threshold": 2.0})
    before = all_ids(plain), all_ids(saving)
    monkeypatch.setattr(ids, "STILL_VERSION", ids.STILL_VERSION + 1)
    assert all_ids(plain) == before[0]
    assert changed(before[1], all_ids(saving)) == ALL


def test_digest_is_sha256_of_canonical_json() -> None:
    text = json.dumps(["a", {"x": 1, "y": [None, 0.5]}], separators=(",", ":"), sort_keys=True)
    assert ids.digest("a", {"y": [None, 0.5], "x": 1}) == hashlib.sha256(text.encode()).hexdigest()[:32]
    assert ids.digest("ab", "c") != ids.digest("a", "bc")
    assert ids.digest("Straße \udcff") != ids.digest("Straße")
    with pytest.raises(ValueError, match="not JSON compliant"):
        ids.digest(float("nan"))


def test_content_id_is_of_the_bytes(tmp_path: Path) -> None:
    for data in (b"", b"x" * (3 * 2**20 + 7)):
        file = tmp_path / "file"
        file.write_bytes(data)
        assert ids.content_id(file) == hashlib.sha256(data).hexdigest()[:32]


def test_video_id_is_of_content_camera_and_instant() -> None:
    at = datetime(2025, 3, 1, 22, 30, tzinfo=UTC)
    same = at.astimezone(timezone(timedelta(hours=5)))
    assert ids.video_id("c", "gate", at) == ids.video_id("c", "gate", same)
    others = {
        ids.video_id("c", "gate", at),
        ids.video_id("d", "gate", at),
        ids.video_id("c", None, at),
        ids.video_id("c", "gate", None),
        ids.video_id("c", "gate", at + timedelta(microseconds=1)),
    }
    assert len(others) == 5
    assert all(HEX.fullmatch(value) for value in others)
    with pytest.raises(ValueError, match="time zone"):
        ids.video_id("c", "gate", datetime(2025, 3, 1))


def test_run_ids_are_uuid7_and_rise_with_time() -> None:
    # The example of RFC 9562, appendix A.6: 0x017F22E279B0 is 2022-02-22 19:22:22 UTC.
    value = uuid.UUID(ids.new_run_id(0x017F22E279B0))
    assert str(value).startswith("017f22e2-79b0-7")
    assert value.variant == uuid.RFC_4122
    assert value.version == 7
    assert ids.new_run_id(1) < ids.new_run_id(2)
    assert len({ids.new_run_id(1) for _ in range(1000)}) == 1000
