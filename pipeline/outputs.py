"""Files that are written at the end of long work."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UsageError, os_errors_as


def check_folder(path: Path) -> None:
    """Make a folder, and see that files can be written there.

    Raises:
        UsageError: they cannot.
    """
    with os_errors_as(UsageError, f"{path} cannot be written"):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


def check_place(path: Path) -> None:
    """Make the folder of a file, and see that files can be written there.

    Raises:
        UsageError: they cannot, or the path is that of a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path} cannot be written", remedy="it is a directory")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (FileExistsError, NotADirectoryError) as exc:
        raise UsageError(f"{path} cannot be written", remedy=f"{path.parent} is no directory") from exc
    except OSError as exc:
        raise UsageError(f"{path} cannot be written", remedy=exc.strerror or str(exc)) from exc


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file that gets its name once it is whole; until then what stood there stays.

    Who writes the same file meanwhile writes elsewhere: the last to be whole stays. A device or a pipe is
    written itself, and a link stays a link.

    Raises:
        OSError: the file cannot get its name.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        yield target
        return
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
