"""The Delta tables of a lake: open, make, append."""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from pipeline.errors import ConflictError, StorageError, UsageError
from pipeline.lake.layout import table_properties, writer_properties
from pipeline.lake.location import Location
from pipeline.lake.schema import PARTITIONED, SCHEMA_VERSION, TABLES

_VERSION_KEY = "marey.schemaVersion"
_NO_LAKE = "check --lake, or fill one with `marey analyze`"

# `analyses` is made last: where it is, all are.
_CREATION_ORDER = (*(name for name in TABLES if name != "analyses"), "analyses")

RETRY_S = 60.0
"""Seconds for which a commit that others outrun is tried again."""

_HISTORY = 50  # commits in which an append whose answer was lost is looked for


@dataclass(frozen=True)
class Lake:
    """A directory of Delta tables. Holds no state: every call reads the newest snapshot."""

    location: Location

    @classmethod
    def open(cls, uri: str | os.PathLike[str], create: bool = True) -> Lake:
        """Open a lake, or make one.

        Args:
            uri: A directory.
            create: Make what is missing and try to write. Without it nothing is written at all.

        Raises:
            StorageError: the place cannot be read or, with `create`, not be written.
            UsageError: `uri` is no path of a lake, there is no lake and `create` is off, or a newer program
                made it.
        """
        lake = cls(Location.parse(uri))
        if create:
            lake.location.make()
            lake._create_missing()
        elif not lake.location.path.is_dir():
            raise UsageError(f"there is no lake at {lake.location}", remedy=_NO_LAKE)
        lake._check_version()
        return lake

    def table(self, name: str) -> DeltaTable:
        """The newest snapshot of a table.

        Raises:
            StorageError: it cannot be read.
            UsageError: there is none.
        """
        try:
            return DeltaTable(self.location.table(name), storage_options=self.location.storage_options)
        except TableNotFoundError as exc:
            raise UsageError(f"{self.location} is not a lake", remedy=_NO_LAKE) from exc
        except (DeltaError, OSError) as exc:
            raise StorageError(
                f"table {name} of lake {self.location} cannot be read", remedy=str(exc)
            ) from exc

    def append(self, name: str, rows: pa.Table) -> None:
        """Append rows in one commit, on disk when this returns; no rows make no commit.

        Raises:
            StorageError: they could not be written; nothing of them is visible then.
            ValueError: the columns are not the table's.
        """
        rows = self._fit(name, rows)
        if not rows.num_rows:
            return
        mark = str(uuid.uuid4())
        for pause in pauses():
            try:
                self._write(
                    self.table(name), name, rows, CommitProperties(custom_metadata={"append_id": mark})
                )
                return
            except ConflictError:
                if self._holds(name, mark):
                    return
                time.sleep(pause)
        raise ConflictError(
            f"table {name} of lake {self.location} is written by too many", remedy="try again"
        )

    def append_if_unchanged(
        self, snapshot: DeltaTable, name: str, rows: pa.Table, versions: Iterable[tuple[str, int]]
    ) -> None:
        """Compare and set: append rows unless one of the keys was written since the snapshot was read.

        Args:
            snapshot: What the decision to write was made on. It is moved to the new state.
            name: Table.
            rows: Rows to append.
            versions: Key (a video_id) and its new version, above the one in `snapshot`. They become Delta
                application transactions, of which two with one key never follow the same snapshot.

        Raises:
            ConflictError: another writer was faster; nothing is written.
            StorageError: the table cannot be written.
        """
        transactions = [Transaction(key, version) for key, version in versions]
        self._write(snapshot, name, self._fit(name, rows), CommitProperties(app_transactions=transactions))

    def _write(self, target: DeltaTable, name: str, rows: pa.Table, commit: CommitProperties) -> None:
        try:
            write_deltalake(
                target,
                rows,
                mode="append",
                writer_properties=writer_properties(name),
                commit_properties=commit,
            )
            self.location.sync_commit(name, target.version())
        except CommitFailedError as exc:
            raise ConflictError(f"another writer committed to {name} first", remedy=str(exc)) from exc
        except (DeltaError, OSError) as exc:
            raise StorageError(
                f"table {name} of lake {self.location} cannot be written", remedy=str(exc)
            ) from exc

    def _fit(self, name: str, rows: pa.Table) -> pa.Table:
        schema = TABLES[name]
        if rows.schema.names != schema.names:
            raise ValueError(f"rows for {name} need columns {schema.names}, got {rows.schema.names}")
        return rows.cast(schema)

    def _holds(self, name: str, mark: str) -> bool:
        """Whether an append went through although its answer said otherwise."""
        return any(entry.get("append_id") == mark for entry in self.table(name).history(_HISTORY))

    def _create_missing(self) -> None:
        for name in _CREATION_ORDER:
            if not DeltaTable.is_deltatable(self.location.table(name), self.location.storage_options):
                self._create(name)

    def _create(self, name: str) -> None:
        try:
            DeltaTable.create(
                self.location.table(name),
                TABLES[name],
                mode="ignore",
                partition_by=["date"] if name in PARTITIONED else None,
                name=name,
                configuration={_VERSION_KEY: str(SCHEMA_VERSION), **table_properties(name)},
                storage_options=self.location.storage_options,
                # With a retry a second creator would write its own version 1 over another's version 0.
                commit_properties=CommitProperties(max_commit_retries=0),
                raise_if_key_not_exists=False,
            )
        except (DeltaError, OSError) as exc:
            # Of several programs that make a lake at once one makes the table and the others come here.
            if not DeltaTable.is_deltatable(self.location.table(name), self.location.storage_options):
                raise StorageError(f"lake {self.location} cannot be made", remedy=str(exc)) from exc

    def _check_version(self) -> None:
        properties = self.table("analyses").metadata().configuration
        version = json.loads(properties.get(_VERSION_KEY, "0"))
        if version > SCHEMA_VERSION:
            what = f"lake {self.location} has schema version {version}"
            raise UsageError(
                f"{what}, newer than this program's {SCHEMA_VERSION}", remedy="use a newer marey"
            )


def pauses() -> Iterable[float]:
    """Growing, random pauses until the time for retries is over."""
    end = time.monotonic() + RETRY_S
    limit = 0.02
    while time.monotonic() < end:
        yield random.uniform(0, limit)
        limit = min(limit * 2, 2.0)
