"""One partition of a table written anew with chosen runs only, in order, in one commit."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from pipeline.errors import ConflictError, TransientError
from pipeline.lake.layout import ORDER, VECTORS, writer_properties
from pipeline.lake.lookup import quoted, run_sql
from pipeline.lake.schema import TABLES
from pipeline.lake.tables import Lake
from pipeline.lake.vectors import without_vectors
from pipeline.retry import pauses

FILE_BYTES = 128 << 20
"""About the size of the files that come out."""

_GROUP_ROWS = 4_000_000  # sorted in memory at once
_GROUP_ROWS_OF_VECTORS = 400_000


@dataclass(frozen=True)
class RunRows:
    """Rows of one run in one partition."""

    camera: str | None
    video_id: str
    run_id: str
    rows: int


def runs_in(snapshot: DeltaTable, name: str, on: date) -> list[RunRows]:
    """The runs of a partition, in the order in which they are to lie in it."""
    keys = "camera, video_id, run_id"
    sql = f"SELECT {keys}, count(*) AS n FROM {name} WHERE \"date\" = DATE '{on}' GROUP BY {keys}"
    found = [RunRows(*row.values()) for row in run_sql(snapshot, name, sql).to_pylist()]
    return sorted(found, key=lambda run: (run.camera or "", run.video_id, run.run_id))


def rewrite(
    lake: Lake,
    name: str,
    snapshot: DeltaTable,
    on: date,
    runs: Sequence[RunRows],
    bare: Collection[str] = (),
) -> None:
    """Replace a partition, as it is in the snapshot, by the rows of these runs; those of `bare` lose vectors.

    Readers of the old files go on; what was appended since the snapshot makes it fail, so nothing is lost.

    Raises:
        ConflictError: the table was written meanwhile; nothing is changed.
        StorageError: it cannot be read or written; nothing is changed.
    """
    schema = TABLES[name]
    rows = pa.RecordBatchReader.from_batches(schema, _in_order(snapshot, name, on, runs, bare))
    _overwrite(lake, name, snapshot, rows, f"date = '{on}'")


def overwrite(lake: Lake, name: str, where: str) -> int:
    """Write an unpartitioned table anew with the rows that a condition holds for; how many went.

    Raises:
        ConflictError: others kept writing for a minute; nothing is changed.
    """
    for pause in pauses():
        snapshot = lake.table(name)
        kept = run_sql(snapshot, name, f"SELECT * FROM {name} WHERE {where}").cast(TABLES[name])
        gone = snapshot.count() - kept.num_rows
        if not gone:
            return 0
        try:
            _overwrite(lake, name, snapshot, kept.to_reader(), None)
            return int(gone)
        except (ConflictError, TransientError):
            time.sleep(pause)
    raise ConflictError(f"table {name} of lake {lake.location} is written by too many", remedy="try again")


def _overwrite(
    lake: Lake, name: str, snapshot: DeltaTable, rows: pa.RecordBatchReader, predicate: str | None
) -> None:
    what = f"table {name} of lake {lake.location} cannot be written"
    try:
        write_deltalake(
            snapshot,
            rows,
            mode="overwrite",
            predicate=predicate,
            target_file_size=FILE_BYTES,
            writer_properties=writer_properties(name),
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except CommitFailedError as exc:
        raise ConflictError(f"another writer committed to {name} first", remedy=str(exc)) from exc
    except (DeltaError, OSError) as exc:
        raise lake.location.failure(what, exc) from exc
    lake.location.sync_commit(name, snapshot.version())


def _in_order(
    snapshot: DeltaTable, name: str, on: date, runs: Sequence[RunRows], bare: Collection[str]
) -> Iterator[pa.RecordBatch]:
    order = [(key, "ascending") for key in ("camera", "video_id", "run_id")] + list(ORDER[name])
    # The writer asks for batches from a thread of its runtime, in which a query cannot be waited for.
    with ThreadPoolExecutor(1) as reader:
        for group in _groups(runs, _GROUP_ROWS_OF_VECTORS if name in VECTORS else _GROUP_ROWS):
            videos, run_ids = _listed([run.video_id for run in group]), _listed([run.run_id for run in group])
            where = f"\"date\" = DATE '{on}' AND video_id IN ({videos}) AND run_id IN ({run_ids})"
            sql = f"SELECT * FROM {name} WHERE {where}"
            rows = reader.submit(run_sql, snapshot, name, sql).result().cast(TABLES[name]).sort_by(order)
            yield from without_vectors(name, rows, bare).to_batches(max_chunksize=65536)


def _groups(runs: Sequence[RunRows], limit: int) -> Iterator[list[RunRows]]:
    group: list[RunRows] = []
    for run in runs:
        if group and sum(other.rows for other in group) + run.rows > limit:
            yield group
            group = []
        group.append(run)
    if group:
        yield group


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(sorted({quoted(key) for key in keys}))


def adds(snapshot: DeltaTable) -> list[dict[str, Any]]:
    """The files of a snapshot: path, size_bytes, num_records, partition.date."""
    return list(pa.table(snapshot.get_add_actions(flatten=True)).to_pylist())
