"""Vectors of frames and detections: most of a lake's bytes, so they may go before the rows do.

`marey compact` drops them from runs that are older than `lake.keep_vectors_days`. What needs them afterwards
(tracking, event models, a copy for another camera) cannot be made from such a run: a note in the lake says
which runs these are, so that it is known before anything is read.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from pipeline.ids import new_run_id
from pipeline.lake.layout import VECTORS
from pipeline.lake.lookup import run_sql
from pipeline.lake.tables import Lake

FOLDER = "_vectors"
"""Folder of a file whose name sorts above the ids of all runs that may have lost their vectors."""

_BYTES_PER_VALUE = 2  # values are rounded to half precision, and lie so in the files

_TIME_DIGITS = len("01234567-89ab")  # of a UUIDv7 as text


def runs_before(at: datetime) -> str:
    """What sorts above the ids of runs that began before a time, and below all others."""
    since_1970_ms = max(0, int(at.astimezone(UTC).timestamp() * 1000))  # ids know no earlier time
    return new_run_id(since_1970_ms)[:_TIME_DIGITS]


def runs_without(lake: Lake) -> str:
    """A bound: runs whose ids sort below it may have lost their vectors; empty if none has.

    Raises:
        StorageError: the lake cannot be read.
    """
    return max(lake.location.names(FOLDER), default="")


def note_runs_without(lake: Lake, bound: str) -> None:
    """Say that vectors of runs below a bound go, before they do.

    Raises:
        StorageError: the lake cannot be written.
    """
    lake.location.create(f"{FOLDER}/{bound}", b"")
    for name in lake.location.names(FOLDER)[:-1]:
        lake.location.remove(f"{FOLDER}/{name}")


def vector_bytes(snapshot: DeltaTable, name: str, on: date, bound: str) -> dict[str, int]:
    """Runs of a partition below a bound that have vectors, and about how many bytes those take."""
    if name not in VECTORS:
        return {}
    column = VECTORS[name]
    sql = (
        f"SELECT run_id, sum(cardinality({column})) AS n FROM {name} WHERE \"date\" = DATE '{on}' "
        f"AND run_id < '{bound}' AND {column} IS NOT NULL GROUP BY run_id"
    )
    found = run_sql(snapshot, name, sql).to_pylist()
    return {row["run_id"]: int(row["n"] or 0) * _BYTES_PER_VALUE for row in found}


def without_vectors(name: str, rows: pa.Table, runs: Collection[str]) -> pa.Table:
    """The rows, with null for the vectors of some runs."""
    if not runs:
        return rows
    index = rows.schema.get_field_index(VECTORS[name])
    field = rows.schema.field(index)
    gone = pc.is_in(rows["run_id"], value_set=pa.array(sorted(runs), pa.string()))
    kept = pc.if_else(gone, pa.scalar(None, field.type), rows.column(index))
    return rows.set_column(index, field, kept)
