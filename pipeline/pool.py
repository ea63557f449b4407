"""Connections to web servers that reach no metadata service, and lead nowhere that is not allowed."""

from __future__ import annotations

import socket
from functools import cache
from typing import Any

import urllib3

from pipeline import allowed
from pipeline.errors import UsageError

_REDIRECTS = urllib3.Retry(None, connect=0, read=0, redirect=5, status=0, other=0)


class ForbiddenError(Exception):
    """Raised through urllib3, which lets it pass: the address may not be asked."""


class _HTTPConnection(urllib3.connection.HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn())


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn())


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Pools(urllib3.PoolManager):
    """Asks no forbidden address, whatever a name resolves to and wherever a redirect leads."""

    def __init__(self, listed: bool) -> None:
        super().__init__(timeout=urllib3.Timeout(connect=10, read=60), retries=_REDIRECTS)
        self._listed = listed
        self.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def urlopen(self, method: str, url: str, redirect: bool = True, **more: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        """Also called by itself for each redirect."""
        try:
            if self._listed:
                allowed.check(url)
        except UsageError as exc:
            raise ForbiddenError(str(exc)) from exc
        return super().urlopen(method, url, redirect, **more)


def _checked(connection: socket.socket) -> socket.socket:
    """A connection, before anything is sent through it."""
    address = str(connection.getpeername()[0])
    if allowed.is_forbidden_address(address):
        connection.close()
        raise ForbiddenError(f"{address} is link-local, as metadata services are")
    return connection


def cause(error: BaseException) -> str:
    """What the system says behind an error of urllib3, whose own text may hold the query of an address."""
    while True:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        if isinstance(error, urllib3.exceptions.ResponseError):
            return str(error)  # too many redirects
        inner = [getattr(error, "reason", None), error.__cause__, *error.args]
        behind = next((one for one in inner if isinstance(one, BaseException)), None)
        if behind is None:
            return type(error).__name__
        error = behind


@cache
def pool(*, listed: bool = True) -> urllib3.PoolManager:
    """The connections of this process; to what is `listed` only, unless that was looked at before."""
    return _Pools(listed)
