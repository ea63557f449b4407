"""What is missing on a Prefect server that is there: each named in one line, with the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate

from tests.cli.run import is_one_line, marey
from tests.helpers import ROOT

FILE = ROOT / "deploy" / "prefect.yaml"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "footage").mkdir()
    (tmp_path / "footage" / "gate.mp4").write_bytes(b"no video at all")
    return tmp_path


def asked(here: Path, api: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return marey(*arguments, cwd=here, PREFECT_API_URL=api, PREFECT_HOME=str(here / "home"))


def deploy(here: Path, api: str, *more: object) -> subprocess.CompletedProcess[str]:
    options = ("--file", FILE, "--source", here / "footage", "--lake", here / "lake")
    return asked(here, api, "deploy", *options, *more)


def test_one_thing_after_the_other(prefect_api: str, here: Path) -> None:
    watch = ("watch", here / "footage", "--lake", here / "lake", "--once")
    done = asked(here, prefect_api, *watch)
    assert is_one_line(done), done.stderr
    told = "marey: the Prefect server has no deployment analyze-video/marey: run `marey deploy`\n"
    assert (done.returncode, done.stderr) == (2, told)

    client: Any
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="marey-cpu", type="docker"))
        done = deploy(here, prefect_api)
        assert is_one_line(done), done.stderr
        told = "marey: pool marey-cpu exists with type docker: correct the file, or delete it\n"
        assert (done.returncode, done.stderr) == (2, told)
        # A pool of another type than process is made by hand, and left as it is made.
        other = here / "prefect.yaml"
        other.write_text(FILE.read_text(encoding="utf-8").replace("type: process", "type: docker", 1))
        before = client.read_work_pool("marey-cpu").base_job_template
        done = deploy(here, prefect_api, "--file", other)
        assert done.returncode == 0, done.stderr
        assert "marey-cpu  who submits a run may choose what it executes: close its template" in done.stdout
        assert client.read_work_pool("marey-cpu").base_job_template == before
        client.delete_work_pool("marey-cpu")
        done = deploy(here, prefect_api, "--file", other)
        assert is_one_line(done), done.stderr
        assert done.stderr.startswith("marey: there is no pool marey-cpu of type docker: make it ")

        assert deploy(here, prefect_api).returncode == 0
        client.delete_work_pool("marey-cpu")
    done = asked(here, prefect_api, *watch)
    assert is_one_line(done), done.stderr
    told = "marey: the Prefect server has no pool for analyze-video/marey: run `marey deploy`\n"
    assert (done.returncode, done.stderr) == (2, told)
    done = deploy(here, prefect_api)  # makes what is missing, and binds the deployments to it again
    assert done.returncode == 0, done.stderr
    done = asked(here, prefect_api, *watch)
    assert done.returncode == 0, done.stderr


def test_no_server_of_prefect(here: Path) -> None:
    """Something else answers at that address."""
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
    process = subprocess.Popen(
        command, cwd=here, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().split("port ")[1].split()[0]
        done = deploy(here, f"http://127.0.0.1:{port}/api")
        assert is_one_line(done), done.stderr
        assert done.returncode in (2, 3)
        assert f"http://127.0.0.1:{port}/api" in done.stderr
    finally:
        process.kill()
        process.communicate()


def test_s3_server_is_away(here: Path) -> None:
    """It is tried for half a minute."""
    keys = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    options = ("--file", FILE, "--source", "s3://footage/up/", "--lake", here / "lake")
    env = keys | {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_HOME": str(here / "home")}
    done = marey("deploy", *options, cwd=here, **env)
    assert is_one_line(done), done.stderr
    assert done.returncode == 3
    assert done.stderr.startswith("marey: bucket footage: the server cannot be reached")
