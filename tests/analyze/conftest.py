"""Weights, clips and lakes that the tests of the main job share; they only read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.analyze import analyze
from pipeline.lake.staging import Segment, Staging
from tests.analyze.build import config, prepared


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds tiny.safetensors, stir.safetensors, long.mp4 and short.mp4."""
    return prepared(tmp_path_factory.getbasetemp() / "prepared")


@pytest.fixture(scope="session")
def whole(folder: Path) -> Path:
    """A lake with the long clip, taken in one segment."""
    lake = folder / "whole"
    summary = analyze([str(folder / "long.mp4")], str(lake), config(folder))
    assert [result.state for result in summary.results] == ["ok"]
    return lake


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Where a test's lake goes."""
    return tmp_path / "lake"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """First ticks of the staged segments that are read, as they are."""
    found: list[int] = []

    def get(self: Staging, first: int, last: int) -> Segment | None:
        found.append(first)
        return really(self, first, last)

    really = Staging.get
    monkeypatch.setattr(Staging, "get", get)
    return found
