"""Text of the command: data to stdout, everything else to stderr, with MAREY_LOG=json as JSON objects."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any, TextIO


def put(text: str) -> None:
    """Data, on stdout."""
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def say(text: str) -> None:
    """One line on stderr. A name may hold anything: what would move a terminal's cursor is escaped."""
    if for_machines():
        log("note", text=text)
    else:
        tell(f"{printable(text)}\n")


def complain(text: str, level: str = "ERROR") -> None:
    """One line on stderr about what went wrong; a level of Python's logging."""
    if for_machines():
        log("error", level, text=text)
    else:
        say(f"marey: {text}")


def for_machines() -> bool:
    """Whether stderr is to hold a JSON object per line."""
    return os.environ.get("MAREY_LOG") == "json"


def log(event: str, level: str = "INFO", **values: Any) -> None:
    """A JSON object on stderr, in a line of its own."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": now, "level": level, "event": event, **values}
    tell(json.dumps(line, ensure_ascii=False, default=str) + "\n")


def tell(text: str) -> None:
    """Text on stderr, as long as it takes any."""
    BestEffortStream(sys.stderr).write(text)


class BestEffortStream:
    """A stream whose text is dropped once it cannot be written any more, so that the work goes on.

    That is so when its reader is gone (`2>&1 | head`), its disk is full, or its terminal was closed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write and flush."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def printable(text: str) -> str:
    """The text with line ends and control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
