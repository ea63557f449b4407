"""The Delta tables of a lake: open, make, append."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import pyarrow as pa
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from pipeline.errors import ConflictError, GoneError, StorageError, UsageError
from pipeline.ids import digest
from pipeline.lake.layout import (
    CHECK_POINTS,
    COMMITS_PER_CHECK_POINT,
    TRANSACTIONS,
    TRANSACTIONS_KEPT,
    table_properties,
    writer_properties,
)
from pipeline.lake.location import Location
from pipeline.lake.schema import PARTITIONED, SCHEMA_VERSION, TABLES, written
from pipeline.retry import again, contended, patiently

_T = TypeVar("_T")
_VERSION_KEY = "marey.schemaVersion"
DENIED = "_denied"
"""Folder with an empty file for each content_id that is refused."""
OUTBOX = "_outbox"
"""Folder of messages that are still to be delivered."""

AFTER_COMMIT = PostCommitHookProperties(cleanup_expired_logs=False)
"""Old log entries are left to compaction (and `Lake._merge`): who writes rows needs no right to delete."""

_NO_LAKE = "check --lake, or fill one with `marey analyze`"

_KEPT_FOR = 50
"""Commits after which a snapshot that is kept is opened anew. It holds what each brought apart: 0.1 MB, of
which little is left when a check point is read in its place."""

_MERGED_EVERY = 128
"""Commits to a table without partitions after which its small files are put together. Who looks for a video
opens most of them: with 700 files of `analyses` that took 60 ms of CPU, three times for each video."""

_MERGED_BYTES = 16 << 20
"""Files of this size are put together no more, or each time would take longer than the last."""

# `analyses` is made last: where it is, all are.
_CREATION_ORDER = (*(name for name in TABLES if name != "analyses"), "analyses")


@dataclass(frozen=True)
class _Kept:
    """A snapshot that is brought up to date rather than opened anew, with its first options and version."""

    options: dict[str, str]
    since: int
    snapshot: DeltaTable


@dataclass(frozen=True)
class Lake:
    """A directory or prefix of Delta tables. Not for several threads."""

    location: Location
    _kept: dict[str, _Kept] = field(default_factory=dict, init=False, compare=False, repr=False)

    @classmethod
    def open(
        cls,
        uri: str | os.PathLike[str],
        create: bool = True,
        *,
        extend: bool = False,
        conditional_put: bool = True,
    ) -> Lake:
        """Open a lake, or make one.

        Args:
            uri: A directory or s3://bucket/prefix.
            create: Make what is missing and try to write. Without it nothing is written at all.
            extend: Of a lake that an older program made, add the columns that it lacks, and check-point its
                tables as often as those of a new one; done anyway with `create`.
            conditional_put: Refuse a server that lets two writers overwrite each other.

        Raises:
            StorageError: the place cannot be read or, with `create`, not be written.
            UsageError: `uri` is no path of a lake, there is no lake and `create` is off, or a newer program
                made it.
        """
        if not create:
            lake, analyses = cls.find(uri)
        else:
            lake = cls(Location.parse(uri))
            lake.location.make(conditional=conditional_put)
            lake._create_missing()
            analyses = lake.table("analyses")
        older = lake._version(analyses) < SCHEMA_VERSION or _outdated(analyses)
        if older and (create or extend):
            lake._extend()
        return lake

    @classmethod
    def find(cls, uri: str | os.PathLike[str]) -> tuple[Lake, DeltaTable]:
        """A lake that is there, with its `analyses` as they are now.

        Raises:
            StorageError: it cannot be read.
            UsageError: `uri` is no path of a lake, there is no lake, or a newer program made it.
        """
        lake = cls(Location.parse(uri))
        try:
            analyses = lake.table("analyses")
        except (StorageError, UsageError):
            if not lake.location.exists():  # it also says what is wrong with a bucket, or where it is
                raise UsageError(f"there is no lake at {lake.location}", remedy=_NO_LAKE) from None
            analyses = lake.table("analyses")
        lake._version(analyses)
        return lake, analyses

    def table(self, name: str) -> DeltaTable:
        """The newest snapshot of a table.

        Raises:
            StorageError: it cannot be read.
            UsageError: there is none.
        """
        return patiently(lambda: again(partial(self._table, name)))

    def latest(self, name: str) -> DeltaTable:
        """The newest snapshot of a table that this lake keeps, good until it is asked for again.

        Opening a table costs some thirty requests on S3, bringing one up to date one and one for each commit
        since.

        Raises:
            StorageError: it cannot be read, or is not there any more.
        """
        options = self.location.storage_options  # credentials may have been renewed
        kept = self._kept.pop(name, None)
        if kept is not None and (kept.options != options or not _update(kept)):
            kept = None
        if kept is None:
            snapshot = self._still(name)
            kept = _Kept(options, snapshot.version(), snapshot)
        self._kept[name] = kept
        return kept.snapshot

    def _still(self, name: str) -> DeltaTable:
        """A table of a lake at work: if it is missing, that is no mistake in the command."""
        try:
            return self.table(name)
        except UsageError as exc:
            remedy = "was the lake moved, or its disk unmounted? bring it back and run again"
            raise StorageError(f"{self.named(name)} is not there any more", remedy=remedy) from exc

    def ask(self, name: str, call: Callable[[DeltaTable], _T]) -> _T:
        """What a call says of the newest snapshot, from a new one if files of it went meanwhile.

        Raises:
            StorageError: they are gone by the newest log, too, or the table cannot be read.
        """

        def once() -> _T:
            snapshot = self.latest(name)
            try:
                return call(snapshot)
            except GoneError:
                self.let_go(name)
                raise

        return again(once)

    def let_go(self, name: str) -> None:
        """Keep the snapshot of a table no longer: it is written otherwise than by appends."""
        self._kept.pop(name, None)

    def named(self, name: str) -> str:
        """A table, as errors name it."""
        return f"table {name} of lake {self.location}"

    @contextmanager
    def committing(self, name: str, failure: str) -> Iterator[None]:
        """Translate deltalake's errors of a commit to a table.

        Raises:
            ConflictError: another writer was faster.
            StorageError: any other error; its message is the table and `failure`.
        """
        try:
            yield
        except CommitFailedError as exc:
            raise ConflictError(f"another writer committed to {name} first", remedy=str(exc)) from exc
        except (DeltaError, OSError) as exc:
            raise self.location.failure(f"{self.named(name)} {failure}", exc) from exc

    def _table(self, name: str) -> DeltaTable:
        try:
            return DeltaTable(self.location.table(name), storage_options=self.location.storage_options)
        except TableNotFoundError as exc:
            raise UsageError(f"{self.location} is not a lake", remedy=_NO_LAKE) from exc
        except (DeltaError, OSError) as exc:
            raise self.location.failure(f"{self.named(name)} cannot be read", exc) from exc

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
        once = CommitProperties(app_transactions=[_transaction(mark, 1)])
        tried = False

        def write() -> None:
            nonlocal tried
            target = self.latest(name)
            if tried and target.transaction_version(mark) is not None:
                return  # it went through although its answer said otherwise
            tried = True
            self._write(target, name, rows, once)

        contended(self.named(name), write)

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
        transactions = [_transaction(revision_key(key), version) for key, version in versions]
        self._write(snapshot, name, self._fit(name, rows), CommitProperties(app_transactions=transactions))

    def _write(self, target: DeltaTable, name: str, rows: pa.Table, commit: CommitProperties) -> None:
        kept = self._kept.pop(name, None)
        with self.committing(name, "cannot be written"):
            write_deltalake(
                target,
                rows,
                mode="append",
                writer_properties=writer_properties(name),
                commit_properties=commit,
                post_commithook_properties=AFTER_COMMIT,
            )
            self.location.sync_commit(name, target.version())
            if kept is not None and kept.snapshot is target:
                self._kept[name] = kept  # it is at its own commit now
        if name not in PARTITIONED and target.version() % _MERGED_EVERY == 0:
            self._merge(name)

    def _merge(self, name: str) -> None:
        """Put a table's small files together.

        It falls to whoever made a commit of a round number, so that of many workers one does it. If that
        fails, because others wrote meanwhile or the server stumbled, the next one will do. Afterwards
        deltalake 1.6 removes log entries that have expired (30 days), whatever it is told; without the right
        to delete it fails then, when all is done.
        """
        with suppress(Exception):  # of several kinds, as in `lookup.run_sql`; the rows are written
            snapshot = self._table(name)
            snapshot.optimize.compact(target_size=_MERGED_BYTES, writer_properties=writer_properties(name))
            self.location.sync_commit(name, snapshot.version())

    def _fit(self, name: str, rows: pa.Table) -> pa.Table:
        schema = written(name)
        if rows.schema.names != schema.names:
            raise ValueError(f"rows for {name} need columns {schema.names}, got {rows.schema.names}")
        return rows.cast(schema)

    def _create_missing(self) -> None:
        for name in _CREATION_ORDER:
            if not self._is_there(name):
                patiently(partial(self._create, name))

    def is_made(self) -> bool:
        """Whether there is a lake at the place.

        Raises:
            StorageError: it cannot be told.
        """
        return self.location.exists() and self._is_there("analyses")

    def _is_there(self, name: str) -> bool:
        options = self.location.storage_options

        def ask() -> bool:
            try:
                return bool(DeltaTable.is_deltatable(self.location.table(name), options))
            except (DeltaError, OSError) as exc:
                raise self.location.failure(f"lake {self.location} cannot be read", exc) from exc

        return patiently(ask)

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
            if not self._is_there(name):
                raise self.location.failure(f"lake {self.location} cannot be made", exc) from exc

    def _version(self, analyses: DeltaTable) -> int:
        """The schema version of the lake.

        Raises:
            UsageError: a newer program made it.
        """
        properties = analyses.metadata().configuration
        version = int(json.loads(properties.get(_VERSION_KEY, "0")))
        if version > SCHEMA_VERSION:
            what = f"lake {self.location} has schema version {version}"
            raise UsageError(
                f"{what}, newer than this program's {SCHEMA_VERSION}", remedy="use a newer marey"
            )
        return version

    def _extend(self) -> None:
        """Add the columns that came with later schema versions; old rows have null there.

        `analyses` comes last: if it is as it should be, all are.
        """
        for name in _CREATION_ORDER:
            contended(self.named(name), partial(self._extend_table, name))

    def _extend_table(self, name: str) -> None:
        target = self.table(name)
        with self.committing(name, "cannot be extended"):
            if missing := lacking(target, name):
                fields = Schema.from_arrow(pa.schema(missing)).fields
                target.alter.add_columns(fields, post_commithook_properties=AFTER_COMMIT)
            properties = {_VERSION_KEY: str(SCHEMA_VERSION), **_outdated(target)}
            target.alter.set_table_properties(
                properties, raise_if_not_exists=False, post_commithook_properties=AFTER_COMMIT
            )


def _update(kept: _Kept) -> bool:
    """Bring a snapshot up to date; False if that failed, or it is to be opened anew."""
    try:
        kept.snapshot.update_incremental()
    except (DeltaError, OSError):  # its log was shortened, or the server stumbled
        return False
    return kept.snapshot.version() - kept.since < _KEPT_FOR


def lacking(snapshot: DeltaTable, name: str) -> list[pa.Field]:
    """The columns of a table that came after the program that made it."""
    there = {field.name for field in snapshot.schema().fields}
    return [field for field in TABLES[name] if field.name not in there]


def _outdated(snapshot: DeltaTable) -> dict[str, str]:
    """Properties of a new table, where one has deltalake's defaults, as those of the first programs do."""
    there = snapshot.metadata().configuration
    new = {} if TRANSACTIONS in there else {TRANSACTIONS: TRANSACTIONS_KEPT}
    if int(there.get(CHECK_POINTS) or 100) > COMMITS_PER_CHECK_POINT:
        new[CHECK_POINTS] = str(COMMITS_PER_CHECK_POINT)
    return new


def _transaction(key: str, version: int) -> Transaction:
    """One that may go when its time is over."""
    return Transaction(key, version, last_updated=int(time.time() * 1000))


def revision_key(key: str) -> str:
    """Name of the Delta transaction of a video or config. It outlives the video, and does not tell its id."""
    return digest("revision", key)
