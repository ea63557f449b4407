"""Fixtures and settings of all tests: random state is restored after each; an S3 server, places for lakes."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from tests.s3 import Server, moto_server

# How long an example takes depends on what else the machine does.
settings.register_profile("marey", deadline=None)
settings.load_profile("marey")


@pytest.fixture(autouse=True)
def _interruptible() -> None:
    """A shell that starts us in the background has SIGINT ignored, and other tests may have changed it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _random_state() -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()
    yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: tests share the cores, and threads that wait for each other spin meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """Moto's server, over HTTP."""
    with moto_server() as server:
        yield server


@pytest.fixture
def s3_server(moto: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, with settings such that this process and its children find it."""
    moto.use(monkeypatch.setenv)
    return moto


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a test's lake goes; a test that takes it runs on each kind of storage."""
    if request.param == "directory":
        return str(tmp_path / "lake")
    server: Server = request.getfixturevalue("s3_server")
    return f"s3://{server.bucket()}/lake"


@pytest.fixture
def home(tmp_path: Path) -> str:
    """Where the lake of a test is that runs on real S3 in tests/services only, since it takes its time."""
    return str(tmp_path)
