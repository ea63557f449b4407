"""What stands on the server after `marey deploy` and `marey watch` were given names of all kinds."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Failed, Running

from flows import submit
from flows.maintain import compact
from flows.settings import read_settings
from flows.submit import Submitted, live_runs, submit_shards
from flows.tags import PROCESS, TAG
from pipeline import allowed
from pipeline.errors import UsageError
from pipeline.sources import Source
from pipeline.uploads import Todo
from tests.cli.run import marey
from tests.helpers import ROOT
from tests.services.rest import post
from tests.services.server import prefect_server

FILE = ROOT / "deploy" / "prefect.yaml"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of our own: other tests want theirs without deployments."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with footage in it."""
    (tmp_path / "My Footage").mkdir()
    (tmp_path / "My Footage" / "gate.mp4").write_bytes(b"no video at all")
    (tmp_path / "other").mkdir()
    return tmp_path


def told(api: str, here: Path, folder: str, *arguments: object, code: int = 0) -> str:
    """What a command prints, run in a folder below `here`."""
    done = marey(*arguments, cwd=here / folder, PREFECT_API_URL=api, PREFECT_HOME=str(here / "home"))
    assert done.returncode == code, done.stderr
    return done.stdout


def on_the_server(api: str) -> tuple[dict[str, Any], str]:
    """Parameters of `reconcile`, and what runs are allowed."""
    with SyncPrefectClient(api) as client:
        pool = client.read_work_pool("marey-cpu").base_job_template
        parameters = client.read_deployment_by_name("reconcile/marey").parameters
    return parameters, pool["job_configuration"]["env"][allowed.VARIABLE]


