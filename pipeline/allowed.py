"""What a server may read and write for others: URIs by a list of prefixes, and never a metadata service.

`MAREY_ALLOWED` holds prefixes with a space between: `s3://uploads/ s3://archive/lake /footage/`. Where it is
not set, as at one's own desk, every URI may be named; link-local addresses are refused always.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import UsageError

VARIABLE = "MAREY_ALLOWED"
_METADATA = frozenset({"100.100.100.200", "fd00:ec2::254", "168.63.129.16"})
"""Metadata services of clouds outside the link-local ranges: Alibaba, AWS by IPv6, Azure."""


def prefixes() -> tuple[str, ...] | None:
    """The prefixes of MAREY_ALLOWED; None if it is not set."""
    text = os.environ.get(VARIABLE)
    return None if text is None else tuple(text.split())


def check(uri: str) -> None:
    """Refuse a URI that is below no allowed prefix.

    Raises:
        UsageError: it may not be named here.
    """
    allowed = prefixes()
    if allowed is None or any(_is_below(uri, prefix) for prefix in allowed):
        return
    shown = urlsplit(uri)._replace(netloc=urlsplit(uri).netloc.rpartition("@")[2], query="").geturl()
    raise UsageError(f"{shown} may not be used here", remedy=f"{VARIABLE} lists what may")


def is_forbidden_address(address: str) -> bool:
    """Whether an IP address is link-local or a cloud's metadata service."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_link_local or str(found) in _METADATA


def _is_below(uri: str, prefix: str) -> bool:
    if "://" not in uri:
        if "://" in prefix:
            return False
        # Links and `..` lead where they lead: what counts is where a file lies.
        path, top = Path(uri).expanduser().resolve(), Path(prefix).expanduser().resolve()
        return path == top or top in path.parents
    if "@" in urlsplit(uri).netloc or "/../" in f"{uri}/":
        return False
    return uri == prefix.rstrip("/") or uri.startswith(prefix.rstrip("/") + "/")
