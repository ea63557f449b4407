"""Users without a home: caches, buckets and lakes are for them, too."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from models.files import CheckpointError, cache_folder, weights_path
from pipeline.errors import UsageError
from pipeline.lake.location import Location
from pipeline.s3 import delta_options
from pipeline.training_events import features_cache


@pytest.fixture(autouse=True)
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is a mere number."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("MAREY_CACHE", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)


def test_who_has_no_home_may_have_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no home for a cache: set MAREY_CACHE"):
        weights_path(f"https://127.0.0.1/w.safetensors#sha256={64 * '0'}")
    with pytest.raises(UsageError, match=r"set MAREY_CACHE.* or name a file with --cache"):
        features_cache("d")
    monkeypatch.setenv("MAREY_CACHE", "")
    with pytest.raises(CheckpointError, match="set MAREY_CACHE"):
        cache_folder("openvino")
    monkeypatch.setenv("MAREY_CACHE", str(tmp_path))
    assert cache_folder("openvino") == tmp_path / "openvino"
    assert features_cache("d") == tmp_path / "features" / "d.npz"


def test_who_has_no_home_has_buckets_and_lakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CONFIG_FILE", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "eu-west-1")
    assert delta_options("footage")["aws_region"] == "eu-west-1"
    assert str(Location.parse("~/lake")).endswith("/~/lake")