@pytest.mark.parametrize(
    ("source", "top"),
    [("My Footage", "My Footage"), ("*/gate*.mp4", "."), ("*.mp4", "."), ("../{}/other", "other")],
)
def test_relative_names_mean_the_same_in_the_folders_of_runs(
    api: str, here: Path, source: str, top: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source.format(here.name)
    told(api, here, ".", "deploy", "--file", FILE, "--source", source, "--lake", "lake")
    parameters, listed = on_the_server(api)
    wanted = os.path.normpath(here / source)
    assert parameters == {"source": wanted, "lake": str(here / "lake")}
    monkeypatch.chdir(here / "other")
    monkeypatch.setenv(allowed.VARIABLE, listed)
    allowed.check(wanted)
    allowed.check(str(here / top / "a.mp4"))
    allowed.check(str(here / "lake"))
    with pytest.raises(UsageError):
        allowed.check(str(here.parent / "a.mp4"))


def test_given_prefixes_are_absolute_too(api: str, here: Path) -> None:
    options = ("--file", FILE, "--source", "s3-like", "--lake", "lake")
    allow = ("--allow", "other", "--allow", "s3://a b/c")
    (here / "s3-like").mkdir()
    told(api, here, ".", "deploy", *options, *allow)
    assert json.loads(on_the_server(api)[1]) == [str(here / "other"), "s3://a b/c"]


def test_what_the_config_names_is_allowed_and_no_secret_told(
    api: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool lies on the server for all to read who may ask it."""
    weights = f"https://own.example/w.safetensors?X-Amz-Signature=hunter2#sha256={64 * '0'}"
    notify = '[notify]\nwebhook = "https://hooks.example/T/hunter2"\n'
    (here / "site.toml").write_text(f'{notify}[perceive]\nweights = "{weights}"\n')
    (here / "other.toml").write_text(notify.replace("hunter2", "hunter3"))
    options = ("--file", FILE, "--source", here, "--lake", "lake", "--config", "site.toml")
    told(api, here, ".", "deploy", *options)
    with SyncPrefectClient(api) as client:
        assert "hunter2" not in client.read_work_pool("marey-cpu").model_dump_json()
    monkeypatch.setenv(allowed.VARIABLE, on_the_server(api)[1])
    assert read_settings(str(here / "site.toml")).notify.webhook.endswith("hunter2")
    with pytest.raises(UsageError, match=r"^notify\.webhook at hooks\.example may not be used here"):
        read_settings(str(here / "other.toml"))


def test_runs_that_are_watched_for_are_given_absolute_names(api: str, here: Path) -> None:
    told(api, here, ".", "deploy", "--file", FILE, "--source", "My Footage", "--lake", "lake")
    told(api, here, "other", "watch", "../My Footage", "--lake", "../lake", "--once")
    with SyncPrefectClient(api) as client:
        runs = [run.parameters for run in client.read_flow_runs()]
    assert {"video": str(here / "My Footage" / "gate.mp4"), "lake": str(here / "lake")} in runs


def test_what_the_file_no_longer_holds_is_named(api: str, here: Path) -> None:
    """Its schedule goes on, which nobody expects who took it out of the file."""
    options = ("--source", "other", "--lake", "lake")
    told(api, here, ".", "deploy", "--file", FILE, *options)
    text = FILE.read_text(encoding="utf-8")
    begin = text.index("  - entrypoint: flows.maintain.compact")
    shorter = here / "shorter.yaml"
    shorter.write_text(text[:begin] + text[text.index("  - entrypoint: flows.maintain.reinterpret") :])
    for again in range(2):
        lines = told(api, here, ".", "deploy", "--file", shorter, *options).splitlines()
        [line] = [line for line in lines if line.split()[1] == "kept"]
        assert line.split()[2] == "compact", again
        assert "`prefect deployment delete compact/marey` removes it" in line
    assert " kept " not in told(api, here, ".", "deploy", "--file", FILE, *options)


@pytest.mark.parametrize(
    "variables",
    [
        {"env": {allowed.VARIABLE: "/ s3: https:", "PYTHONPATH": "/footage"}},
        {"env.PYTHONPATH": "/footage"},
        {"working_dir": "/footage"},
        {"command": "id"},
    ],
)
def test_who_submits_a_run_gives_it_no_environment(api: str, here: Path, variables: dict[str, Any]) -> None:
    """Workers would lay it over what the pool fixes, or start in a folder that holds a package `flows`."""
    told(api, here, ".", "deploy", "--file", FILE, "--source", "My Footage", "--lake", "lake")
    with SyncPrefectClient(api) as client:
        deployment = client.read_deployment_by_name("analyze-video/marey").id
        path, parameters = f"/deployments/{deployment}/create_flow_run", {"video": str(here / "a.mp4")}
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(api, path, {"parameters": parameters, "job_variables": variables})
        with refused.value as answer:
            assert answer.code == 422
            assert "Additional properties are not allowed" in answer.read().decode()
        run = post(api, path, {"parameters": parameters})
        client.delete_flow_run(UUID(run["id"]))


class Tomorrow(datetime):
    """A clock that is a day ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(days=1)


def test_runs_that_end_without_a_word_are_made_daily(
    api: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted apart from what was submitted, and not given up for ever."""
    told(api, here, ".", "deploy", "--file", FILE, "--source", "My Footage", "--lake", "lake")
    uri = str(here / "a.mp4")
    todo = [Todo(Source(uri, None, 10, datetime.now(UTC), "e"), f"marey-{here}")]

    def submitted() -> Submitted:
        with temporary_settings({PREFECT_API_URL: api}):
            found = submit_shards(todo, str(here / "lake"), 16)
        with SyncPrefectClient(api) as client:
            for run in live_runs(client):
                if run.parameters.get("inputs") == [uri]:
                    client.set_flow_run_state(run.id, Failed(), force=True)
        return found

    once, left = Submitted(1, ()), Submitted(0, (uri,))
    assert [submitted() for _ in range(23)] == 21 * [once] + 2 * [left]
    monkeypatch.setattr(submit, "datetime", Tomorrow)
    assert [submitted(), submitted()] == [once, left]


def test_orphans_as_json(api: str, here: Path) -> None:
    assert json.loads(told(api, here, ".", "doctor", "--runs", "--json")) == []
    gone = f"{PROCESS}{socket.gethostname()}:{os.getpid()}:0"  # of another that had this number before
    with SyncPrefectClient(api) as client:
        run = client.create_flow_run(compact, tags=[TAG, gone], name="lost", state=Running())
    asked = ("doctor", "--runs", "--json")
    [found] = json.loads(told(api, here, ".", *asked, code=1))
    assert found == {"id": str(run.id), "name": "lost", "why": f"its {gone} is gone"}
    assert len(json.loads(told(api, here, ".", *asked, "--free"))) == 1
    assert json.loads(told(api, here, ".", *asked)) == []
