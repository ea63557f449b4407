"""Places for lakes: a directory, and a bucket of moto's server, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import Server, moto_server


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
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
