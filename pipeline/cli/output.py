"""Tables on stdout or in files."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.text import printable
from pipeline.errors import StorageError, UsageError
from pipeline.outputs import whole

if TYPE_CHECKING:
    import pyarrow as pa


_BATCH_ROWS = 1000
"""Rows that are Python's objects at once: as these they take ten times the memory and more."""


class Format(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"

    @classmethod
    def of(cls, output: Path | None) -> Format:
        """The one that a file is named after; a table cuts long cells, so nobody wants it as `events.csv`."""
        end = output.suffix.lower().removeprefix(".") if output is not None else ""
        return next((form for form in cls if form == end), cls.table)


def write(rows: pa.Table, form: Format, output: Path | None) -> None:
    """Write rows as text to stdout, or in any format to a file; text has times to the microsecond.

    Raises:
        UsageError: Parquet to a terminal, two columns of one name, a value that the format does not hold, or
            there can be no such file.
        StorageError: the file cannot be written to its end, as on a full disk; what stood there stays.
        OSError: stdout cannot be written.
    """
    if form is Format.parquet and output is None:
        raise UsageError("--format parquet needs --output FILE")
    _check_names(rows.schema, "two columns")
    if output is None:  # its errors are the command's affair
        with _holding(form):
            sys.stdout.writelines(_text(rows, form))
        return
    try:
        with whole(output) as path, _holding(form):
            if form is Format.parquet:
                import pyarrow.parquet as pq

                with path.open("wb") as file:  # pyarrow removes by its name what it cannot write
                    pq.write_table(rows, file)
            else:
                with path.open("w", encoding="utf-8") as text:
                    text.writelines(_text(rows, form))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as exc:
        raise UsageError(f"{output} cannot be written", remedy=exc.strerror or str(exc)) from exc
    except OSError as exc:
        raise StorageError(f"{output} cannot be written", remedy=exc.strerror or str(exc)) from exc


@contextmanager
def _holding(form: Format) -> Iterator[None]:
    """Python's times end with the year 9999, and Parquet has no intervals."""
    import pyarrow as pa

    try:
        yield
    except (OverflowError, pa.ArrowNotImplementedError) as exc:
        remedy = f"CAST it to {'varchar' if form is Format.parquet else 'bigint'}"
        raise UsageError(f"--format {form} does not hold a column's values ({exc})", remedy=remedy) from exc


def _text(rows: pa.Table, form: Format) -> Iterator[str]:
    """The text in pieces, so that its length does not count."""
    from pipeline.lake.types import with_types

    rows = with_types(rows, _microseconds, safe=False)
    _check_times(rows)
    return {Format.table: _table, Format.csv: _csv, Format.json: _json}[form](rows)


def _check_times(rows: pa.Table) -> None:
    """Meet what Python's times do not hold before anything is printed.

    Raises:
        OverflowError: a column has such a time.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for column in rows.columns:
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            for extreme in pc.min_max(column).values():
                extreme.as_py()


def _check_names(fields: Iterable[pa.Field], what: str) -> None:
    """Refuse names that stand twice: JSON would lose the first, and few programs read such a file."""
    import pyarrow as pa

    names = set()
    for field in fields:
        if field.name in names:
            raise UsageError(f"{what} are called {field.name}", remedy="give one another name, with AS")
        names.add(field.name)
        if pa.types.is_struct(field.type):
            _check_names(field.type, f"two fields of {field.name}")


def _microseconds(kind: pa.DataType) -> pa.DataType:
    """The type without nanoseconds: Python's times have none."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_dictionary(kind):
        return _microseconds(kind.value_type)
    return kind


def to_json(value: Any, indent: int | None = 1) -> str:
    """JSON with times in ISO 8601, bytes in base64 and nothing that is not JSON (NaN becomes null)."""
    import base64
    import json
    import math

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(k): plain(v) for k, v in item.items()}
        if isinstance(item, list | tuple):
            return [plain(v) for v in item]
        if isinstance(item, float) and not math.isfinite(item):
            return None
        if isinstance(item, bytes):
            return base64.b64encode(item).decode("ascii")
        if isinstance(item, datetime):  # all alike, or pandas leaves a column of them as text
            return item.isoformat(timespec="microseconds")
        return item.isoformat() if isinstance(item, date) else item

    return json.dumps(plain(value), indent=indent, ensure_ascii=False, default=str)


def _listed(rows: pa.Table) -> Iterator[list[dict[str, Any]]]:
    for batch in rows.to_batches(max_chunksize=_BATCH_ROWS):
        if batch.num_rows:
            yield batch.to_pylist(maps_as_pydicts="lossy")


def _json(rows: pa.Table) -> Iterator[str]:
    before = "["
    for listed in _listed(rows):
        yield before + to_json(listed)[1:-2]  # without the list's own brackets
        before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def _csv(rows: pa.Table) -> Iterator[str]:
    import csv
    import io

    def lines(cells: Iterable[Iterable[Any]]) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(cells)
        return out.getvalue()

    yield lines([rows.schema.names])
    for listed in _listed(rows):
        yield lines([_csv_cell(v) for v in row.values()] for row in listed)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="microseconds")
    return to_json(value, None) if isinstance(value, list | dict) else value


def _table(rows: pa.Table) -> Iterator[str]:
    """Columns side by side, numbers to the right. Rows are read twice: for the widths, and to be written."""
    import pyarrow as pa

    names = rows.schema.names
    right = [pa.types.is_integer(f.type) or pa.types.is_floating(f.type) for f in rows.schema]
    widths = [len(name) for name in names]

    def line(values: list[str]) -> str:
        aligned = zip(values, widths, right, strict=True)
        return "  ".join(v.rjust(w) if r else v.ljust(w) for v, w, r in aligned).rstrip() + "\n"

    def cells() -> Iterator[list[str]]:
        return ([_cell(v) for v in row.values()] for listed in _listed(rows) for row in listed)

    for values in cells():
        widths = [max(width, len(value)) for width, value in zip(widths, values, strict=True)]
    yield line(names)
    yield "  ".join("-" * width for width in widths) + "\n"
    yield from map(line, cells())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    text = printable(str(value))
    return text if len(text) <= 60 else text[:57] + "..."
