"""`marey query` and `marey views`."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Lake, app, command, put
from pipeline.cli.output import Format, write

AsOf = Annotated[datetime | None, typer.Option("--as-of", help="What was current then (UTC).")]


@command(
    app,
    "query",
    'marey query "select class, count(*) from objects group by class" --lake ./lake',
    "marey query \"select * from events where label = 'gate'\" --output gate.csv",
)
def query_command(
    sql: Annotated[str, typer.Argument(help="A SELECT over the lake's views, in DataFusion's SQL.")],
    lake: Lake = "./lake",
    form: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="How rows are written; else as --output ends, else as table."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of stdout.")] = None,
    as_of: AsOf = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Ask the lake. Views: videos, frames, detections, tracks, objects, events (what is current).

    Everything ever written: analyses, configs, and the views' names with _all.
    """
    from pipeline.lake.query import query

    if as_of is not None and as_of.tzinfo is None:
        as_of = as_of.replace(tzinfo=UTC)
    form = Format.json if as_json else form or Format.of(output)
    write(query(lake, sql, as_of), form, output)


class Engine(StrEnum):
    duckdb = "duckdb"
    duckdb_python = "duckdb-python"
    polars = "polars"
    spark = "spark"
    trino = "trino"
    athena = "athena"


@command(app, "views", "marey views --engine duckdb --lake ./lake > views.sql")
def views_command(
    engine: Annotated[Engine, typer.Option("--engine", "-e", help="For which engine.")],
    lake: Lake = "./lake",
) -> None:
    """Print the views of what is current, for another engine."""
    from pipeline.lake.views import views

    put(views(lake, engine.value))
