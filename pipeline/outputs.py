"""Files that are written at the end of long work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.errors import UsageError


def check_folder(path: Path) -> None:
    """Make a folder, and see that files can be written there.

    Raises:
        UsageError: they cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as exc:
        raise UsageError(f"{path} cannot be written", remedy=exc.strerror or str(exc)) from exc


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
