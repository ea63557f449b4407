"""`query` and the views for other engines: the same answers, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from datetime import UTC
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from pipeline.errors import StorageError, UsageError
from pipeline.lake.current import timestamp
from pipeline.lake.query import query
from pipeline.lake.schema import TABLES
from pipeline.lake.tables import Lake
from pipeline.lake.views import ENGINES, views
from tests.lake.build import analyse, sample_lake, stage_rows

VIEWS = ("videos", "analyses_current", "frames", "detections", "tracks", "objects", "events")
QUESTIONS = {
    "videos": "SELECT uri, video_id, camera, etag FROM videos ORDER BY uri",
    "boxes": "SELECT video_id, sample, x1, y2, score FROM detections ORDER BY video_id, sample, score",
    "join": (
        "SELECT v.camera, e.label, count(*) AS n FROM events AS e "
        "JOIN videos AS v ON e.video_id = v.video_id GROUP BY v.camera, e.label ORDER BY n, v.camera"
    ),
    "times": "SELECT video_id, track_id, start_utc, end_utc FROM objects ORDER BY video_id, track_id",
    "hours": (
        "SELECT date_trunc('hour', start_utc) AS hour, extract(hour FROM start_utc) AS hour_utc, "
        "count(*) AS n FROM events GROUP BY hour, hour_utc ORDER BY hour"
    ),
    "classes": 'SELECT "class", count(*) AS n FROM tracks GROUP BY "class"',
    "attempts": "SELECT video_id, revision, status FROM analyses ORDER BY video_id, revision",
    "number": "SELECT count(*) AS n FROM analyses",
    "all": "SELECT video_id, count(*) AS n FROM tracks_all GROUP BY video_id ORDER BY video_id",
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return sample_lake(tmp_path_factory.mktemp("it's a lake") / "ü lake")


def rows(lake: Lake, sql: str, **options: Any) -> list[dict[str, Any]]:
    return list(query(lake.location.path, sql, **options).to_pylist())


def test_views_show_what_is_current(lake: Lake) -> None:
    expected = {
        "videos": {"v1": 1, "v2": 2, "v3": 1, "new": 1},
        "analyses_current": {"v1": 1, "v2": 1, "v3": 1, "new": 1},
        "frames": {"v1": 20, "v2": 20, "v3": 5, "new": 20},
        "detections": {"v1": 60, "v2": 40, "new": 40},
        "tracks": {"v1": 60, "v2": 40, "new": 40},
        "objects": {"v1": 3, "v2": 2, "new": 2},
        "events": {"v1": 3, "v2": 2, "new": 2},
    }
    for name in VIEWS:
        found = rows(lake, f"SELECT video_id, count(*) AS n FROM {name} GROUP BY video_id")
        assert {row["video_id"]: row["n"] for row in found} == expected[name], name


def test_the_other_names_show_every_row(lake: Lake) -> None:
    found = rows(lake, "SELECT video_id, count(*) AS n FROM tracks_all GROUP BY video_id")
    assert {row["video_id"]: row["n"] for row in found} == {"v1": 100, "v2": 40, "old": 40, "new": 40}
    [states] = rows(lake, "SELECT count(*) AS n, count(DISTINCT video_id) AS v FROM analyses")
    assert states == {"n": 15, "v": 6}
    names = {row["table_name"] for row in rows(lake, "SHOW TABLES")}
    assert {*VIEWS, "videos_all", "frames_all", "events_all", "analyses", "configs"} <= names


def test_strings_are_plain(lake: Lake) -> None:
    table = query(lake.location.path, "SELECT *, struct(uri) AS s, make_array(uri) AS l FROM analyses")
    assert not any("view" in str(kind) for kind in table.schema.types)
    assert table.schema.field("seconds").type == pa.map_(pa.string(), pa.float64())


def test_as_of_shows_the_past(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path)
    before = dt.datetime.now(UTC)
    first = analyse(lake, "v1", "a1")
    between = dt.datetime.now(UTC)
    time.sleep(0.002)
    analyse(lake, "v1", "a2", basis=first.revision, rows=stage_rows(objects=3))
    analyse(lake, "v2", "a2")
    sql = "SELECT count(*) AS n FROM tracks"
    seen = [rows(lake, sql, as_of=at)[0]["n"] for at in (before, between, dt.datetime.now(UTC))]
    assert seen == [0, 40, 100]
    assert [rows(lake, "SELECT count(*) AS n FROM videos", as_of=at)[0]["n"] for at in (before, between)] == [
        0,
        1,
    ]
    ends = [dt.datetime(year, 1, 1, tzinfo=UTC) for year in (1, 9999)]
    assert [rows(lake, sql, as_of=at)[0]["n"] for at in ends] == [0, 100]
    with pytest.raises(ValueError, match="needs a zone"):
        timestamp(dt.datetime(2025, 1, 1))


@pytest.mark.parametrize(
    "sql",
    [
        "COPY videos TO 'out.parquet'",
        "explain analyze copy videos to 'out.parquet'",
        "EXPLAIN (FORMAT tree) COPY videos TO 'x'",
        "SET datafusion.execution.batch_size = 1",
        "create external table x stored as csv location '/etc/passwd'",
        "-- a comment\n/* and\nanother */ drop view videos",
        "insert into analyses select * from analyses",
        "",
        "-- nothing",
    ],
)
def test_what_does_not_read_is_refused(
    lake: Lake, sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"a query only reads.*begin with SELECT or WITH") as caught:
        query(lake.location.path, sql)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT nope FROM videos", "No field named nope"),
        ("SELEKT 1", "a query only reads"),
        ("SELECT 1; SELECT 2", "single SQL statement"),
        ("SELECT * FROM '/etc/passwd'", "not found"),
        ("SELECT 1/0", "Divide by zero"),
        ("SELECT (", "ParserError"),
    ],
)
def test_a_wrong_query_is_told_in_one_line(lake: Lake, sql: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        query(lake.location.path, sql)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1 AS n", " (select 1 AS n)", "with x as (select 1 AS n) select * from x", "/* c */ VALUES (1)"],
)
def test_what_reads_is_allowed(lake: Lake, sql: str) -> None:
    assert query(lake.location.path, sql).num_rows == 1


def test_a_query_about_one_video_looks_for_one_run(lake: Lake) -> None:
    """Its run is what files and row groups are pruned by; video_ids are digests and lie everywhere."""
    sql = "EXPLAIN SELECT * FROM tracks WHERE video_id = 'v3'"
    [plan] = [
        row["plan"] for row in query(lake.location.path, sql).to_pylist() if "physical" in row["plan_type"]
    ]
    of_analyses = [
        line for line in plan.splitlines() if "tracking_run_id" in line and "DataSourceExec" in line
    ]
    assert of_analyses
    assert all("video_id@0 = v3" in line for line in of_analyses)


def test_explain_and_describe_are_allowed(lake: Lake) -> None:
    assert query(lake.location.path, "EXPLAIN SELECT * FROM tracks").num_rows
    assert query(lake.location.path, "DESCRIBE tracks")["column_name"].to_pylist()[0] == "video_id"


def test_a_lost_file_is_the_storages_fault(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path)
    analyse(lake, "v1")
    for file in (tmp_path / "tracks").rglob("*.parquet"):
        file.unlink()
    with pytest.raises(StorageError, match="files cannot be read"):
        query(tmp_path, "SELECT avg(x1) FROM tracks")


def python_session(lake: Lake, engine: str) -> Any:
    scope: dict[str, Any] = {}
    exec(views(lake.location.path, engine), scope)
    return scope["marey"]


def comparable(found: list[dict[str, Any]]) -> str:
    def plain(value: Any) -> Any:
        return value.astimezone(UTC).isoformat() if isinstance(value, dt.datetime) else value

    return json.dumps([{key: plain(value) for key, value in row.items()} for row in found])


@pytest.mark.parametrize("question", list(QUESTIONS))
def test_polars_agrees_with_query(lake: Lake, question: str) -> None:
    session = python_session(lake, "polars")
    found = session.execute(QUESTIONS[question], eager=True).to_dicts()
    assert comparable(found) == comparable(rows(lake, QUESTIONS[question]))


@pytest.mark.parametrize("question", list(QUESTIONS))
def test_duckdb_in_python_agrees_with_query(
    lake: Lake, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")  # five and a half hours on: other hours, other days
    session = python_session(lake, "duckdb-python")
    found = session.sql(QUESTIONS[question]).to_arrow_table().to_pylist()
    assert comparable(found) == comparable(rows(lake, QUESTIONS[question]))


def test_duckdb_sql_agrees_with_query(lake: Lake) -> None:
    """The extension needs a network, so delta_scan is a macro here over its own reading of each table."""
    session = duckdb.connect()
    session.execute("SET TimeZone = 'Asia/Kolkata'")
    text = views(lake.location.path, "duckdb")
    assert "INSTALL delta;\nLOAD delta;\n" in text
    folder = str(lake.location.path).replace("'", "''")
    session.execute(
        "CREATE MACRO delta_scan(path) AS TABLE SELECT * FROM read_parquet(path || '/**/part-*.parquet', "
        "hive_partitioning = true, union_by_name = true)"
    )
    assert f"delta_scan('{folder}/tracks')" in text
    session.execute(text.replace("INSTALL delta;\nLOAD delta;\n", ""))
    for question in ("videos", "boxes", "attempts", "classes", "hours"):
        found = session.sql(QUESTIONS[question]).to_arrow_table().to_pylist()
        assert comparable(found) == comparable(rows(lake, QUESTIONS[question])), question


@pytest.mark.parametrize("engine", list(ENGINES))
def test_every_engine_gets_every_view(lake: Lake, engine: str) -> None:
    text = views(lake.location.path, engine)
    database = "marey[.]" if engine == "athena" else ""
    for view in VIEWS:
        assert re.search(rf"(?:VIEW {database}|register\('){view}\b", text), view
    for table in ("videos", "analyses", "tracks"):
        assert f"/{table}" in text
    sign = "`" if engine == "spark" else '"'
    assert f"{sign}class{sign}, r.score" in text


def test_spark_is_told_to_read_what_its_vectorized_reader_refuses(lake: Lake) -> None:
    """`Unsupported encoding: BYTE_STREAM_SPLIT`, for every column of floats."""
    said = views(lake.location.path, "spark").splitlines()
    settings = [line for line in said if not line.startswith("--")]
    assert settings[0] == "SET spark.sql.parquet.enableVectorizedReader=false;"
    assert settings[1] == "SET spark.sql.session.timeZone=UTC;"
    assert settings[2].startswith("CREATE OR REPLACE TEMPORARY VIEW")


def test_trino_is_told_how_its_text_is_run_again(lake: Lake) -> None:
    """Its register_table knows no IF NOT EXISTS; the rest may be run any number of times."""
    text = views(lake.location.path, "trino")
    assert "trino --ignore-errors --file" in text
    statements = re.sub("^--.*\n", "", text, flags=re.MULTILINE).strip().split(";\n")
    again = ("CREATE SCHEMA IF NOT EXISTS ", "USE ", "CREATE OR REPLACE VIEW ")
    once = [statement for statement in statements if not statement.startswith(again)]
    assert len(once) == len(TABLES)
    assert all(statement.startswith("CALL delta.system.register_table('marey', ") for statement in once)


def test_athena_finds_all_in_its_database_and_takes_the_text_twice(lake: Lake) -> None:
    """DuckDB has its SQL for views; the tables are put where Athena would find them."""
    session = duckdb.connect()
    session.execute("CREATE SCHEMA marey; SET TimeZone = 'UTC'")
    text = re.sub("^--.*\n", "", views(lake.location.path, "athena"), flags=re.MULTILINE)
    for table in re.findall(r"CREATE EXTERNAL TABLE IF NOT EXISTS marey\.(\w+) ", text):
        rows_of = lake.table(table.removesuffix("_all")).to_pyarrow_dataset()
        session.register(f"here_{table}", rows_of)
        session.execute(f"CREATE VIEW marey.{table} AS SELECT * FROM here_{table}")
    for statement in 2 * re.findall(r"CREATE OR REPLACE VIEW[^;]*;", text):
        session.execute(statement)
    for view in VIEWS:
        assert session.sql(f"SELECT count(*) AS n FROM marey.{view}").fetchall() == [
            (rows(lake, f"SELECT count(*) AS n FROM {view}")[0]["n"],)
        ]
    times = "SELECT start_utc, end_utc FROM {}objects ORDER BY video_id, track_id"
    found = session.sql(times.format("marey.")).to_arrow_table()
    assert found.schema.field("start_utc").type == pa.timestamp("us")
    assert [row["end_utc"].replace(tzinfo=UTC) for row in found.to_pylist()] == [
        row["end_utc"] for row in rows(lake, times.format(""))
    ]


def test_an_unknown_engine_is_refused(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"got 'oracle'.*duckdb, duckdb-python, polars, spark, trino, athena"
    ):
        views(lake.location.path, "oracle")
    with pytest.raises(UsageError, match="is not a lake"):
        views(tmp_path, "polars")


def test_polars_reads_a_table_alone(tmp_path: Path) -> None:
    lake = sample_lake(tmp_path)
    assert "use_pyarrow" not in views(tmp_path, "polars")
    frame = pl.scan_delta(lake.location.table("frames")).filter(pl.col("video_id") == "v3").collect()
    assert frame["sample"].sort().to_list() == [0, 1, 2, 3, 4]
