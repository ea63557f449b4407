"""Opening, making and appending: what is written, what is refused, and in which words."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.table import TableOptimizer

from pipeline import retry
from pipeline.config import LakeConfig
from pipeline.errors import ConflictError, StorageError, UsageError
from pipeline.lake import records, tables
from pipeline.lake.commit import start_attempts
from pipeline.lake.compact import compact
from pipeline.lake.layout import CHECK_POINTS, COMMITS_PER_CHECK_POINT, PAGE_ROWS
from pipeline.lake.lookup import known_videos
from pipeline.lake.query import query
from pipeline.lake.schema import PARTITIONED, SCHEMA_VERSION, TABLES
from pipeline.lake.tables import Lake
from pipeline.lake.views import views
from pipeline.report.gather import gather
from tests.lake.build import analyse, placed, running, sample_lake, stage_rows


def files_of(path: Path) -> dict[str, int]:
    return {str(file.relative_to(path)): file.stat().st_mtime_ns for file in sorted(path.rglob("*"))}


def test_open_makes_all_tables_with_comments_and_partitions(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path / "a" / "lake")
    for name, schema in TABLES.items():
        table = lake.table(name)
        assert table.metadata().partition_columns == (["date"] if name in PARTITIONED else [])
        stored = {field.name: field.metadata["comment"] for field in table.schema().fields}
        assert stored == {field.name: field.metadata[b"comment"].decode() for field in schema}


def test_open_again_changes_nothing(tmp_path: Path) -> None:
    Lake.open(tmp_path)
    before = {name: mtime for name, mtime in files_of(tmp_path).items() if (tmp_path / name).is_file()}
    Lake.open(tmp_path)
    assert {name: files_of(tmp_path)[name] for name in before} == before


def test_a_lake_half_made_is_completed(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path)
    for name in ("analyses", "events"):
        subprocess.run(["rm", "-r", str(tmp_path / name)], check=True)
    with pytest.raises(UsageError, match="is not a lake"):
        Lake.open(tmp_path, create=False)
    Lake.open(tmp_path)
    assert [lake.table(name).version() for name in TABLES] == [0] * len(TABLES)


@pytest.mark.parametrize("name", ["with space", "ü 🚚", "100%", "a+b", "q?x", "h#x", "a'b", "*"])
def test_odd_paths_work(tmp_path: Path, name: str) -> None:
    lake = Lake.open(tmp_path / name)
    analyse(lake, "v1")
    assert query(tmp_path / name, "SELECT count(*) AS n FROM tracks").to_pylist() == [{"n": 40}]
    assert sorted(os.listdir(tmp_path)) == [name]


@pytest.mark.parametrize("name", ["p%41", "[x]", "a|b", "a^b", "a\\b", "a\nb"])
def test_paths_that_deltalake_misreads_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="choose a path without it"):
        Lake.open(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_file_uri_and_relative_path_are_the_same_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Lake.open("my lake").location == Lake.open((tmp_path / "my lake").as_uri()).location
    assert os.listdir(tmp_path) == ["my lake"]


@pytest.mark.parametrize("uri", ["", "gs://bucket/lake", "file://host/lake"])
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(UsageError, match=r"a lake is a directory or s3://bucket/prefix|empty"):
        Lake.open(uri)


def test_a_file_is_no_lake(tmp_path: Path) -> None:
    file = tmp_path / "lake"
    file.write_text("hello")
    with pytest.raises(StorageError, match=f"lake {file} is not a directory") as caught:
        Lake.open(file)
    assert caught.value.exit_code == 3
    with pytest.raises(StorageError, match=r"cannot be written.*Not a directory"):
        Lake.open(file / "below")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where nobody can write")
def test_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(StorageError, match="lake /proc/lake cannot be written") as caught:
        Lake.open("/proc/lake")
    assert caught.value.exit_code == 3


def test_no_lake_is_named_and_not_made(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match=f"{path}.*marey analyze") as caught:
            Lake.open(path, create=False)
        assert caught.value.exit_code == 2
    assert os.listdir(tmp_path) == []


def test_a_newer_lake_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SCHEMA_VERSION", SCHEMA_VERSION + 6)
    Lake.open(tmp_path)
    monkeypatch.undo()
    for create in (True, False):
        with pytest.raises(
            UsageError, match=f"has schema version {SCHEMA_VERSION + 6}, newer than this program's"
        ):
            Lake.open(tmp_path, create=create)


def test_a_lake_of_an_older_schema_is_read_and_extended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.open(tmp_path)
    analyse(lake, "v1")
    older = [lake.table(name).version() for name in TABLES]
    colour = pa.field("colour", pa.string(), metadata={"comment": "what the next version adds"})
    with monkeypatch.context() as newer:
        newer.setattr(tables, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
        newer.setitem(TABLES, "objects", TABLES["objects"].append(colour))
        sql = "SELECT video_id, colour FROM objects ORDER BY video_id, colour"
        assert query(tmp_path, sql).to_pylist() == [{"video_id": "v1", "colour": None}] * 2
        assert [lake.table(name).version() for name in TABLES] == older, "reading writes nothing"
        extended = Lake.open(tmp_path)
        rows = stage_rows(objects=2)
        rows["objects"] = rows["objects"].append_column(colour, pa.array(["red", "white"]))
        analyse(extended, "v2", rows=rows)
        found = query(tmp_path, sql).to_pylist()
        assert [row["colour"] for row in found] == [None, None, "red", "white"]
        comments = {f.name: f.metadata.get("comment") for f in extended.table("objects").schema().fields}
        assert comments["colour"] == "what the next version adds"
        assert len(comments) == len(TABLES["objects"])
    with pytest.raises(UsageError, match=f"has schema version {SCHEMA_VERSION + 1}, newer than"):
        query(tmp_path, "SELECT 1")


def test_tables_of_the_first_programs_come_to_be_check_pointed_as_new_ones(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path)
    analyse(lake, "v1")
    kept = lake.latest("events")
    for name in TABLES:
        lake.table(name).alter.set_table_properties({CHECK_POINTS: "100"})
    compact(str(tmp_path), LakeConfig(), dry_run=True)
    assert {lake.table(name).metadata().configuration[CHECK_POINTS] for name in TABLES} == {"100"}
    Lake.open(tmp_path)
    assert {lake.table(name).metadata().configuration[CHECK_POINTS] for name in TABLES} == {"10"}
    versions = [lake.table(name).version() for name in TABLES]
    Lake.open(tmp_path)
    assert [lake.table(name).version() for name in TABLES] == versions
    analyse(lake, "v2")  # with what it kept of the tables from before
    assert kept.version() == versions[-1] + 1
    assert query(tmp_path, "SELECT count(*) AS n FROM events").to_pylist() == [{"n": 4}]


def test_transactions_of_old_commits_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check-point held those of all commits that there ever were. Also in a lake that is older."""
    with monkeypatch.context() as older:
        older.setattr(tables, "table_properties", lambda name: {CHECK_POINTS: "10"})
        Lake.open(tmp_path)
    lake, now = Lake.open(tmp_path), time.time
    with monkeypatch.context() as past:
        past.setattr(time, "time", lambda: now() - 8 * 24 * 3600)
        for number in range(3):
            analyse(lake, f"old{number}")
    analyse(lake, "new")
    for name in (*PARTITIONED, "videos", "analyses"):
        lake.table(name).create_checkpoint()
        [file] = (tmp_path / name / "_delta_log").glob("*.checkpoint.parquet")
        kept = [row["txn"] for row in pq.read_table(file).to_pylist() if row["txn"]]
        assert len(kept) == 1, name
    assert start_attempts(lake, [running("old0")])[0].revision == 3


