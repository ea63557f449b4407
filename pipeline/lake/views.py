"""The views of what is current, as text for other engines.

Two of them are Python, since what reads Delta tables there is a library: polars, and DuckDB over deltalake.
Plain `duckdb` is SQL over DuckDB's own `delta` extension, which it fetches from its server when first loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pipeline.errors import UsageError
from pipeline.lake.current import BASE, Cells, current_views
from pipeline.lake.lookup import quoted
from pipeline.lake.schema import TABLES, UTC
from pipeline.lake.tables import Lake, lacking

_TRINO = {
    "string": "varchar", "int64": "bigint", "int32": "integer", "double": "double", "float": "real",
    "bool": "boolean", "date32[day]": "date", "binary": "varbinary",
    str(UTC): "timestamp(6) with time zone",
}  # fmt: skip
"""Types of Trino, whose views should have no column of none."""

_ATHENA = {**_TRINO, str(UTC): "timestamp"}

_HOURS = "Hours and days of times are those of UTC, as marey query has them, not of this machine's time zone."
"""Said of a setting, which holds for the session."""

_UNTYPED: Mapping[str, str] = MappingProxyType({})


def views(lake_uri: str | os.PathLike[str], engine: str) -> str:
    """Text that makes the views of `marey query` in another engine.

    Args:
        lake_uri: The lake; it must exist. Its place enters the text, and which columns its tables lack
            because an older program made them: views show them as null until they are printed anew.
        engine: One of `ENGINES`.

    Raises:
        StorageError: the lake cannot be read.
        UsageError: there is no lake, or no such engine.
    """
    if engine not in ENGINES:
        raise UsageError("no views for this engine", got=engine, remedy=f"one of {', '.join(ENGINES)}")
    lake = Lake.open(lake_uri, create=False)
    return "\n".join(ENGINES[engine](lake)) + "\n"


def _duckdb(lake: Lake) -> Iterator[str]:
    yield "-- DuckDB fetches its delta extension once; without network use --engine duckdb-python"
    yield "INSTALL delta;"
    yield "LOAD delta;"
    if _on_s3(lake):
        yield "-- keys as the AWS tools find them; for another server than Amazon's add its"
        yield "-- ENDPOINT 'host:port', URL_STYLE 'path', USE_SSL false"
        yield "INSTALL aws;"
        yield "LOAD aws;"
        yield "CREATE SECRET IF NOT EXISTS (TYPE s3, PROVIDER credential_chain);"
    yield f"-- {_HOURS}"
    yield "SET TimeZone = 'UTC';"
    for table, name in BASE.items():
        path = quoted(lake.location.table(table))
        yield f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM delta_scan({path});"
    yield from _create_views("CREATE OR REPLACE VIEW {}", cells=_lacking(lake))


def _duckdb_python(lake: Lake) -> Iterator[str]:
    yield "# Python: pip install duckdb deltalake pyarrow. The tables stay as they were when this ran."
    yield from _python_settings(lake)
    yield "import duckdb"
    yield "from deltalake import DeltaTable"
    yield ""
    yield "marey = duckdb.connect()"
    yield f"# {_HOURS}"
    yield "marey.execute(\"SET TimeZone = 'UTC'\")"
    for table, name in BASE.items():
        dataset = f"DeltaTable({lake.location.table(table)!r}).to_pyarrow_dataset()"
        yield f"marey.register({name!r}, {dataset})"
    yield 'marey.execute("""'
    yield from _create_views("CREATE VIEW {}", cells=_lacking(lake))
    yield '""")'
    yield '# marey.sql("SELECT label, count(*) FROM events GROUP BY label")'


def _polars(lake: Lake) -> Iterator[str]:
    yield "# Python: pip install polars deltalake pyarrow. The tables stay as they were when this ran."
    yield from _python_settings(lake)
    yield "import polars as pl"
    yield ""
    yield "marey = pl.SQLContext()"
    for table, name in BASE.items():
        path = lake.location.table(table)
        frame = f"pl.scan_delta({path!r})"
        # Polars' own reader does not find files below a name that a URL escapes, and takes `env=prod` in a
        # path for a partition. By pyarrow it counts no rows of which it reads no column, so one is looked
        # at; it is null nowhere.
        if "=" in path or (not _on_s3(lake) and "%" in Path(path).as_uri()):
            rows = f"pl.scan_delta({path!r}, use_pyarrow=True)"
            frame = f"{rows}.filter(pl.col({TABLES[table].names[0]!r}).is_not_null())"
        yield f"marey.register({name!r}, {frame})"
    for view, select in current_views(cells=_lacking(lake)).items():
        yield f'marey.register({view!r}, marey.execute("""{select}"""))'
    yield '# marey.execute("SELECT label, count(*) FROM events GROUP BY label", eager=True)'


