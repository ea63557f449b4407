"""A lake with one short clip, and the config that filled it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.analyze import analyze
from tests.analyze.build import config, prepared
from tests.cli.run import write_config


@dataclass(frozen=True)
class Site:
    """What the tests of the command work on; they write to folders of their own."""

    video: Path
    toml: Path
    lake: Path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = prepared(tmp_path_factory.getbasetemp() / "prepared")
    here = tmp_path_factory.mktemp("site")
    settings = config(folder)
    analyze([str(folder / "short.mp4")], str(here / "lake"), settings)
    return Site(folder / "short.mp4", write_config(here / "site.toml", settings), here / "lake")