def test_a_snapshot_that_is_kept_is_opened_anew_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grows by what each commit brings: a run over 700 videos held 140 MB more at its end."""
    monkeypatch.setattr(tables, "_KEPT_FOR", 3)
    lake, kept = Lake.open(tmp_path), []
    for number in range(8):
        analyse(lake, f"v{number}")
        kept.append(lake.latest("events"))
    assert [a is b for a, b in pairwise(kept)] == [True, False, True, True, False, True, True]
    assert kept[-1].version() == lake.table("events").version() == 8


def test_small_files_of_a_batch_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at a video's history opens each: over 900 videos their planning and commits doubled in cost."""
    monkeypatch.setattr(tables, "_MERGED_EVERY", 8)
    lake = Lake.open(tmp_path)
    stale = lake.table("analyses")
    ends = [analyse(lake, f"v{number}", rows=stage_rows(2, 1)) for number in range(20)]
    for name, commits in (("analyses", 40), ("videos", 20)):
        assert lake.table(name).version() == commits + commits // 8
        assert len(lake.table(name).file_uris()) <= 8
    found = query(tmp_path, "SELECT video_id, revision, status FROM analyses ORDER BY video_id, revision")
    assert found["video_id"].to_pylist() == sorted(2 * [f"v{number}" for number in range(20)])
    assert found["revision"].to_pylist() == 20 * [1, 2]
    assert found["status"].to_pylist() == 20 * ["running", "ok"]
    # Who decided by what was there before still loses.
    rows = records.analyses_table([ends[3].analysis])
    with pytest.raises(ConflictError):
        lake.append_if_unchanged(stale, "analyses", rows, [("v3", 2)])


