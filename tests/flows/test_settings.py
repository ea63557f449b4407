"""The config as a flow's parameter."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.settings import Settings, read_settings
from pipeline.config import load
from pipeline.errors import UsageError


def test_nothing_is_the_default() -> None:
    assert read_settings(None) == read_settings({}) == load()


def test_tables_and_dotted_keys() -> None:
    config = read_settings({"video": {"sample_fps": 3}, "video.max_streams": 9, "rules": []})
    assert (config.video.sample_fps, config.video.max_streams, config.rules) == (3, 9, ())
    assert config.video.stall_s == load().video.stall_s


def test_parameters_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAREY_VIDEO__SAMPLE_FPS", "7")
    assert read_settings(None).video.sample_fps == 7
    assert read_settings({"video.sample_fps": 3}).video.sample_fps == 3


def test_file(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("[video]\nsample_fps = 4\n")
    assert read_settings(str(tmp_path / "site.toml")).video.sample_fps == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vidio.sample_fps": 3}, "parameter config: unknown key 'vidio'"),
        ({"vidio": {"sample_fps": 3}}, "parameter config: unknown key 'vidio'"),
        ({"video.sample": 3}, "parameter config: unknown key 'video.sample'"),
        ({"video.sample_fps.x": 3}, "parameter config: video.sample_fps: "),
        ({"video": 3}, "parameter config: video = 3: "),
        ({"rules.0.name": "gate"}, "parameter config: rules: "),
        ({"": 3}, "parameter config: unknown key ''"),
        ("gone.toml", "config gone.toml cannot be read: No such file"),
    ],
)
def test_refusals(settings: Settings, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_settings(settings)
    assert str(refused.value).startswith(message)
