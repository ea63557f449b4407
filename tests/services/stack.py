"""What production consists of, all real: PostgreSQL, Prefect server with authentication, worker, S3, queue.

All listen on loopback addresses only.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from tests.s3 import Server, free_port, wait_for_port
from tests.services.packages import install

START_S = 1800.0
"""Far more than it takes the server to start, or a command, which is some 10 s on a free machine."""

FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

AUTH = "admin:planted-prefect-password"


def documented(variable: str) -> str:
    """The value that deploy/README.md gives a variable."""
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    return text.partition(f"{variable}=")[2].split()[0]


def _as_postgres(*command: object) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return [*(["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []), *map(str, command)]


def postgres_programs() -> Path:
    """Folder of PostgreSQL's programs, installed if missing; skips without, in CI it is a failure."""
    with suppress(subprocess.CalledProcessError, OSError):
        install({"psql": "postgresql"})
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        reason = "no PostgreSQL: apt-get install postgresql"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return programs[-1].parent


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of our own; gives the URL of its database for Prefect."""
    home = postgres_programs()
    folder = Path(tempfile.mkdtemp(prefix="marey-postgres-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    port, data = free_port(), folder / "data"
    subprocess.run(
        _as_postgres(home / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"),
        check=True,
        capture_output=True,
        cwd="/",
    )
    options = f"-F -p {port} -h 127.0.0.1 -k {data}"
    process = subprocess.Popen(
        _as_postgres(home / "postgres", "-D", data, *options.split()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        wait_for_port(port, process)
        yield f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres"
    finally:
        postmaster = int((data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGQUIT)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Stack:
    """The parts, and how to reach them."""

    folder: Path
    database: str
    s3: Server
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        """What the command, the watcher and the workers are given."""
        dropped = ("PREFECT_", "MAREY_", "AWS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return (
            kept
            | self.s3.settings
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PREFECT_HOME": str(self.folder / "home"),
                "PREFECT_API_URL": self.api,
                "PREFECT_API_AUTH_STRING": AUTH,
                "PREFECT_WORKER_QUERY_SECONDS": "1",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "DO_NOT_TRACK": "1",
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(ROOT),
            }
        )

    def start(self, name: str, *command: object, **env: str) -> None:
        """Start a part; its output is appended to its log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *map(str, command)],
                env=self.environment | env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a part by its process id."""
        process = self.processes.pop(name)
        process.send_signal(number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def start_server(self) -> None:
        """The Prefect server on PostgreSQL, with authentication; returns when it answers."""
        self.start(
            "server",
            *("prefect", "server", "start", "--no-ui", "--host", "127.0.0.1", "--port", self.port),
            PREFECT_API_DATABASE_CONNECTION_URL=self.database,
            PREFECT_SERVER_API_AUTH_STRING=AUTH,
            PREFECT_HOME=str(self.folder / "server-home"),
        )
        self.wait_until(lambda: self._answers(), "the Prefect server answers", START_S)

    def start_worker(self, name: str = "worker", pool: str = "marey-cpu", limit: int = 1, **env: str) -> None:
        """A process worker that has found its server: one that starts while it is away gives up."""
        log, options = self.folder / f"{name}.log", ("--pool", pool, "--name", name, "--limit", limit)
        starts = lambda: log.read_text().count("started!") if log.exists() else 0  # noqa: E731
        before = starts()
        self.start(name, "prefect", "worker", "start", *options, **env)
        self.wait_until(lambda: starts() > before, f"{name} is at work", START_S)

    def marey(self, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *map(str, arguments)],
            env=self.environment | env,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=START_S,
            check=False,
        )

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The server's JSON answer."""
        token = base64.b64encode(AUTH.encode()).decode()
        headers = {"content-type": "application/json", "authorization": f"Basic {token}"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.api}{path}", data, headers), timeout=START_S
        ) as answer:
            return json.load(answer)

    def runs(self, *states: str) -> list[dict[str, Any]]:
        """Flow runs, of all states or of some."""
        wanted = {"flow_runs": {"state": {"type": {"any_": list(states)}}}} if states else {}
        return list(self.ask("/flow_runs/filter", wanted | {"limit": 200}))

    def submit(self, flow: str, **parameters: Any) -> str:
        """A run of a flow's deployment; its id."""
        deployment = self.ask(f"/deployments/name/{flow}/marey")["id"]
        body = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
        return str(self.ask(f"/deployments/{deployment}/create_flow_run", body)["id"])

    def ended(self, run: str, seconds: float) -> dict[str, Any]:
        """The state in which a run ends."""

        def final() -> bool:
            return self.ask(f"/flow_runs/{run}")["state_type"] in FINAL

        self.wait_until(final, "the run ends", seconds)
        return dict(self.ask(f"/flow_runs/{run}")["state"])

    def idle(self) -> bool:
        """Whether no run is under way or due."""
        live = self.runs("PENDING", "RUNNING", "SCHEDULED")
        return not [run for run in live if not run["auto_scheduled"]]

    def wait_until(self, ready: Callable[[], Any], what: str, seconds: float = 120) -> None:
        """Return as soon as something is so.

        Raises:
            AssertionError: it is not within the time; the ends of the logs are told.
        """
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                logs = {
                    path.name: path.read_text(errors="replace")[-2500:] for path in self.folder.glob("*.log")
                }
                raise AssertionError(
                    f"not within {seconds:g} s: {what}\n" + "\n".join(map(str, logs.items()))
                )
            time.sleep(0.3)

    def _answers(self) -> bool:
        if self.processes["server"].poll() is not None:
            raise RuntimeError((self.folder / "server.log").read_text(errors="replace")[-3000:])
        try:
            return self.ask("/health") is True
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def production(folder: Path, s3: Server) -> Iterator[Stack]:
    """PostgreSQL and the Prefect server are up; the rest is started by the test."""
    with postgres() as database:
        stack = Stack(folder, database, s3)
        try:
            stack.start_server()
            yield stack
        finally:
            for name in list(stack.processes):
                stack.stop(name)