def test_putting_files_together_harms_no_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MERGED_EVERY", 2)

    def fails(*_: object, **__: object) -> None:
        raise DeltaError("the server stumbled")

    monkeypatch.setattr(TableOptimizer, "compact", fails)
    lake = Lake.open(tmp_path)
    for number in range(5):
        analyse(lake, f"v{number}", rows=stage_rows(2, 1))
    assert query(tmp_path, "SELECT count(*) AS n FROM analyses").to_pylist() == [{"n": 10}]


def test_a_lake_from_before_thumbnails_is_read_and_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "lake"
    with monkeypatch.context() as older:
        before = pa.schema([field for field in TABLES["videos"] if field.name != "thumbnail"])
        older.setattr(tables, "SCHEMA_VERSION", 1)
        older.setitem(TABLES, "videos", before)
        older.setattr(records, "VIDEOS", before)
        analyse(Lake.open(place), "v1")
    lake = Lake.open(place, create=False)
    sql = "SELECT video_id, thumbnail FROM videos ORDER BY video_id"
    assert query(place, sql).to_pylist() == [{"video_id": "v1", "thumbnail": None}]
    assert known_videos(lake, ["/archive/v1.mp4"])["/archive/v1.mp4"].video_id == "v1"
    assert gather(str(place), "v1").thumbnail is None
    duck: dict[str, Any] = {}
    exec(views(place, "duckdb-python"), duck)
    assert duck["marey"].sql(sql).fetchall() == [("v1", None)]
    polars: dict[str, Any] = {}
    exec(views(place, "polars"), polars)
    assert polars["marey"].execute(sql, eager=True).rows() == [("v1", None)]
    assert "NULL AS thumbnail" in views(place, "duckdb")
    for engine in ("trino", "athena"):
        assert "CAST(NULL AS varbinary) AS thumbnail" in views(place, engine)
    extended = Lake.open(place)
    analyse(extended, "v2", name={"thumbnail": b"jpeg"})
    assert [row["thumbnail"] for row in query(place, sql).to_pylist()] == [None, b"jpeg"]
    assert gather(str(place), "v2").thumbnail == b"jpeg"
    assert known_videos(extended, ["/archive/v2.mp4"])["/archive/v2.mp4"].thumbnail is None, "it is large"


def test_reading_writes_nothing(tmp_path: Path) -> None:
    sample_lake(tmp_path)
    before = files_of(tmp_path)
    assert query(tmp_path, "SELECT count(*) AS n FROM events").to_pylist() == [{"n": 7}]
    assert files_of(tmp_path) == before


def test_rows_must_have_the_tables_columns(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path)
    with pytest.raises(ValueError, match="rows for tracks need columns"):
        lake.append("tracks", stage_rows()["tracks"])
    assert lake.table("tracks").version() == 0


def test_no_rows_make_no_commit(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path)
    lake.append("tracks", TABLES["tracks"].empty_table())
    assert lake.table("tracks").version() == 0


@pytest.mark.parametrize(
    "answer",
    [
        "Invalid table version: 71",
        "Kernel error: Arrow error: External: Object at location /lake/_delta_log/"
        "00000000000000000069.checkpoint.parquet not found: No such file or directory (os error 2)",
    ],
    ids=["lost", "log shortened while it was check-pointed"],
)
def test_an_append_whose_answer_is_lost_is_not_repeated(tmp_path: Path, answer: str) -> None:
    class Deaf(Lake):
        def _write(self, *args: object) -> None:
            super()._write(*args)  # type: ignore[arg-type]
            raise self.location.failure("table tracks cannot be written", DeltaError(answer))

    lake = Deaf.open(tmp_path)
    rows = placed(running("v1"), stage_rows())["tracks"]
    lake.append("tracks", rows)
    assert lake.table("tracks").version() == 1
    assert lake.table("tracks").count() == rows.num_rows


def test_a_writer_removes_no_old_log_entries(tmp_path: Path) -> None:
    """It may lack the right: deploy/policies/writer.json. Compaction does it."""
    lake = Lake.open(tmp_path)
    lake.table("configs").alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    row = {"config_id": "c", "config": "{}", "seen_at": datetime.now(UTC)}
    for _ in range(2 * COMMITS_PER_CHECK_POINT):
        lake.append("configs", pa.Table.from_pylist([row], TABLES["configs"]))
    entries = [name for name in lake.location.names("configs/_delta_log") if name.endswith(".json")]
    assert len(entries) >= 2 * COMMITS_PER_CHECK_POINT


