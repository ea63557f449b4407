"""S3 servers for tests, on loopback addresses, and what a client needs to find them."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import boto3
import urllib3
from botocore.config import Config

from pipeline import s3
from tests.helpers import ROOT
from tests.web import Quiet, serving


@dataclass(frozen=True)
class Server:
    """An endpoint and the keys to it."""

    endpoint: str
    key: str = "testkey00000000000"
    secret: str = "testsecret000000000000000000000000"
    _numbers: Iterator[int] = field(default_factory=itertools.count, compare=False, repr=False)

    @property
    def settings(self) -> dict[str, str]:
        """The standard AWS environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def use(self, set_variable: Callable[[str, str], None]) -> None:
        """Make this the server of this process and of those that it starts."""
        for name, value in self.settings.items():
            set_variable(name, value)
        s3.forget()

    def behind(self, endpoint: str) -> Server:
        """The same server as seen through a proxy."""
        return replace(self, endpoint=endpoint)

    def client(self) -> boto3.client:
        """A client of our own, which knows nothing of the program's settings."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(request_checksum_calculation="when_required"),
        )

    def bucket(self) -> str:
        """A new, empty bucket."""
        name = f"bucket-{os.getpid()}-{next(self._numbers)}"
        self.client().create_bucket(Bucket=name)
        return name


@contextmanager
def moto_server() -> Iterator[Server]:
    """Moto's server, which takes any secret.

    In a process of its own: deltalake does not let other threads run while it waits for an answer.
    """
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield Server(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Return as soon as something listens on a loopback port.

    Raises:
        RuntimeError: the process ended, or the time is over.
    """
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} does not listen on port {port}")


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def faulty(server: Server, seed: int, rate: float = 0.2) -> Iterator[Server]:
    """The server behind the proxy of `tests.faults`."""
    port = free_port()
    command = [sys.executable, "-m", "tests.faults", str(port), server.endpoint, str(seed), str(rate)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        wait_for_port(port, process)
        yield server.behind(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)


def num_requests(proxy: Server) -> int:
    """How many have come by the proxy of `tests.faults`."""
    with urllib.request.urlopen(f"{proxy.endpoint}/_faults") as answer:
        return int(sum(json.load(answer).values()))


@contextmanager
def refusing(server: Server, answers: Mapping[str, tuple[int, str]]) -> Iterator[Server]:
    """The server behind a proxy that answers by an error, its status and code, where a path holds a word."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            for word, (status, code) in answers.items():
                if word in self.path:
                    self.answer(
                        status, {}, f"<Error><Code>{code}</Code><Message>planned</Message></Error>".encode()
                    )
                    return
            url, body = (
                server.endpoint + self.path,
                self.rfile.read(int(self.headers.get("Content-Length", 0))),
            )
            with urllib3.PoolManager(retries=False) as pool:
                found = pool.request(
                    self.command, url, body=body, headers=dict(self.headers), decode_content=False
                )
            self.answer(found.status, dict(found.headers), found.data)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

        def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
                if name.lower() not in ("connection", "transfer-encoding", "server", "date"):
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    with serving(Handler) as address:
        yield server.behind(address)
