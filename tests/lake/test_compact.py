"""Compaction: what goes, what stays, how it lies, and beside whom."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pydantic import ValidationError

from pipeline.config import LakeConfig
from pipeline.errors import StorageError, UsageError
from pipeline.ids import new_run_id
from pipeline.lake import compact as module
from pipeline.lake import rewrite as rewriting
from pipeline.lake.commit import Decision, Ending, commit, start_attempts
from pipeline.lake.compact import compact
from pipeline.lake.layout import ORDER
from pipeline.lake.lookup import find_perceptions, histories
from pipeline.lake.query import query
from pipeline.lake.records import analyses_table, names_table
from pipeline.lake.rewrite import adds
from pipeline.lake.schema import PARTITIONED, TABLES
from pipeline.lake.tables import Lake
from tests.lake.build import (
    DAY,
    analyse,
    ending,
    finished,
    name_of,
    placed,
    running,
    sample_lake,
    stage_rows,
)
from tests.s3 import Server

AT_ONCE = LakeConfig(grace_h=0, history_days=0)
USUAL = LakeConfig()


def seen(lake: Lake, suffix: str = "") -> dict[str, list[str]]:
    """All rows of the big tables, in no order."""
    uri = str(lake.location)
    return {
        name: sorted(map(repr, query(uri, f"SELECT * FROM {name}{suffix}").to_pylist()))
        for name in PARTITIONED
    }


def append(lake: Lake, video_id: str, **values: Any) -> str:
    """Rows of a worker that has not committed them; returns their run."""
    row = replace(running(video_id), **{"run_id": new_run_id(), **values})
    for name, rows in placed(row, stage_rows()).items():
        lake.append(name, rows)
    return row.run_id


def old_run(hours: float) -> str:
    return new_run_id(int((datetime.now(UTC) - timedelta(hours=hours)).timestamp() * 1000))


def test_what_is_current_stays_and_nothing_else(home: str) -> None:
    lake = sample_lake(home)
    time.sleep(1.1)
    append(lake, "dead")
    before = seen(lake)
    assert before != seen(lake, "_all")
    results = compact(home, AT_ONCE)
    assert {result.date: result.state for result in results} == {
        date(2025, 3, 1): "rewritten",
        date(2025, 3, 2): "kept",
    }
    assert seen(lake) == before
    assert seen(lake, "_all") == before
    for name in PARTITIONED:
        files = [add["partition.date"] for add in adds(lake.table(name))]
        assert len(files) == len(set(files)), "one file per date"
    assert {result.state for result in compact(home, AT_ONCE)} == {"kept"}
    analyse(lake, "v9")
    compact(home, AT_ONCE)
    assert seen(lake) == seen(lake, "_all")


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    lake = sample_lake(tmp_path)
    time.sleep(1.1)  # one of its names was seen a second later than it was written
    versions = [lake.table(name).version() for name in TABLES]
    told = compact(str(tmp_path), AT_ONCE, dry_run=True)
    assert [lake.table(name).version() for name in TABLES] == versions
    assert lake.location.names("_history") == []
    done = compact(str(tmp_path), AT_ONCE)
    assert done == told
    tracks = {result.date: (result.rows, result.rows_dropped) for result in done if result.table == "tracks"}
    assert tracks == {date(2025, 3, 1): (40 + 60 + 40 + 0 + 40, 40 + 40), date(2025, 3, 2): (40, 0)}


def test_what_was_current_lately_stays(tmp_path: Path) -> None:
    lake = sample_lake(tmp_path)
    everything = seen(lake, "_all")
    assert sum(result.rows_dropped for result in compact(str(tmp_path), USUAL)) == 0
    assert seen(lake, "_all") == everything


class Added(int):
    """A number that counts how often such are added up."""

    times = 0

    def __radd__(self, other: int) -> int:
        Added.times += 1
        return int(self) + other


def test_many_runs_of_a_date_are_gone_through_once() -> None:
    """Of a day's 72,000 short videos they were added up billions of times, once for each before each."""
    runs = [rewriting.RunRows(None, str(n), str(n), Added(2)) for n in range(1000)]
    for limit, sizes in ((5000, [1000]), (7, [3] * 333 + [1]), (1, [1] * 1000)):
        Added.times = 0
        groups = list(rewriting._groups(runs, limit))
        assert [len(group) for group in groups] == sizes
        assert [run for group in groups for run in group] == runs
        assert Added.times <= 2 * len(runs)


