"""Where a lake is: the one place that knows paths, URIs and storage options."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from pipeline.errors import StorageError, UsageError

# deltalake takes every path for a URL: it decodes %41, turns \ into /, and panics on the others.
_UNSAFE = re.compile(r"%[0-9A-Fa-f]{2}|[\[\]^|\\\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Location:
    """A lake's directory, absolute. Object storage joins here: `table`, `storage_options` and staging."""

    path: Path

    @classmethod
    def parse(cls, uri: str | os.PathLike[str]) -> Location:
        """Read a path or a file:// URI.

        Raises:
            UsageError: another scheme, or a path that the tables' library would misread.
        """
        text = os.fspath(uri)
        if not text:
            raise UsageError("the lake's path is empty", remedy="give a directory")
        if "://" in text:
            parts = urlsplit(text)
            if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
                raise UsageError("a lake is a local directory", got=text, remedy="give a path")
            text = url2pathname(parts.path)
        if bad := _UNSAFE.search(text):
            raise UsageError(
                f"the lake's path {text} holds {bad.group()!r}", remedy="choose a path without it"
            )
        return cls(Path(text).expanduser().absolute())

    @property
    def storage_options(self) -> dict[str, str]:
        """Settings for deltalake; none for a directory."""
        return {}

    @property
    def staging(self) -> Path:
        return self.path / "_staging"

    def table(self, name: str) -> str:
        """What deltalake takes for a table."""
        return str(self.path / name)

    def make(self) -> None:
        """Make the directory, and try to write in it.

        Raises:
            StorageError: it is not a directory, or cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except FileExistsError as exc:
            raise StorageError(f"lake {self} is not a directory", remedy="give a directory") from exc
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise StorageError(f"lake {self} cannot be written", remedy=reason) from exc

    def sync_commit(self, table: str, version: int) -> None:
        """Bring one commit of a table to the disk: its data files, its log entry and their directories.

        deltalake leaves that to the system, so a power cut could lose what a later commit builds on.
        """
        entry = self.path / table / "_delta_log" / f"{version:020d}.json"
        try:
            actions = [json.loads(line) for line in entry.read_text(encoding="utf-8").splitlines() if line]
        except FileNotFoundError:
            return
        files = [self.path / table / unquote(action["add"]["path"]) for action in actions if "add" in action]
        for path in [*files, *{file.parent for file in files}, entry, entry.parent]:
            sync(path)

    def __str__(self) -> str:
        return str(self.path)


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk; one that is gone is left out."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
