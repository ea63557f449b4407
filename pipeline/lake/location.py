"""Where a lake is: the one place that knows paths, URIs and storage options."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.errors import ConflictError, GoneError, StorageError, UsageError, os_errors_as

# deltalake takes every path for a URL: it decodes %41, turns \ into /, and panics on the others.
_UNSAFE = re.compile(r"%[0-9A-Fa-f]{2}|[\[\]^|\\\x00-\x1f\x7f]")

GONE = re.compile(r"Object at location .* not found", re.DOTALL)
"""How deltalake and DataFusion tell that a file is not there. A log tells of it, so it was."""

_CANNOT_LINK = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_LINKS = "its file system has no hard links, as FAT and exFAT have none: put it on another disk"

_MOVED_ON = (
    (GONE, GoneError),
    (re.compile("Invalid table version"), ConflictError),  # commits since went before they were looked at
)


@dataclass(frozen=True)
class Version:
    """A version of a file that is not the file any more."""

    name: str
    id: str


class Location(ABC):
    """A lake's place. Names of files and folders are relative to it, with `/` between their parts."""

    @staticmethod
    def parse(uri: str | os.PathLike[str]) -> Location:
        """Read a path, a file:// URI or an s3:// URI.

        Raises:
            UsageError: another scheme, or a path that the tables' library would misread.
        """
        text = os.fspath(uri)
        if not text:
            raise UsageError("the lake's path is empty", remedy="give a directory or s3://bucket/prefix")
        if text.startswith("s3://"):
            from pipeline.lake.bucket import Bucket

            return Bucket.of(text)
        if "://" in text:
            parts = urlsplit(text)
            if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
                raise UsageError("a lake is a directory or s3://bucket/prefix", got=text, remedy="give one")
            from urllib.request import url2pathname  # slow to load

            text = url2pathname(parts.path)
        if bad := _UNSAFE.search(text):
            raise UsageError(
                f"the lake's path {text} holds {bad.group()!r}", remedy="choose a path without it"
            )
        return Directory(Path(os.path.expanduser(text)).absolute())

    @property
    @abstractmethod
    def storage_options(self) -> dict[str, str]:
        """Settings for deltalake, with credentials as they are now."""

    @abstractmethod
    def table(self, name: str) -> str:
        """What deltalake takes for a table."""

    @abstractmethod
    def make(self, *, conditional: bool = True) -> None:
        """Make the place, and try to write in it.

        Args:
            conditional: Refuse storage on which two writers could overwrite each other.

        Raises:
            StorageError: it cannot be made or written.
        """

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is something at the place.

        Raises:
            StorageError: it cannot be told.
        """

    @abstractmethod
    def sync_commit(self, table: str, version: int) -> None:
        """Bring one commit of a table to the disk, where the system would not do it soon."""

    def failure(self, what: str, exc: Exception) -> StorageError:
        """The error for one that deltalake met here."""
        kind = next((kind for sign, kind in _MOVED_ON if sign.search(str(exc))), StorageError)
        return kind(what, remedy=str(exc))

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """A file's bytes; None if there is none."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one of that name, whole and lasting when this returns.

        Returns:
            False if there is one. After an answer that was lost that one may be ours.
        """

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Names of all files below a folder, relative to it, in order; none if there is no folder."""

    @abstractmethod
    def changed(self, folder: str) -> dict[str, datetime]:
        """When each of these files was written (UTC)."""

    @abstractmethod
    def old_versions(self) -> list[Version]:
        """What is kept of files that were removed or replaced.

        Raises:
            StorageError: it cannot be told.
        """

    @abstractmethod
    def read_version(self, old: Version) -> bytes | None:
        """The bytes of such a version; None if it is gone."""

    @abstractmethod
    def remove_version(self, old: Version) -> None:
        """Remove it for good; one that is gone is no error."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; one that is gone is no error."""

    @abstractmethod
    def remove_folder(self, folder: str) -> None:
        """Remove a folder and all below it."""