def test_files_are_listed_once_whatever_the_number_of_dates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, listed = Lake.open(tmp_path), DeltaTable.get_add_actions
    for day in range(1, 5):
        analyse(lake, f"v{day}", date=date(2025, 3, day))
    asked: list[str] = []

    def counted(self: DeltaTable, flatten: bool = False) -> Any:
        asked.append(self.table_uri.rstrip("/").rpartition("/")[2])
        return listed(self, flatten)

    monkeypatch.setattr(DeltaTable, "get_add_actions", counted)
    assert len(compact(str(tmp_path), USUAL)) == 4 * len(PARTITIONED)
    assert {name: asked.count(name) for name in PARTITIONED} == dict.fromkeys(PARTITIONED, 1)


def test_rows_lie_in_order(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path)
    for number in (2, 0, 1):
        analyse(lake, f"v{number}", rows=stage_rows(seed=number))
    compact(str(tmp_path), USUAL)
    [file] = lake.table("tracks").file_uris()
    keys = pq.read_table(file, columns=["video_id", "sample", "track_id"], partitioning=None).to_pylist()
    lying = [tuple(row.values()) for row in keys]
    assert lying == sorted(lying)
    assert len(lying) == 120


def test_a_long_video_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows lie in order however its times leap, and no more of them are in memory at once than may be."""
    rows = stage_rows(samples=90, objects=3)
    leaps = pa.array([n + 10**12 * (n > 40) for n in range(90) for _ in range(3)])
    for name in ("detections", "tracks"):
        table = rows[name]
        rows[name] = table.set_column(table.schema.get_field_index("sample"), "sample", leaps)
    lake = Lake.open(tmp_path)
    analyse(lake, "long", rows=rows)
    analyse(lake, "short", rows=stage_rows(samples=5))
    before, ask = seen(lake), rewriting.run_sql
    asked: list[int] = []

    def noted(snapshot: DeltaTable, name: str, sql: str) -> pa.Table:
        found = ask(snapshot, name, sql)
        asked.append(found.num_rows)
        return found

    for constant, value in (("_GROUP_ROWS", 40), ("_GROUP_ROWS_OF_VECTORS", 40), ("_BLOCK", 4)):
        monkeypatch.setattr(rewriting, constant, value)
    monkeypatch.setattr(rewriting, "run_sql", noted)
    for name in PARTITIONED:
        snapshot = lake.table(name)
        runs = rewriting.runs_in(snapshot, name, DAY)
        written = pa.Table.from_batches(rewriting._in_order(snapshot, name, DAY, runs, ()))
        assert written.num_rows == sum(run.rows for run in runs)
        assert written.equals(written.sort_by([("video_id", "ascending"), *ORDER[name]])), name
    compact(str(tmp_path), USUAL)
    assert seen(lake) == before
    assert max(asked) <= 40


def test_rows_that_cannot_be_read_are_told_in_one_line(tmp_path: Path) -> None:
    """And as what they are, not as what they are to deltalake, which was to write them."""
    for video in ("v1", "v2"):
        analyse(Lake.open(tmp_path), video)
    file = next((tmp_path / "tracks").glob("date=*/*.parquet"))
    group = pq.ParquetFile(file).metadata.row_group(0)
    columns = (group.column(n) for n in range(group.num_columns))
    column = next(column for column in columns if column.path_in_schema == "x1")
    data = bytearray(file.read_bytes())
    page = slice(column.data_page_offset, column.data_page_offset + column.total_compressed_size)
    data[page] = b"\xff" * column.total_compressed_size
    file.write_bytes(data)
    with pytest.raises(StorageError, match=r"^table tracks cannot be read: ") as caught:
        compact(str(tmp_path), USUAL)
    assert "Traceback" not in str(caught.value)


def test_rows_that_someone_may_still_name_stay(tmp_path: Path) -> None:
    """Young ones, and those of an attempt under way however old; no others."""
    lake = Lake.open(tmp_path)
    young = append(lake, "young")
    [attempt] = start_attempts(lake, [running("old", started_at=datetime.now(UTC) - timedelta(hours=30))])
    old = append(lake, "old", run_id=old_run(29))
    dead = append(lake, "dead", run_id=old_run(30))
    compact(str(tmp_path), LakeConfig(grace_h=31))
    runs = "SELECT DISTINCT run_id FROM tracks_all"
    assert set(query(tmp_path, runs)["run_id"].to_pylist()) == {young, old, dead}
    compact(str(tmp_path), LakeConfig(grace_h=30.5))
    assert set(query(tmp_path, runs)["run_id"].to_pylist()) == {young, old, dead}
    told = compact(str(tmp_path), LakeConfig(grace_h=24), dry_run=True)
    assert compact(str(tmp_path), LakeConfig(grace_h=24)) == told
    assert query(tmp_path, runs)["run_id"].to_pylist() == [young]
    rows = histories(lake, ["old"])["old"].rows
    assert [(row.status, row.error_code) for row in rows] == [("running", None), ("abandoned", "lost")]
    # The worker wakes up: its rows are gone, and it is told so.
    late = ending(finished(replace(attempt, run_id=old)))
    [outcome] = commit(lake, [replace(late, rows={})])
    assert outcome.decision is Decision.ABANDONED
    assert query(tmp_path, "SELECT count(*) AS n FROM tracks").to_pylist() == [{"n": 0}]


def test_a_worker_that_commits_while_it_is_given_up_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at its attempt and the row that abandons it."""
    lake = Lake.open(tmp_path)
    [attempt] = start_attempts(lake, [running("v1", started_at=datetime.now(UTC) - timedelta(hours=30))])
    row = finished(attempt)
    for name, rows in placed(row, stage_rows()).items():
        lake.append(name, rows)

    def first(lake: Lake, endings: list[Ending]) -> Any:
        commit(lake, [replace(ending(row), rows={})])
        return commit(lake, endings)

    monkeypatch.setattr(module, "commit", first)
    compact(str(tmp_path), USUAL)
    assert query(tmp_path, "SELECT count(*) AS n FROM tracks").to_pylist() == [{"n": 40}]
    assert [row.status for row in histories(lake, ["v1"])["v1"].rows] == ["running", "ok"]


