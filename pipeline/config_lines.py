"""Where in a TOML file something stands."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEADER = re.compile(r"\[\[?[^\[\],]+\]\]?\s*(#.*)?")  # and not a row of a list that spans lines


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
