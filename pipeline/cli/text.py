"""Text of the command: data to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys


def put(text: str) -> None:
    """Data, on stdout."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def say(text: str) -> None:
    """One line on stderr. A name may hold anything: what would move a terminal's cursor is escaped."""
    tell(f"{printable(text)}\n")


def tell(text: str) -> None:
    """Text on stderr. Where it can go no more (`2>&1 | head`, a full disk) the work goes on without it."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def printable(text: str) -> str:
    """The text with line ends and control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
