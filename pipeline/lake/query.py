"""SQL over a lake, on the DataFusion inside deltalake."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from pipeline.errors import GoneError, UsageError
from pipeline.lake.current import BASE, current_views, timestamp
from pipeline.lake.reach import whole_since
from pipeline.lake.tables import Lake, lacking
from pipeline.lake.types import with_types
from pipeline.retry import again, patiently

_STORAGE_SIGNS = ("object store error", "parquet error", "object at location")
_SETTINGS = {
    "datafusion.catalog.information_schema": "true",
    # Files of a partition are opened one after the other: more of them hide a server's delay.
    "datafusion.execution.target_partitions": str(max(8, os.cpu_count() or 1)),
}
_READS = ("select", "with", "values", "show", "describe", "desc")
_EXPLAINED = ("select", "with", "values")
_SKIPPED = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/|\()+", re.DOTALL)
_ARROW = {
    "string": "Utf8", "int64": "Int64", "int32": "Int32", "double": "Float64", "float": "Float32",
    "bool": "Boolean", "date32[day]": "Date32", "binary": "Binary",
    "timestamp[us, tz=UTC]": 'Timestamp(Microsecond, Some("UTC"))',
}  # fmt: skip
_WORD = re.compile(r"[a-z]+", re.IGNORECASE)


def query(
    lake_uri: str | os.PathLike[str], sql: str, as_of: datetime | None = None, *, whole: bool = True
) -> pa.Table:
    """Answer one SQL query.

    The views `videos, frames, detections, tracks, objects, events` show what is current, `analyses_current`
    the analyses that say so; `videos_all, frames_all, ...` and the tables `analyses` and `configs` all rows.

    Args:
        lake_uri: The lake. It is only read.
        sql: One statement that reads.
        as_of: Show what was current then: commits up to this time.
        whole: Refuse an `as_of` of which compaction has dropped rows since.

    Raises:
        StorageError: the lake cannot be read.
        UsageError: there is no lake, or the query is wrong; DataFusion's message in one line.
    """
    return Reading(lake_uri, as_of, whole=whole)(sql)


class Reading:
    """Answers queries, as `query` does, from one state of a lake, whose tables are opened once.

    Opening a table costs some thirty requests on S3. Where files of that state went meanwhile, or the keys
    to them were renewed, the newest state is taken. Not for several threads.
    """

    def __init__(
        self, lake_uri: str | os.PathLike[str], as_of: datetime | None = None, *, whole: bool = True
    ) -> None:
        """Prepare; arguments as of `query`. The lake is opened when it is first asked."""
        self._uri, self._as_of, self._whole = lake_uri, as_of, whole
        self._lake: Lake | None = None
        self._options: dict[str, str] = {}
        self._tables: dict[str, DeltaTable] = {}

    @classmethod
    def of(cls, lake: str | Reading) -> Reading:
        """A lake that is given by its URI, or is read already."""
        return lake if isinstance(lake, Reading) else cls(lake)

    def __str__(self) -> str:
        return os.fspath(self._uri)

    def __call__(self, sql: str) -> pa.Table:
        """Answer one query; errors are those of `query`."""
        check_reads(sql)
        return with_types(_interruptibly(lambda: again(lambda: self._answer(sql))), _plain)

    def _answer(self, sql: str) -> pa.Table:
        lake = self._opened()
        try:
            return patiently(lambda: _run(lake, self._builder(lake, _mentioned(sql)), sql))
        except GoneError:
            self._lake = None
            raise

    def _opened(self) -> Lake:
        if self._lake is None or self._lake.location.storage_options != self._options:
            lake, analyses = Lake.find(self._uri)
            if self._as_of is not None and self._whole:
                _check_history(lake, self._as_of)
            self._options, self._tables = lake.location.storage_options, {"analyses": analyses}
            self._lake = lake
        return self._lake

    def _builder(self, lake: Lake, tables: Sequence[str]) -> QueryBuilder:
        # The rows of whatever `analyses` calls current are in the tables read after it.
        for name in tables:
            if name not in self._tables:
                self._tables[name] = lake.table(name)
        return _builder(lake, {name: self._tables[name] for name in tables}, self._as_of)


def _interruptibly(call: Callable[[], pa.Table]) -> pa.Table:
    """The result of a call during which this thread can be interrupted; the call's own ends with the process.

    Python sees no signal while DataFusion works, so a join that was wrong could be ended by SIGKILL alone.
    """
    result: Future[pa.Table] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as exc:
            result.set_exception(exc)

    threading.Thread(target=work, name="query", daemon=True).start()
    return result.result()


def _check_history(lake: Lake, as_of: datetime) -> None:
    since = whole_since(lake)
    if since is not None and as_of < since:
        remedy = "ask for a later time; lake.history_days says how long compaction keeps it"
        raise UsageError(
            f"the lake is whole since {since:%Y-%m-%d %H:%M:%S} UTC only", got=str(as_of), remedy=remedy
        )


def check_reads(sql: str) -> None:
    """Refuse what is no reading statement.

    Raises:
        UsageError: it begins with another word, such as COPY, SET or CREATE.
    """
    words = _first_words(sql, 4)
    if words[:1] == ["explain"]:
        inner = [word for word in words[1:] if word not in ("analyze", "verbose")]
        allowed = bool(inner) and inner[0] in _EXPLAINED
    else:
        allowed = bool(words) and words[0] in _READS
    if not allowed:
        got = " ".join(sql.split())[:80]
        raise UsageError("a query only reads", got=got, remedy="begin with SELECT or WITH")


def _mentioned(sql: str) -> list[str]:
    """The tables that a query may need, `analyses` first; opening the others would only take time."""
    words = set(re.findall(r"\w+", sql.lower()))
    every = bool(words & {"show", "information_schema"})
    others = [name for name in BASE if name not in ("analyses", "videos")]
    return ["analyses", "videos", *(n for n in others if every or words & {n, BASE[n]})]


def _builder(lake: Lake, tables: Mapping[str, DeltaTable], as_of: datetime | None) -> QueryBuilder:
    builder = QueryBuilder(_SETTINGS)
    for name, snapshot in tables.items():
        if not (missing := lacking(snapshot, name)):
            builder.register(BASE[name], snapshot)
            continue
        builder.register(f"{name}_older", snapshot)  # of an older schema: later columns are null
        nulls = ", ".join(f'{_null(field.type)} AS "{field.name}"' for field in missing)
        _run(lake, builder, f"CREATE VIEW {BASE[name]} AS SELECT *, {nulls} FROM {name}_older")
    for view, select in current_views(timestamp(as_of) if as_of else None).items():
        if view in (*tables, "analyses_current"):
            _run(lake, builder, f"CREATE VIEW {view} AS {select}")
    return builder


def _null(kind: pa.DataType) -> str:
    name = _ARROW.get(str(kind))
    return f"arrow_cast(NULL, '{name}')" if name else "NULL"


def _run(lake: Lake, builder: QueryBuilder, sql: str) -> pa.Table:
    try:
        return pa.RecordBatchReader.from_stream(builder.execute(sql)).read_all()
    except Exception as exc:  # DataFusion's errors come as DeltaError, ArrowInvalid and bare Exception
        message = " ".join(str(exc).split()) or type(exc).__name__
        if any(sign in message.lower() for sign in _STORAGE_SIGNS):
            raise lake.location.failure("the lake's files cannot be read", exc) from exc
        raise UsageError("the query failed", remedy=message) from exc


def _first_words(sql: str, count: int) -> list[str]:
    words: list[str] = []
    at = 0
    while len(words) < count:
        if skipped := _SKIPPED.match(sql, at):
            at = skipped.end()
        if not (word := _WORD.match(sql, at)):
            break
        words.append(word.group().lower())
        at = word.end()
    return words


def _plain(kind: pa.DataType) -> pa.DataType:
    """Strings for string views, which many programs do not read."""
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    return kind
