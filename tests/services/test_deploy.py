"""What stands on the server after `marey deploy` and `marey watch` were given names of all kinds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client

from pipeline import allowed
from pipeline.errors import UsageError
from tests.cli.run import marey
from tests.helpers import ROOT

FILE = ROOT / "deploy" / "prefect.yaml"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with footage in it."""
    (tmp_path / "My Footage").mkdir()
    (tmp_path / "My Footage" / "gate.mp4").write_bytes(b"no video at all")
    (tmp_path / "other").mkdir()
    return tmp_path


def told(api: str, here: Path, folder: str, *arguments: object) -> str:
    """What a command prints, run in a folder below `here`."""
    done = marey(*arguments, cwd=here / folder, PREFECT_API_URL=api, PREFECT_HOME=str(here / "home"))
    assert done.returncode == 0, done.stderr
    return done.stdout


def on_the_server() -> tuple[dict[str, Any], str]:
    """Parameters of `reconcile`, and what runs are allowed."""
    client: Any
    with get_client(sync_client=True) as client:
        pool = client.read_work_pool("marey-cpu").base_job_template
        parameters = client.read_deployment_by_name("reconcile/marey").parameters
    return parameters, pool["job_configuration"]["env"][allowed.VARIABLE]


@pytest.mark.parametrize(
    ("source", "top"),
    [("My Footage", "My Footage"), ("*/gate*.mp4", "."), ("*.mp4", "."), ("../{}/other", "other")],
)
def test_relative_names_mean_the_same_in_the_folders_of_runs(
    prefect_api: str, here: Path, source: str, top: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source.format(here.name)
    told(prefect_api, here, ".", "deploy", "--file", FILE, "--source", source, "--lake", "lake")
    parameters, listed = on_the_server()
    wanted = os.path.normpath(here / source)
    assert parameters == {"source": wanted, "lake": str(here / "lake")}
    monkeypatch.chdir(here / "other")
    monkeypatch.setenv(allowed.VARIABLE, listed)
    allowed.check(wanted)
    allowed.check(str(here / top / "a.mp4"))
    allowed.check(str(here / "lake"))
    with pytest.raises(UsageError):
        allowed.check(str(here.parent / "a.mp4"))


def test_given_prefixes_are_absolute_too(prefect_api: str, here: Path) -> None:
    options = (
        "--file",
        FILE,
        "--source",
        "s3-like",
        "--lake",
        "lake",
        "--allow",
        "other",
        "--allow",
        "s3://a b/c",
    )
    (here / "s3-like").mkdir()
    told(prefect_api, here, ".", "deploy", *options)
    assert json.loads(on_the_server()[1]) == [str(here / "other"), "s3://a b/c"]


def test_runs_that_are_watched_for_are_given_absolute_names(prefect_api: str, here: Path) -> None:
    told(prefect_api, here, ".", "deploy", "--file", FILE, "--source", "My Footage", "--lake", "lake")
    told(prefect_api, here, "other", "watch", "../My Footage", "--lake", "../lake", "--once")
    client: Any
    with get_client(sync_client=True) as client:
        runs = [run.parameters for run in client.read_flow_runs()]
    assert {"video": str(here / "My Footage" / "gate.mp4"), "lake": str(here / "lake")} in runs


def test_orphans_as_json(prefect_api: str, here: Path) -> None:
    assert json.loads(told(prefect_api, here, ".", "doctor", "--runs", "--json")) == []
