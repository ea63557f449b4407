"""The config as a flow's parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect import Flow

from flows.settings import Settings, read_settings
from flows.train import train_detector
from flows.watch import reconcile, watch
from pipeline import allowed
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


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"notify.webhook": "http://127.0.0.1:9/latest?key=word"}, "notify.webhook at 127.0.0.1 may not"),
        ({"notify": {"queue": "https://sqs.example/9/q"}}, "notify.queue at sqs.example may not"),
        ({"perceive.weights": "https://own.example/w.safetensors#sha256=ab"}, "https://own.example/w.s"),
        ({"track.weights": "/etc/own.safetensors"}, "/etc/own.safetensors may not be used here"),
    ],
)
def test_what_a_config_names_is_held_to_the_list(
    settings: Settings, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(allowed.VARIABLE, "s3://footage/ https://hooks.example/marey")
    with pytest.raises(UsageError) as refused:
        read_settings(settings)
    assert told in str(refused.value)
    assert "word" not in str(refused.value)
    config = read_settings({"notify.webhook": "https://hooks.example/marey/x", "perceive.weights": "default"})
    assert config.notify.webhook == "https://hooks.example/marey/x"


def test_what_the_workers_environment_names_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the choice of who runs the worker."""
    monkeypatch.setenv(allowed.VARIABLE, "s3://footage/")
    monkeypatch.setenv("MAREY_NOTIFY__WEBHOOK", "https://hooks.example/word")
    assert read_settings({"video.sample_fps": 3}).notify.webhook == "https://hooks.example/word"


@pytest.mark.parametrize(
    ("flow", "parameters", "named"),
    [
        (reconcile, {"source": "/in", "lake": "/out"}, "/out"),
        (watch, {"source": "/in", "lake": "/out", "queue": "/in"}, "/out"),
        (watch, {"source": "/in", "lake": "/in", "queue": "https://q.example/1/q"}, "https://q.example/1/q"),
        (train_detector, {"data": "/in", "images": "/in", "out": "/in", "start": "/out/w.pt"}, "/out/w.pt"),
    ],
)
def test_parameters_of_flows_are_held_to_the_list(
    flow: Flow[..., Any], parameters: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(allowed.VARIABLE, "/in")
    with pytest.raises(UsageError, match=f"^{named} may not be used here"):
        flow.fn(**parameters)