def test_an_append_gives_up_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Outrun(Lake):
        def _write(self, *args: object) -> None:
            raise ConflictError("another was first")

    monkeypatch.setattr(retry, "RETRY_S", 0.05)
    lake = Outrun.open(tmp_path)
    with pytest.raises(ConflictError, match="written by too many"):
        lake.append("tracks", placed(running("v1"), stage_rows())["tracks"])


def test_a_lake_removed_meanwhile_is_an_error(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path / "lake")
    rows = placed(running("v1"), stage_rows())["tracks"]
    (tmp_path / "lake").rename(tmp_path / "away")
    with pytest.raises(StorageError, match="is not there any more"):
        lake.append("tracks", rows)


def test_files_are_written_as_measured(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path)
    analyse(lake, "v1")
    columns = {}
    for name in PARTITIONED:
        [file] = (tmp_path / name / "date=2025-03-01").glob("*.parquet")
        group = pq.ParquetFile(file).metadata.row_group(0)
        for index in range(group.num_columns):
            column = group.column(index)
            assert column.compression == "ZSTD"
            columns[name, column.path_in_schema] = column
    for path in (
        ("detections", "x1"),
        ("detections", "appearance.list.element"),
        ("frames", "t"),
        ("tracks", "y2"),
    ):
        assert "BYTE_STREAM_SPLIT" in columns[path].encodings
    assert "DELTA_BINARY_PACKED" in columns["tracks", "sample"].encodings
    assert columns["tracks", "run_id"].has_dictionary_page
    assert columns["tracks", "sample"].is_stats_set
    assert not columns["frames", "embedding.list.element"].is_stats_set
    logged = lake.table("tracks").get_add_actions(flatten=True).schema.names
    assert {"min.video_id", "max.sample", "min.run_id"} <= set(logged)
    assert "min.x1" not in logged
    assert PAGE_ROWS == 100_000


def test_vectors_survive_exactly(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path)
    rows = stage_rows(seed=3)
    analyse(lake, "v1", rows=rows)
    stored = lake.table("frames").to_pyarrow_table().sort_by("sample")
    assert stored["embedding"].to_pylist() == rows["frames"]["embedding"].to_pylist()
    assert stored["camera_motion"].to_pylist() == rows["frames"]["camera_motion"].to_pylist()


def _open(path: str) -> str:
    Lake.open(path)
    return "ok"


def test_several_programs_make_one_lake(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_open, [str(tmp_path / "lake")] * 6, chunksize=1) == ["ok"] * 6
    assert [DeltaTable(tmp_path / "lake" / name).version() for name in TABLES] == [0] * len(TABLES)


def test_importing_schema_and_package_is_light() -> None:
    code = (
        "import sys, pipeline.lake, pipeline.lake.schema\n"
        "print([m for m in ('deltalake', 'torch', 'duckdb', 'polars', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_query_needs_neither_torch_nor_decoders() -> None:
    code = (
        "import sys, pipeline.lake.query, pipeline.lake.views\n"
        "print([m for m in ('torch', 'av', 'cv2', 'prefect', 'pandas', 'shapely') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pyarrow_reads_every_table(tmp_path: Path) -> None:
    lake = sample_lake(tmp_path)
    for name, schema in TABLES.items():
        dataset = lake.table(name).to_pyarrow_dataset()
        assert dataset.schema.names == schema.names
        assert dataset.to_table().num_rows == lake.table(name).count()
        assert not any(pa.types.is_string_view(kind) for kind in dataset.schema.types)


def test_a_lake_of_other_comments_is_written_and_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments get better with the program; they stand in the tables since these were made."""
    with monkeypatch.context() as older:
        for name, schema in TABLES.items():
            older.setitem(
                TABLES, name, pa.schema([field.with_metadata({"comment": "once"}) for field in schema])
            )
        Lake.open(tmp_path)
    lake = Lake.open(tmp_path)
    analyse(lake, "v1")
    analyse(lake, "v2")
    compact(str(tmp_path), LakeConfig(history_days=0, grace_h=0))
    analyse(lake, "v3")
    assert query(tmp_path, "SELECT count(DISTINCT video_id) AS n FROM objects")["n"].to_pylist() == [3]
    assert {f.metadata["comment"] for f in lake.table("objects").schema().fields} == {"once"}