def _spark(lake: Lake) -> Iterator[str]:
    yield "-- Spark SQL, 3.2 or later, with delta-spark on the class path"
    yield "-- Its vectorized Parquet reader, up to 4.1 at least, refuses numbers that lie as"
    yield "-- BYTE_STREAM_SPLIT; its other reader takes them. Spark 4.3 does without this setting."
    yield "SET spark.sql.parquet.enableVectorizedReader=false;"
    yield f"-- {_HOURS}"
    yield "SET spark.sql.session.timeZone=UTC;"
    yield "-- Brackets count from 0 in Spark: the first of track_ids is get(track_ids, 0), from 3.4 on."
    for table, name in BASE.items():
        path = lake.location.table(table).replace("`", "``")
        if _on_s3(lake):
            path = f"s3a{path.removeprefix('s3')}"
        yield f"CREATE OR REPLACE TEMPORARY VIEW {name} AS SELECT * FROM delta.`{path}`;"
    yield from _create_views("CREATE OR REPLACE TEMPORARY VIEW {}", quote="`", cells=_lacking(lake))


def _trino(lake: Lake) -> Iterator[str]:
    yield "-- Trino, Delta Lake connector as catalog `delta`, with register-table-procedure enabled there;"
    yield "-- its workers must reach the locations. Tables are registered once, and refused the next time:"
    yield "-- for views that are printed anew, run `trino --ignore-errors --file views.sql`."
    yield "CREATE SCHEMA IF NOT EXISTS delta.marey;"
    yield "USE delta.marey;"
    for table, name in BASE.items():
        at = quoted(lake.location.table(table))
        yield f"CALL delta.system.register_table('marey', '{name}', {at});"
    yield from _create_views("CREATE OR REPLACE VIEW {}", cells=_lacking(lake, _TRINO))


def _athena(lake: Lake) -> Iterator[str]:
    yield "-- Athena, engine version 3. It reads S3 only: the locations must be s3:// ones. Its views hold no"
    yield "-- times with a zone: these are in UTC without saying so."
    yield "CREATE DATABASE IF NOT EXISTS marey;"
    for table, name in BASE.items():
        at = quoted(lake.location.table(table))
        properties = "TBLPROPERTIES ('table_type' = 'DELTA')"
        yield f"CREATE EXTERNAL TABLE IF NOT EXISTS marey.{name} LOCATION {at} {properties};"
    times = {
        (table, field.name): "CAST({} AS timestamp)"
        for table, schema in TABLES.items()
        for field in schema
        if field.type == UTC
    }
    cells = times | _lacking(lake, _ATHENA)
    yield from _create_views("CREATE OR REPLACE VIEW {}", within="marey.", cells=cells)


def _on_s3(lake: Lake) -> bool:
    return lake.location.table("").startswith("s3://")


def _python_settings(lake: Lake) -> Iterator[str]:
    if _on_s3(lake):
        yield "# Settings and keys: AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN;"
        yield "# for another server than Amazon's AWS_ENDPOINT_URL, and AWS_ALLOW_HTTP=true if that is http://"


def _create_views(create: str, quote: str = '"', within: str = "", *, cells: Cells) -> Iterator[str]:
    for view, select in current_views(quote=quote, within=within, cells=cells).items():
        yield f"{create.format(within + view)} AS {select};"


def _lacking(lake: Lake, types: Mapping[str, str] = _UNTYPED) -> dict[tuple[str, str], str]:
    """Nulls for the columns that came after the program that made the lake, cast to an engine's types."""
    lacking_of = {name: lacking(lake.table(name), name) for name in TABLES}
    return {
        (name, field.name): f"CAST(NULL AS {types[str(field.type)]})" if str(field.type) in types else "NULL"
        for name, fields in lacking_of.items()
        for field in fields
    }


ENGINES: dict[str, Callable[[Lake], Iterator[str]]] = {
    "duckdb": _duckdb,
    "duckdb-python": _duckdb_python,
    "polars": _polars,
    "spark": _spark,
    "trino": _trino,
    "athena": _athena,
}
"""Engine to the lines of its text."""
