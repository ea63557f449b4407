"""The Prefect server: a client of it, and its errors in one line each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings

from pipeline.errors import StorageError, TransientError, UsageError

DEPLOYMENT = "marey"
"""Name of all deployments; flows have their own: analyze-video/marey."""

_KEYS = re.compile(r"(?<=://)[^/?#\s]*@")
"""User and password in an address, which an error does not tell."""


def is_configured() -> bool:
    """Whether a server is named, by PREFECT_API_URL or a profile."""
    return bool(get_current_settings().api.url)


@contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """A client of the server that is configured.

    Raises:
        UsageError: none is, or it does not accept us.
        TransientError: it cannot be reached.
    """
    url = get_current_settings().api.url
    if not url:
        remedy = "set PREFECT_API_URL, as in http://127.0.0.1:4200/api"
        raise UsageError("no Prefect server is configured", remedy=remedy)
    with errors(url), get_client(sync_client=True) as client:
        yield client


@contextmanager
def shown(what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Do without what the server only shows, if it is away: for that no work breaks off, no end is hidden."""
    try:
        yield
    except httpx.HTTPError as exc:
        say(f"the Prefect server does not show {what}: {type(exc).__name__}")


@contextmanager
def errors(url: str) -> Iterator[None]:
    """Turn errors of Prefect's client into ours.

    Raises:
        UsageError: the server refuses what it is asked, which will not change by asking again.
        TransientError: it cannot be reached, or stumbles.
    """
    place = f"the Prefect server {_bare(url)}"
    try:
        yield
    except (httpx.TransportError, httpx.InvalidURL) as exc:
        what = f"{place} cannot be reached"
        raise TransientError(what, remedy="start it, or correct PREFECT_API_URL") from exc
    except ObjectNotFound as exc:
        raise UsageError(f"{place} does not know it: {_bare(exc)}") from exc
    except PrefectHTTPStatusError as exc:
        status = exc.response.status_code
        if status in (401, 403):
            what = f"{place} does not accept us"
            raise UsageError(what, remedy="set PREFECT_API_AUTH_STRING to user:password") from exc
        if status >= 500 or status in (408, 429):
            raise TransientError(f"{place} stumbled", got=status, remedy="try again") from exc
        detail = exc.response.text[:300]
        raise UsageError(f"{place} refuses it", got=status, remedy=detail) from exc
    except RuntimeError as exc:  # what the client makes of a server of another version, or of no server
        if "API" not in str(exc) and "server" not in str(exc).lower():
            raise
        raise StorageError(f"{place} cannot be used", remedy=_bare(exc)) from exc


def _bare(text: object) -> str:
    return _KEYS.sub("", str(text))
