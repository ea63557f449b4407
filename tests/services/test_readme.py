"""deploy/README.md, from nothing to a scheduled pipeline in ten commands: all run exactly as printed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.services.media import write_clip

PATIENCE_S = 1800
"""Far more than it takes: a busy machine must not fail the test."""


def commands() -> list[str]:
    """The lines of the README's first block of commands."""
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^## One machine, ten commands\n.*?^```bash\n(.*?)^```", text, re.S | re.M)
    return str(block).splitlines()


def query_as_printed() -> str:
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    return re.findall(r"`(marey query '[^`]*)` has it", text)[0]


def curl_as_printed() -> str:
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^    curl .*\n.*$", text, re.M)[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files of the repository in a fresh folder, with this environment in the place of a new one.

    The environment is newer than what it is made from, so `make install` finds nothing to install.
    """
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    folder = tmp_path / "checkout"
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(folder / name, (0, 0))
    return folder


@contextlib.contextmanager
def shell(script: str, folder: Path) -> Iterator[str]:
    """Run a script in a shell; what it leaves in the background is ended. Gives what it printed."""
    dropped = ("PREFECT_", "MAREY_", "AWS_", "VIRTUAL_ENV", "PYTHON")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    output = folder.parent / "output"
    with output.open("w") as log:
        process = subprocess.Popen(
            ["bash", "-e", "-c", script],
            cwd=folder,
            env=env | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code = process.wait(PATIENCE_S)
        assert code == 0, output.read_text() + logs(folder)
        yield output.read_text()
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            time.sleep(3)


def logs(folder: Path) -> str:
    paths = sorted((folder / "site").glob("*.log"))
    return "".join(f"\n== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in paths)


def test_ten_commands(checkout: Path, tmp_path: Path) -> None:
    lines = commands()
    assert len(lines) == 10
    env = tmp_path / "env"
    with shell("\n".join([*lines, f"declare -px > {env}"]), checkout) as printed:
        assert "deployment  created   analyze-video" in printed
        assert "deployment  created   reconcile" in printed
        clip = tmp_path / "gate.mp4"
        write_clip(clip, 2.0, shade=60)
        shutil.copy(clip, checkout / "site" / "footage")
        frames = "marey query 'select count(*) as n from frames' --lake site/lake --format csv"
        end = time.monotonic() + PATIENCE_S
        while (found := asked(frames, env, checkout)).stdout.split() != ["n", "20"]:
            assert time.monotonic() < end, found.stdout + found.stderr + logs(checkout)
            time.sleep(3)
        assert asked(query_as_printed(), env, checkout).returncode == 0
        by_http = curl_as_printed().replace("s3://footage/uploads/a.mp4", f"{checkout}/site/footage/gate.mp4")
        [deployment] = re.findall(r"created   analyze-video  (\S+)", printed)
        done = asked(by_http.replace("/ID/", f"/{deployment}/"), env, checkout)
        assert json.loads(done.stdout)["state_type"] == "SCHEDULED", done.stderr
        url = "$PREFECT_API_URL/deployments/name/reconcile/marey"
        done = asked(f'curl --silent --user "$PREFECT_API_AUTH_STRING" "{url}"', env, checkout)
        [schedule] = json.loads(done.stdout)["schedules"]
        while not scheduled(env, checkout):
            assert time.monotonic() < end, logs(
                checkout
            )  # the server makes the runs of schedules ahead of their time
            time.sleep(3)
        assert (schedule["active"], schedule["schedule"]["cron"]) == (True, "7 * * * *")


def scheduled(env: Path, folder: Path) -> list[object]:
    """Runs that the server made of schedules."""
    body = '{"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}'
    url = '"$PREFECT_API_URL/flow_runs/filter"'
    done = asked(f"curl --silent --user \"$PREFECT_API_AUTH_STRING\" --json '{body}' {url}", env, folder)
    return [run for run in json.loads(done.stdout) if run["auto_scheduled"]]


def asked(command: str, env: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as in the shell of before."""
    script = f"source {env}; cd {folder}; {command}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
