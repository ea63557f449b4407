"""How far back `--as-of` reaches: the time since which nothing that was once current has been removed.

It is the name of a file in the lake. Other names are passed over: a writer that died, or is at work, leaves
its own.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from pipeline.lake.tables import Lake

FOLDER = "_history"

_NAME = re.compile(r"\d{8}T\d{12}")
_FORMAT = "%Y%m%dT%H%M%S%f"


def whole_since(lake: Lake) -> datetime | None:
    """The time since which nothing that was once current is gone; None: nothing ever went.

    Raises:
        StorageError: the lake cannot be read.
    """
    noted = [name for name in lake.location.names(FOLDER) if _NAME.fullmatch(name)]
    return datetime.strptime(max(noted), _FORMAT).replace(tzinfo=UTC) if noted else None


def note_whole_since(lake: Lake, since: datetime) -> None:
    """Say that what was current before a time goes, before it does.

    Raises:
        StorageError: the lake cannot be written.
    """
    lake.location.create(f"{FOLDER}/{since.astimezone(UTC).strftime(_FORMAT)}", b"")
    names = lake.location.names(FOLDER)
    newest = max(filter(_NAME.fullmatch, names))
    for name in names:
        if name != newest:
            lake.location.remove(f"{FOLDER}/{name}")
