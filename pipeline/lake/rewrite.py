"""Tables written anew in one commit: a partition with chosen runs only, in order, or without some rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from pipeline.errors import StorageError
from pipeline.lake.layout import ORDER, VECTORS, writer_properties
from pipeline.lake.lookup import literals, run_sql
from pipeline.lake.schema import TABLES, written
from pipeline.lake.tables import AFTER_COMMIT, Lake
from pipeline.lake.vectors import without_vectors
from pipeline.retry import contended

FILE_BYTES = 128 << 20
"""About the size of the files that come out."""

_GROUP_ROWS = 4_000_000  # sorted in memory at once
_GROUP_ROWS_OF_VECTORS = 400_000
_OF_FILES = ("path", "size_bytes", "num_records", "partition.date")
_BLOCK = 1000  # samples whose rows are counted together, and not parted


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

    Readers of the old files go on; what was appended to the partition since the snapshot makes it fail, so
    nothing is lost.

    Raises:
        ConflictError: the partition was written meanwhile; nothing is changed.
        StorageError: it cannot be read or written; nothing is changed.
    """
    failed: list[Exception] = []

    def in_order() -> Iterator[pa.RecordBatch]:
        try:
            yield from _in_order(snapshot, name, on, runs, bare)
        except Exception as exc:
            failed.append(exc)
            raise

    rows = pa.RecordBatchReader.from_batches(written(name), in_order())
    try:
        _overwrite(lake, name, snapshot, rows, f"date = '{on}'")
    except StorageError:
        if failed:  # deltalake tells of it as text, traceback and all
            raise failed[0] from None
        raise


def remove(lake: Lake, name: str, where: str) -> None:
    """Remove the rows that a condition holds for. The files that hold some are written anew without them.

    `DeltaTable.delete` does the same, and leaves string views, which not every reader can filter by.

    Raises:
        ConflictError: for a minute others kept appending files that may hold such rows; nothing is changed.
        StorageError: it cannot be read or written.
    """

    def once() -> None:
        snapshot = lake.table(name)
        if run_sql(snapshot, name, f"SELECT 1 FROM {name} WHERE {where} LIMIT 1").num_rows:
            _overwrite(lake, name, snapshot, written(name).empty_table().to_reader(), where)

    contended(lake.named(name), once)


def _overwrite(
    lake: Lake, name: str, snapshot: DeltaTable, rows: pa.RecordBatchReader, predicate: str
) -> None:
    """Replace the rows of a snapshot that a predicate holds for.

    Commits since then that cannot concern the predicate, by their partitions and statistics, are passed over.
    """
    lake.let_go(name)
    with lake.committing(name, "cannot be written"):
        write_deltalake(
            snapshot,
            rows,
            mode="overwrite",
            predicate=predicate,
            target_file_size=FILE_BYTES,
            writer_properties=writer_properties(name),
            post_commithook_properties=AFTER_COMMIT,
        )
    lake.location.sync_commit(name, snapshot.version())


def _in_order(
    snapshot: DeltaTable, name: str, on: date, runs: Sequence[RunRows], bare: Collection[str]
) -> Iterator[pa.RecordBatch]:
    order = [(key, "ascending") for key in ("camera", "video_id", "run_id")] + list(ORDER[name])
    limit = _GROUP_ROWS_OF_VECTORS if name in VECTORS else _GROUP_ROWS
    # The writer asks for batches from a thread of its runtime, in which a query cannot be waited for.
    with ThreadPoolExecutor(1) as reader:

        def ask(sql: str) -> pa.Table:
            return reader.submit(run_sql, snapshot, name, sql).result()

        for group in _groups(runs, limit):
            videos = literals(sorted({run.video_id for run in group}))
            run_ids = literals(sorted({run.run_id for run in group}))
            where = f"\"date\" = DATE '{on}' AND video_id IN ({videos}) AND run_id IN ({run_ids})"
            long = sum(run.rows for run in group) > limit and "sample" in TABLES[name].names
            for part in _ranges(name, where, limit, ask) if long else [where]:
                rows = ask(f"SELECT * FROM {name} WHERE {part}").cast(written(name)).sort_by(order)
                yield from without_vectors(name, rows, bare).to_batches(max_chunksize=65536)


def _ranges(name: str, where: str, limit: int, ask: Callable[[str], pa.Table]) -> Iterator[str]:
    """Conditions that part the rows of a long run by `sample`, by which they are ordered first.

    Args:
        name: A table of rows with samples.
        where: What holds for the run's rows.
        limit: Rows of a part, if a block has no more.
        ask: Answers SQL.
    """
    block = f"sample / {_BLOCK}"
    counted = ask(f"SELECT {block} AS block, count(*) AS n FROM {name} WHERE {where} GROUP BY {block}")
    bounds: list[int] = []
    held = 0
    for first, count in sorted(zip(*counted.to_pydict().values(), strict=True)):
        if held and held + count > limit:
            bounds.append(first * _BLOCK)
            held = 0
        held += count
    for low, high in pairwise([None, *bounds, None]):
        above = "" if low is None else f" AND sample >= {low}"
        yield where + above + ("" if high is None else f" AND sample < {high}")


def _groups(runs: Sequence[RunRows], limit: int) -> Iterator[list[RunRows]]:
    group: list[RunRows] = []
    held = 0
    for run in runs:
        if group and held + run.rows > limit:
            yield group
            group, held = [], 0
        group.append(run)
        held += run.rows
    if group:
        yield group


def adds(snapshot: DeltaTable) -> list[dict[str, Any]]:
    """The files of a snapshot: path, size_bytes, num_records and, of a table with dates, partition.date.

    Listing them takes as long as they are many, whatever is asked of them.
    """
    found = pa.table(snapshot.get_add_actions(flatten=True))
    return list(found.select([name for name in _OF_FILES if name in found.column_names]).to_pylist())
