"""The config as a flow's parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.settings import read_settings
from pipeline.config import load
from pipeline.errors import UsageError


def test_nothing_is_the_default() -> None:
    assert read_settings(None) == read_settings({}) == load()


def test_tables_and_dotted_keys() -> None:
    config = read_settings({"video": {"sample_fps": 3}, "video.reader": "decord", "rules": []})
    assert (config.video.sample_fps, config.video.reader, config.rules) == (3, "decord", ())
    assert config.video.stall_s == load().video.stall_s


def test_file(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("[video]\nsample_fps = 4\n")
    assert read_settings(str(tmp_path / "site.toml")).video.sample_fps == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vidio.sample_fps": 3}, "config: unknown key 'vidio'"),
        ({"vidio": {"sample_fps": 3}}, "config: unknown key 'vidio'"),
        ({"video.sample": 3}, "config: unknown key 'video.sample'"),
        ({"video.sample_fps.x": 3}, "config: unknown key 'video.sample_fps.x'"),
        ({"video": 3}, "config: video = 3: "),
        ({"rules.0.name": "gate"}, "config: rules = {'0.name': 'gate'}: "),
        ({"": 3}, "config: unknown key ''"),
    ],
)
def test_refusals(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_settings(settings)
    assert str(refused.value).startswith(message)