@dataclass(frozen=True)
class Directory(Location):
    """A directory, absolute."""

    path: Path

    @property
    def storage_options(self) -> dict[str, str]:
        return {}

    def failure(self, what: str, exc: Exception) -> StorageError:
        error = super().failure(what, exc)
        # Whoever reads needs no links, and is to make no file here.
        if type(error) is StorageError and not what.endswith(" read") and self._lacks_links():
            return StorageError(what, remedy=_NO_LINKS)
        return error

    def _lacks_links(self) -> bool:
        """Whether files can be made here but not linked, by which deltalake and `create` replace no file."""
        with suppress(OSError), tempfile.NamedTemporaryFile(dir=self.path, prefix=".") as file:
            second = f"{file.name}.link"
            try:
                os.link(file.name, second)
            except OSError as exc:
                return exc.errno in _CANNOT_LINK
            os.unlink(second)
        return False

    def old_versions(self) -> list[Version]:
        return []  # a directory keeps none

    def read_version(self, old: Version) -> bytes | None:
        return None

    def remove_version(self, old: Version) -> None: ...

    def table(self, name: str) -> str:
        return str(self.path / name)

    def make(self, *, conditional: bool = True) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except FileExistsError as exc:
            raise StorageError(f"lake {self} is not a directory", remedy="give a directory") from exc
        except OSError as exc:
            raise StorageError(f"lake {self} cannot be written", remedy=exc.strerror or str(exc)) from exc

    def exists(self) -> bool:
        with os_errors_as(StorageError, f"lake {self} cannot be read"):
            return self.path.is_dir()

    def sync_commit(self, table: str, version: int) -> None:
        """Bring a commit's data files, its log entry and their directories to the disk.

        deltalake leaves that to the system, so a power cut could lose what a later commit builds on.
        """
        entry = self.path / table / "_delta_log" / f"{version:020d}.json"
        try:
            actions = [json.loads(line) for line in entry.read_text(encoding="utf-8").split("\n") if line]
        except FileNotFoundError:
            return
        files = [self.path / table / unquote(action["add"]["path"]) for action in actions if "add" in action]
        for path in [*files, *{file.parent for file in files}, entry, entry.parent]:
            _sync(path)

    def read(self, name: str) -> bytes | None:
        path = self.path / name
        with os_errors_as(StorageError, f"{path} cannot be read"):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def create(self, name: str, data: bytes) -> bool:
        """Write under a name of our own, then link."""
        target = self.path / name
        with os_errors_as(StorageError, f"{target} cannot be written"):
            while True:
                target.parent.mkdir(parents=True, exist_ok=True)
                own = target.parent / f".{secrets.token_hex(8)}.tmp"
                try:
                    own.write_bytes(data)
                    _sync(own)
                    os.link(own, target)
                except FileExistsError:
                    return False
                except FileNotFoundError:
                    continue  # another worker removed the folder
                finally:
                    own.unlink(missing_ok=True)
                _sync(target.parent)
                return True

    def names(self, folder: str) -> list[str]:
        top = self.path / folder

        def failed(exc: OSError) -> None:
            if not isinstance(exc, FileNotFoundError):  # removed by another worker meanwhile
                raise exc

        with os_errors_as(StorageError, f"{top} cannot be read"):
            below = [Path(at) / name for at, _, names in os.walk(top, onerror=failed) for name in names]
            return sorted(path.relative_to(top).as_posix() for path in below)

    def changed(self, folder: str) -> dict[str, datetime]:
        found: dict[str, datetime] = {}
        for name in self.names(folder):
            path = self.path / folder / name
            with os_errors_as(StorageError, f"{path} cannot be read"), suppress(FileNotFoundError):
                found[name] = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return found

    def remove(self, name: str) -> None:
        with os_errors_as(StorageError, f"{self.path / name} cannot be removed"):
            (self.path / name).unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        shutil.rmtree(self.path / folder, ignore_errors=True)

    def __str__(self) -> str:
        return str(self.path)


def _sync(path: Path) -> None:
    """Flush a file or a directory to the disk; one that is gone is left out."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
