"""What a server may read and write for others: URIs by a list of prefixes, and never a metadata service.

`MAREY_ALLOWED` holds prefixes with a space between: `s3://uploads/ s3://archive/lake /footage/`, or a JSON
list, in which they may hold spaces: `["/mnt/My Footage"]`. `sha256:` and a digest allow the one URI of which
it is (`sealed`). Where the variable is not set, as at one's own desk, every URI may be named; link-local
addresses are refused always.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.errors import UsageError

VARIABLE = "MAREY_ALLOWED"
_SEAL = "sha256:"
_METADATA = frozenset({"100.100.100.200", "fd00:ec2::254", "168.63.129.16"})
"""Metadata services of clouds outside the link-local ranges: Alibaba, AWS by IPv6, Azure."""


def prefixes() -> tuple[str, ...] | None:
    """The prefixes of MAREY_ALLOWED; None if it is not set.

    Raises:
        UsageError: it begins as a JSON list, and is none of names.
    """
    text = os.environ.get(VARIABLE)
    if text is None or not text.lstrip().startswith("["):
        return None if text is None else tuple(text.split())
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) and item for item in found):
        raise UsageError(
            f"{VARIABLE} is no JSON list of prefixes", got=text, remedy='write ["/mnt/My Footage"]'
        )
    return tuple(found)


def setting(prefixes: Sequence[str]) -> str:
    """The value of MAREY_ALLOWED for these prefixes: a JSON list only where spaces ask for it."""
    plain = " ".join(prefixes)
    return plain if plain.split() == list(prefixes) else json.dumps(list(prefixes))


def sealed(uri: str) -> str:
    """An entry of the list for one URI that does not tell it: it may be a secret, and pools can be read."""
    return _SEAL + hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()


def check(uri: str) -> None:
    """Refuse a URI that is below no allowed prefix.

    Raises:
        UsageError: it may not be named here.
    """
    if (error := refusal(uri)) is not None:
        raise error


def refusal(uri: str) -> UsageError | None:
    """The error for a URI that is below no allowed prefix; None if it may be used."""
    allowed = prefixes()
    try:
        if allowed is None or any(_is_below(uri, prefix) for prefix in allowed):
            return None
        shown = urlsplit(uri)._replace(netloc=urlsplit(uri).netloc.rpartition("@")[2], query="").geturl()
    except ValueError:  # of urlsplit; what it cannot read may hold a password anywhere
        shown = f"an address with {uri.partition('://')[0]}:// that cannot be read"
    return UsageError(f"{shown} may not be used here", remedy=f"{VARIABLE} lists what may")


def is_forbidden_address(address: str) -> bool:
    """Whether an IP address is link-local or a cloud's metadata service."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_link_local or str(found) in _METADATA


def _is_below(uri: str, prefix: str) -> bool:
    if prefix.startswith(_SEAL):
        return sealed(uri) == prefix
    path, top = _local(uri), _local(prefix)
    if path is not None:
        return top is not None and (path == top or top in path.parents)
    if "@" in urlsplit(uri).netloc or _climbs(uri):
        return False
    return uri == prefix.rstrip("/") or uri.startswith(prefix.rstrip("/") + "/")


def _local(uri: str) -> Path | None:
    """Where a path or file:// URI leads on this machine, by links and `..`; None if elsewhere."""
    if "://" in uri:
        parts = urlsplit(uri)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            return None
        uri = unquote(parts.path)
    return Path(
        os.path.realpath(os.path.expanduser(uri))
    )  # unlike Path's no errors: ~nobody, circles of links


def _climbs(uri: str) -> bool:
    """Whether a URI has `..` in its path; of a web address also quoted, or beside a backslash."""
    parts = urlsplit(uri)
    path = uri if parts.scheme == "s3" else parts.path  # a key holds `?` and `#`, and is never decoded
    while parts.scheme != "s3" and (plain := unquote(path).replace("\\", "/")) != path:
        path = plain
    return "/../" in f"{path}/"
