"""Real servers for the tests of this folder. Prefect 3.8.8 gives no warnings, so none are filtered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.s3 import Server
from tests.services.browser import axe_source, chromium
from tests.services.ceph import ceph_server
from tests.services.server import prefect_server


@pytest.fixture(scope="session")
def ceph() -> Iterator[Server]:
    """A real S3 server of our own."""
    with ceph_server() as server:
        yield server


@pytest.fixture
def s3_server(ceph: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The same, with settings such that this process and its children find it."""
    ceph.use(monkeypatch.setenv)
    return ceph


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core."""
    return axe_source(tmp_path_factory.mktemp("axe"))


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a Prefect server that this process's flows report to."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    home = tmp_path_factory.mktemp("prefect")
    (home / "client").mkdir()
    with prefect_server(home) as url:
        settings = {PREFECT_API_URL: url, PREFECT_HOME: home / "client"}
        with temporary_settings(settings):
            yield url
            _send_what_is_left()


def _send_what_is_left() -> None:
    """Logs and events are sent by threads, which must not outlive the server."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all()
    EventsWorker.drain_all()
