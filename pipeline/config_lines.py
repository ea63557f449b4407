"""For errors about a config: where in a TOML file something stands, and values as they may be shown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

_HEADER = re.compile(r"\[\[?[^\[\],]+\]\]?\s*(#.*)?")  # and not a row of a list that spans lines

_ADDRESS = re.compile(r"(\w+://)(?:[^/?#\s'\"]*@)?([^?\s'\"]*)(?:\?[^#\s'\"]*)?")
"""Scheme and place of an address, without the user, password and query around them."""


def shown(value: Any) -> str:
    """A value as an error shows it: at most 80 characters, addresses without user, password and query."""
    text = _ADDRESS.sub(r"\1\2", repr(value))
    return text if len(text) <= 80 else text[:77] + "..."


def line_in(toml: str, loc: Sequence[str | int]) -> int | None:
    """Number of the line, from 1, on which a place of the config is set; None if that cannot be told.

    Finds tables ([video]), arrays of tables ([[rules]]) and keys below them; of a table the header, where
    the key is not there.
    """
    if len(loc) > 1 and isinstance(loc[1], int):
        header, number, key = f"[[{loc[0]}]]", loc[1], loc[2:3]
    else:
        header, number, key = f"[{loc[0]}]" if loc else "", 0, loc[1:2]
    lines = [line.strip() for line in toml.splitlines()]
    headers = [k for k, line in enumerate(lines) if "".join(line.split("#")[0].split()) == header]
    if number >= len(headers):
        return None
    for k in range(headers[number] + 1, len(lines)):
        if _HEADER.fullmatch(lines[k]):
            break
        if key and lines[k].split("=")[0].strip() == key[0]:
            return k + 1
    return headers[number] + 1


def perhaps(key: str, config: type[BaseModel]) -> str:
    """For the end of a message about an unknown key, as `fps` or `vidio.fps`: the one that may be meant."""
    known: list[str] = []
    for section, field in config.model_fields.items():
        inner = getattr(field.annotation, "model_fields", {})
        known += [section, *(f"{section}.{name}" for name in inner)]
    last = key.rpartition(".")[2]
    alike = [name for name in known if name.endswith(f".{last}")] or difflib.get_close_matches(key, known, 1)
    return f" (did you mean {alike[0]!r}?)" if alike else ""
