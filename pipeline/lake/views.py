"""The views of what is current, as text for other engines.

Two of them are Python, since what reads Delta tables there is a library: polars, and DuckDB over deltalake.
Plain `duckdb` is SQL over DuckDB's own `delta` extension, which it fetches from its server when first loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.lake.current import BASE, current_views
from pipeline.lake.lookup import quoted
from pipeline.lake.tables import Lake


def views(lake_uri: str | os.PathLike[str], engine: str) -> str:
    """Text that makes the views of `marey query` in another engine.

    Args:
        lake_uri: The lake; it must exist, and only its place enters the text.
        engine: One of `ENGINES`.

    Raises:
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
    for table, name in BASE.items():
        path = quoted(lake.location.table(table))
        yield f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM delta_scan({path});"
    yield from _create_views("CREATE OR REPLACE VIEW {}")


def _duckdb_python(lake: Lake) -> Iterator[str]:
    yield "# Python: pip install duckdb deltalake pyarrow. The tables stay as they were when this ran."
    yield from _python_settings(lake)
    yield "import duckdb"
    yield "from deltalake import DeltaTable"
    yield ""
    yield "marey = duckdb.connect()"
    for table, name in BASE.items():
        dataset = f"DeltaTable({lake.location.table(table)!r}).to_pyarrow_dataset()"
        yield f"marey.register({name!r}, {dataset})"
    yield 'marey.execute("""'
    yield from _create_views("CREATE VIEW {}")
    yield '""")'
    yield '# marey.sql("SELECT label, count(*) FROM events GROUP BY label")'


def _polars(lake: Lake) -> Iterator[str]:
    yield "# Python: pip install polars deltalake. The tables stay as they were when this ran."
    yield from _python_settings(lake)
    yield "import polars as pl"
    yield ""
    yield "marey = pl.SQLContext()"
    for table, name in BASE.items():
        path = lake.location.table(table)
        # Polars' own reader does not find files below a name that a URL escapes.
        how = ", use_pyarrow=True" if not _on_s3(lake) and "%" in Path(path).as_uri() else ""
        yield f"marey.register({name!r}, pl.scan_delta({path!r}{how}))"
    for view, select in current_views().items():
        yield f'marey.register({view!r}, marey.execute("""{select}"""))'
    yield '# marey.execute("SELECT label, count(*) FROM events GROUP BY label", eager=True)'


def _spark(lake: Lake) -> Iterator[str]:
    yield "-- Spark SQL with delta-spark on the class path"
    for table, name in BASE.items():
        path = lake.location.table(table).replace("`", "``")
        if _on_s3(lake):
            path = f"s3a{path.removeprefix('s3')}"
        yield f"CREATE OR REPLACE TEMPORARY VIEW {name} AS SELECT * FROM delta.`{path}`;"
    yield from _create_views("CREATE OR REPLACE TEMPORARY VIEW {}", quote="`")


def _trino(lake: Lake) -> Iterator[str]:
    yield "-- Trino, Delta Lake connector as catalog `delta`, with register-table-procedure enabled there;"
    yield "-- its workers must reach the locations."
    yield "CREATE SCHEMA IF NOT EXISTS delta.marey;"
    yield "USE delta.marey;"
    for table, name in BASE.items():
        at = quoted(lake.location.table(table))
        yield f"CALL delta.system.register_table('marey', '{name}', {at});"
    yield from _create_views("CREATE OR REPLACE VIEW {}")


def _athena(lake: Lake) -> Iterator[str]:
    yield "-- Athena, engine version 3. It reads S3 only: the locations must be s3:// ones."
    yield "CREATE DATABASE IF NOT EXISTS marey;"
    for table, name in BASE.items():
        at = quoted(lake.location.table(table))
        yield f"CREATE EXTERNAL TABLE marey.{name} LOCATION {at} TBLPROPERTIES ('table_type' = 'DELTA');"
    yield from _create_views("CREATE OR REPLACE VIEW {}")


def _on_s3(lake: Lake) -> bool:
    return lake.location.table("").startswith("s3://")


def _python_settings(lake: Lake) -> Iterator[str]:
    if _on_s3(lake):
        yield "# Settings and keys: AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN;"
        yield "# for another server than Amazon's AWS_ENDPOINT_URL, and AWS_ALLOW_HTTP=true if that is http://"


def _create_views(create: str, quote: str = '"') -> Iterator[str]:
    for view, select in current_views(quote=quote).items():
        yield f"{create.format(view)} AS {select};"


ENGINES: dict[str, Callable[[Lake], Iterator[str]]] = {
    "duckdb": _duckdb,
    "duckdb-python": _duckdb_python,
    "polars": _polars,
    "spark": _spark,
    "trino": _trino,
    "athena": _athena,
}
"""Engine to the lines of its text."""