def test_rows_appended_meanwhile_are_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The partition was read, then written to: it is read again."""
    lake = Lake.open(tmp_path)
    for video in ("v1", "v2"):
        analyse(lake, video)
    original, calls = module.rewrite, []

    def late(*arguments: Any) -> None:
        if not calls:
            analyse(lake, "v3")
        calls.append(arguments[1])
        original(*arguments)

    monkeypatch.setattr(module, "rewrite", late)
    compact(str(tmp_path), AT_ONCE)
    assert len(calls) == len(PARTITIONED) + 1
    for name, number in (("frames", 60), ("tracks", 120), ("events", 6)):
        assert query(tmp_path, f"SELECT count(*) AS n FROM {name}").to_pylist() == [{"n": number}]


def test_what_is_written_to_other_dates_disturbs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.open(tmp_path)
    for video in ("v1", "v2"):
        analyse(lake, video)
    original, calls = module.rewrite, []

    def late(*arguments: Any) -> None:
        calls.append(arguments[1])
        analyse(lake, f"x{len(calls)}", date=date(2025, 4, len(calls)))
        original(*arguments)

    monkeypatch.setattr(module, "rewrite", late)
    compact(str(tmp_path), AT_ONCE)
    assert sorted(calls) == sorted(PARTITIONED), "each once"
    monkeypatch.undo()
    for name, number in (("frames", 20), ("tracks", 40), ("events", 2)):
        found = query(tmp_path, f"SELECT count(*) AS n FROM {name}").to_pylist()
        assert found == [{"n": number * (2 + len(calls))}]


def test_a_superseded_result_is_told_to_be_dropped_before_its_rows_go(tmp_path: Path) -> None:
    lake = sample_lake(tmp_path)
    time.sleep(1.1)
    compact(str(tmp_path), USUAL)
    assert [row.status for row in histories(lake, ["old"])["old"].rows] == ["running", "ok"]
    # Whoever is at work may have planned on it.
    [attempt] = start_attempts(lake, [running("old", uri="/archive/replaced.mp4")])
    compact(str(tmp_path), LakeConfig(history_days=0))
    assert len([row for row in seen(lake, "_all")["tracks"] if "'old'" in row]) == 40
    commit(lake, [Ending(analysis=attempt.ended("abandoned"))])
    for _ in range(2):
        compact(str(tmp_path), AT_ONCE)
        history = histories(lake, ["old"])["old"]
        assert [row.status for row in history.rows] == ["running", "ok", "running", "abandoned", "dropped"]
        assert history.current is None
    assert find_perceptions(lake, ["ab"])["ab"].video_id != "old"
    # It comes back: what was planned on the old result leans on rows that are gone.
    [attempt] = start_attempts(lake, [running("old", uri="/archive/replaced.mp4")])
    leaning = replace(ending(finished(attempt), basis=2), rows={})
    assert commit(lake, [leaning])[0].decision is Decision.OVERTAKEN
    before = seen(lake)
    assert not [row for row in before["tracks"] if "'old'" in row]
    later = {"etag": "3", "seen_at": datetime.now(UTC) + timedelta(seconds=2)}
    lake.append("videos", names_table([name_of(attempt, **later)]))
    assert seen(lake) == before, "a version that is not analysed hides nothing"
    assert analyse(lake, "old", uri="/archive/replaced.mp4").decision is Decision.COMMITTED
    assert [row for row in seen(lake)["tracks"] if "'old'" in row]


def test_a_reader_of_the_old_files_finishes(tmp_path: Path) -> None:
    lake = sample_lake(tmp_path)
    old = lake.table("tracks")
    compact(str(tmp_path), AT_ONCE)
    assert old.to_pyarrow_table().num_rows == 220


def test_as_of_reaches_as_far_as_rows_are_kept(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path)
    first = analyse(lake, "v1")
    between = datetime.now(UTC)
    analyse(lake, "v1", "a2", basis=first.revision, rows=stage_rows(objects=3))
    count = "SELECT count(*) AS n FROM tracks"
    for _ in range(2):
        assert query(tmp_path, count, between).to_pylist() == [{"n": 40}]
        compact(str(tmp_path), USUAL)
    compact(str(tmp_path), AT_ONCE)
    with pytest.raises(UsageError, match=r"the lake is whole since .* UTC only .*history_days"):
        query(tmp_path, count, between)
    assert query(tmp_path, count, datetime.now(UTC)).to_pylist() == [{"n": 60}]
    assert len(lake.location.names("_history")) == 1


def test_what_was_current_again_by_a_later_name_stays(tmp_path: Path) -> None:
    """Written over, found again as a copy, and analysed anew."""
    lake, now = Lake.open(tmp_path), datetime.now(UTC)

    def analysed(video_id: str, days: float, revision: int, **values: Any) -> None:
        at = now - timedelta(days=days)
        run = new_run_id(int(at.timestamp() * 1000))
        attempt = running(video_id, run_id=run, attempt_id=run, uri="/latest.mp4", started_at=at)
        rows = [
            replace(row, revision=revision + n, committed_at=at)
            for n, row in enumerate((attempt, finished(attempt)))
        ]
        lake.append("analyses", analyses_table(rows))
        for name, table in placed(attempt, stage_rows()).items():
            lake.append(name, table)
        lake.append("videos", names_table([name_of(attempt, seen_at=at, **values)]))

    analysed("v1", 9, 1)
    analysed("v2", 8, 1)
    analysed("v1", 2, 3, uri="/archive/1.mp4")
    copy = name_of(running("v1", uri="/archive/1.mp4"), seen_at=now - timedelta(days=3))
    lake.append("videos", names_table([copy]))
    count, between = "SELECT count(DISTINCT run_id) AS n FROM tracks", now - timedelta(days=2.5)
    assert query(tmp_path, count, between).to_pylist() == [{"n": 2}]
    compact(str(tmp_path), USUAL)
    assert query(tmp_path, count, between).to_pylist() == [{"n": 2}]


def test_what_was_current_when_the_history_begins_stays(tmp_path: Path) -> None:
    """It became so long before, and is superseded within the history."""
    lake, now = Lake.open(tmp_path), datetime.now(UTC)
    old, long_ago = old_run(240), now - timedelta(days=10)
    row = finished(running("v1", run_id=old, attempt_id=old), revision=1, committed_at=long_ago)
    for name, rows in placed(row, stage_rows()).items():
        lake.append(name, rows)
    lake.append("analyses", analyses_table([row]))
    lake.append("videos", names_table([name_of(row, seen_at=long_ago)]))
    analyse(lake, "v1", "a2", basis=1, rows=stage_rows(objects=3))
    count = "SELECT count(*) AS n FROM tracks"
    compact(str(tmp_path), LakeConfig(history_days=7, grace_h=0))
    assert query(tmp_path, count, now - timedelta(days=6)).to_pylist() == [{"n": 40}]
    compact(str(tmp_path), AT_ONCE)
    assert query(tmp_path, f"{count}_all").to_pylist() == query(tmp_path, count).to_pylist() == [{"n": 60}]


def test_what_a_killed_compaction_left_tells_nothing(tmp_path: Path) -> None:
    """A file of its own that never got its name, and a name of a time that none can be asked for."""
    analyse(Lake.open(tmp_path), "v1")
    compact(str(tmp_path), USUAL)
    left = [tmp_path / "_history" / name for name in (".0123456789abcdef.tmp", "9311002T161507069195")]
    for file in left:
        file.touch()
    assert query(tmp_path, "SELECT count(*) AS n FROM videos", datetime.now(UTC)).to_pylist() == [{"n": 1}]
    compact(str(tmp_path), USUAL)
    assert not any(file.exists() for file in left)
    with pytest.raises(UsageError, match="the lake is whole since"):
        query(tmp_path, "SELECT 1 FROM videos", datetime(2001, 2, 3, tzinfo=UTC))


@pytest.mark.parametrize("days", ["history_days", "keep_vectors_days"])
def test_the_longest_spans_are_within_the_calendar(tmp_path: Path, days: str) -> None:
    analyse(Lake.open(tmp_path), "v1")
    compact(str(tmp_path), LakeConfig(**{days: 36_500.0, "grace_h": 24 * 36_500.0}))
    assert query(tmp_path, "SELECT count(*) AS n FROM tracks").to_pylist() == [{"n": 40}]
    assert query(tmp_path, "SELECT count(appearance) AS n FROM detections").to_pylist() == [{"n": 40}]
    for key, value in ((days, 400_000), ("grace_h", 1e9)):
        with pytest.raises(ValidationError, match="less than or equal to"):
            LakeConfig(**{key: value})


def test_events_of_a_reinterpretation_replace_the_first_ones(tmp_path: Path) -> None:
    """The first run stays current in the other tables."""
    lake = Lake.open(tmp_path)
    old = analyse(lake, "v1").analysis
    [attempt] = start_attempts(lake, [running("v1")])
    runs = {"perception_run_id": old.perception_run_id, "tracking_run_id": old.tracking_run_id}
    events = {"events": stage_rows(objects=5, seed=9)["events"]}
    commit(lake, [ending(replace(finished(attempt, "a2"), **runs), 2, events)])
    compact(str(tmp_path), AT_ONCE)
    assert seen(lake) == seen(lake, "_all")
    assert {name: len(rows) for name, rows in seen(lake).items()}["events"] == 5


@pytest.mark.parametrize("bucket", [False, True])
def test_segments_that_no_commit_will_need_go(tmp_path: Path, bucket: bool, s3_server: Server) -> None:
    """Of a config, or a version of a video, that was given up after a worker had died."""
    place = f"s3://{s3_server.bucket()}/lake" if bucket else str(tmp_path)
    lake = Lake.open(place)
    analyse(lake, "v1")  # current, under another perception
    long_ago = datetime(2025, 3, 1, tzinfo=UTC)
    start_attempts(lake, [running("v1", perception_id="ef", started_at=long_ago)])
    for perception in ("ef", "0f"):
        lake.location.create(f"_staging/{perception}/0-9.parquet", b"")
    compact(place, USUAL)  # abandons the attempt
    assert lake.location.names("_staging") == ["0f/0-9.parquet", "ef/0-9.parquet"]
    start_attempts(
        lake, [running("v2", perception_id="0f", started_at=datetime.now(UTC) + timedelta(hours=1))]
    )
    time.sleep(1.1)  # a bucket's times are whole seconds
    compact(place, AT_ONCE)
    assert lake.location.names("_staging") == ["0f/0-9.parquet"]


def test_segments_stay_as_long_as_one_of_their_perception_is_young(tmp_path: Path) -> None:
    """That is, within the history and the grace."""
    lake = Lake.open(tmp_path)
    for name, days in (("ef/0-9", 400), ("ef/10-19", 0), ("ef/20-29", 400), ("0f/0-9", 400), ("1f/0-9", 3)):
        lake.location.create(f"_staging/{name}.parquet", b"")
        at = time.time() - days * 86_400
        os.utime(tmp_path / "_staging" / f"{name}.parquet", (at, at))
    compact(str(tmp_path), USUAL)
    kept = ["1f/0-9", "ef/0-9", "ef/10-19", "ef/20-29"]
    assert lake.location.names("_staging") == [f"{name}.parquet" for name in kept]
    compact(str(tmp_path), LakeConfig(history_days=2))
    assert lake.location.names("_staging") == [f"{name}.parquet" for name in kept[1:]]


def test_small_tables_and_staging_are_tidied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake.open(tmp_path)
    for number in range(13):
        analyse(lake, f"v{number}")
    for perception in ("ab", "cd"):  # that of `finished`, and one under way
        lake.location.create(f"_staging/{perception}/0-9.parquet", b"")
    an_hour_ago = time.time() - 3600
    os.utime(tmp_path / "_staging" / "ab" / "0-9.parquet", (an_hour_ago, an_hour_ago))
    before = query(tmp_path, "SELECT * FROM analyses ORDER BY video_id, revision")
    compact(str(tmp_path), USUAL)
    assert lake.location.names("_staging") == ["cd/0-9.parquet"]
    assert len(lake.table("analyses").file_uris()) == 1
    assert query(tmp_path, "SELECT * FROM analyses ORDER BY video_id, revision").equals(before)
    assert (tmp_path / "analyses" / "_delta_log" / "_last_checkpoint").exists()
    [outcome] = [analyse(lake, "v1", "other", basis=2)]
    assert (outcome.decision, outcome.revision) == (Decision.COMMITTED, 4)
    # A perception that is committed may be made anew, where something of it was lost.
    [again] = start_attempts(lake, [running("v1", perception_id="ab")])
    lake.location.create("_staging/ab/0-9.parquet", b"")
    compact(str(tmp_path), USUAL)
    assert lake.location.names("_staging") == ["ab/0-9.parquet", "cd/0-9.parquet"]
    commit(lake, [Ending(analysis=again.ended(status="abandoned", error_code="interrupted"))])
    compact(str(tmp_path), USUAL)  # whoever goes on finds what is finished
    assert lake.location.names("_staging") == ["ab/0-9.parquet", "cd/0-9.parquet"]
