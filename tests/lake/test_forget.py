"""Forgetting a video: what goes, what stays, when it is refused."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties
from deltalake.table import TableOptimizer

from pipeline.config import LakeConfig
from pipeline.errors import ConflictError, StorageError, UsageError
from pipeline.ids import digest
from pipeline.lake import compact as compact_module
from pipeline.lake import forget as module
from pipeline.lake import lookup, rewrite
from pipeline.lake import query as query_module
from pipeline.lake.commit import commit, start_attempts
from pipeline.lake.compact import compact
from pipeline.lake.forget import forget
from pipeline.lake.lookup import current_analyses, known_pictures, read_rows
from pipeline.lake.query import query
from pipeline.lake.tables import DENIED, Lake
from tests.lake.build import DAY, analyse, ending, finished, name_of, running, sample_lake
from tests.lake.test_compact import seen

USUAL = LakeConfig()


def holding(folder: Path, word: str) -> list[str]:
    """Files whose bytes, or values if they are Parquet, hold a word."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size:
            text = (
                repr(pq.ParquetFile(path).read().to_pylist())
                if path.suffix == ".parquet"
                else path.read_text()
            )
            found += [str(path.relative_to(folder))] if word in text else []
    return found


def test_nothing_of_it_is_left_and_all_of_the_others(tmp_path: Path) -> None:
    lake = sample_lake(tmp_path)
    analyse(lake, "v-secret", uri="/archive/v-secret.mp4")
    compact(str(tmp_path), LakeConfig(history_days=0))  # old versions of the tables hold it as well
    first = analyse(lake, "v-secret", "a2", basis=2, uri="/archive/v-secret.mp4")
    assert first.revision == 4
    lake.location.create("_staging/ab/0-9.parquet", b"")  # of the others, too
    for video in ("v-secret", "v1"):
        lake.location.create(f"_outbox/{video}.json", json.dumps({"video_id": video}).encode())
    others = {k: [row for row in v if "v-secret" not in row] for k, v in seen(lake).items()}
    assert len(holding(tmp_path, "v-secret")) > 20
    counted = forget(str(tmp_path), "/archive/v-secret.mp4", USUAL, dry_run=True)
    assert (counted.checked, sum(counted.rows.values()), counted.data_files) == (False, 213, 0)
    receipt = forget(str(tmp_path), "/archive/v-secret.mp4", USUAL)
    assert receipt.checked
    assert (receipt.rows, receipt.size_bytes) == (counted.rows, counted.size_bytes)
    assert 0 < counted.size_bytes < sum(file.stat().st_size for file in tmp_path.rglob("*.parquet"))
    assert receipt.data_files >= 14
    assert receipt.messages == 1
    assert lake.location.names("_outbox") == ["v1.json"]
    assert holding(tmp_path, "v-secret") == []
    assert seen(lake) == others
    assert lake.location.names("_staging") == ["ab/0-9.parquet"]
    with pytest.raises(UsageError, match=r"knows no video /archive/v-secret\.mp4"):
        forget(str(tmp_path), "/archive/v-secret.mp4", USUAL)
    # It may come back, and its revisions go on.
    assert analyse(lake, "v-secret", "a3", basis=0).revision == 6
    compact(str(tmp_path), LakeConfig(history_days=0, grace_h=0))
    assert len(seen(lake)["tracks"]) == len(others["tracks"]) + 40


@pytest.mark.parametrize("step", ["remove", "_remove_staging", "_shorten_log", "_left"])
def test_one_that_was_broken_off_is_done_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Also where the tables no longer know the name, while old files and log entries still do."""
    lake, uri = Lake.open(tmp_path), "/archive/v-secret.mp4"
    for video in ("v1", "v-secret", "v-secret-2"):  # another version under the same name
        analyse(lake, video, uri=f"/archive/{video.removesuffix('-2')}.mp4", name={"etag": video})
        lake.location.create(f"_outbox/{video}.json", json.dumps({"video_id": f"{video}."}).encode())
    died = running("v-secret", uri=uri, perception_id="ffff", started_at=datetime(2025, 3, 1, tzinfo=UTC))
    start_attempts(lake, [died])
    lake.location.create("_staging/ffff/0-9.parquet", b"")
    original: Any = getattr(module, step)
    calls: list[int] = []

    def broken(*arguments: Any) -> Any:
        calls.append(1)
        if step == "_left" or len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as stopped:
        stopped.setattr(module, step, broken)
        if step == "_remove_staging":
            calls.append(1)
        with pytest.raises(KeyboardInterrupt):
            forget(str(tmp_path), "/archive/v-secret.mp4", USUAL)
    assert holding(tmp_path, "v-secret")
    assert forget(str(tmp_path), uri, USUAL, deny=True).checked
    assert holding(tmp_path, "v-secret") == []
    assert lake.location.names("_staging") == []
    assert sorted(lake.location.names(DENIED)) == sorted(digest(v) for v in ("v-secret", "v-secret-2"))
    assert {row["video_id"] for row in query(tmp_path, "SELECT video_id FROM tracks_all").to_pylist()} == {
        "v1"
    }
    with pytest.raises(UsageError, match="knows no video"):
        forget(str(tmp_path), "/archive/v-secret.mp4", USUAL)


def test_when_it_is_refused(tmp_path: Path) -> None:
    lake = sample_lake(tmp_path)
    uri = "/archive/a b+c%/ü.mp4"
    with pytest.raises(UsageError, match=r"has 1 other names .*alias\.mp4.*--all-names"):
        forget(str(tmp_path), uri, USUAL)
    start_attempts(lake, [running("v2", uri=uri, started_at=datetime.now(UTC) - timedelta(hours=2))])
    with pytest.raises(UsageError, match=r"a worker is at .* since .*, or died then"):
        forget(str(tmp_path), uri, USUAL, all_names=True)
    receipt = forget(str(tmp_path), uri, LakeConfig(grace_h=1), all_names=True)
    assert receipt.checked
    assert receipt.names == ["/archive/a b+c%/ü.mp4", "/archive/alias.mp4"]


def test_a_writer_that_commits_meanwhile_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.open(tmp_path)
    for video in ("v1", "v2"):
        analyse(lake, video)
    stale = lake.table("events")
    rows = stale.to_pyarrow_table()
    original = rewrite._overwrite

    calls: list[str] = []

    def late(lake: Lake, name: str, *rest: Any) -> None:
        if name in ("frames", "events") and name not in calls:
            analyse(lake, f"{name}-meanwhile")
        calls.append(name)
        original(lake, name, *rest)

    monkeypatch.setattr(rewrite, "_overwrite", late)
    assert forget(str(tmp_path), "/archive/v1.mp4", USUAL).checked
    found = query(tmp_path, "SELECT video_id, count(*) AS n FROM tracks GROUP BY video_id").to_pylist()
    assert {row["video_id"]: row["n"] for row in found} == dict.fromkeys(
        ("v2", "frames-meanwhile", "events-meanwhile"), 40
    )
    with pytest.raises(ConflictError):  # a writer that read the log before it was shortened reads it again
        lake._write(stale, "events", rows, CommitProperties())
    analyse(lake, "after")
    assert query(tmp_path, "SELECT count(*) AS n FROM events").to_pylist() == [{"n": 8}]


def test_writers_that_never_pause_do_not_keep_it_from_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever a table is about to be written, others have just written to the same date, and to another."""
    monkeypatch.setattr("pipeline.retry.RETRY_S", 2.0)
    lake = Lake.open(tmp_path)
    for video in ("v1", "v2"):
        analyse(lake, video)
    original, written = rewrite._overwrite, []

    def late(*arguments: Any) -> None:
        for on in (DAY, date(2025, 3, 2)):
            written.append(f"x{len(written)}")
            analyse(lake, written[-1], date=on)
        original(*arguments)

    monkeypatch.setattr(rewrite, "_overwrite", late)
    assert forget(str(tmp_path), "/archive/v1.mp4", USUAL).checked
    found = query(tmp_path, "SELECT video_id, count(*) AS n FROM tracks GROUP BY video_id").to_pylist()
    assert {row["video_id"]: row["n"] for row in found} == dict.fromkeys(("v2", *written), 40)


@pytest.mark.parametrize("at", ["query", "compaction", "tidying", "lookup", "pictures", "stored rows"])
def test_whoever_reads_meanwhile_reads_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """What was opened is removed before it is read."""
    lake = Lake.open(tmp_path)
    [attempt] = start_attempts(lake, [running("v1")])
    [secret] = start_attempts(lake, [running("secret")])
    commit(lake, [ending(finished(row), thumbnail=b"picture") for row in (attempt, secret)])  # in one file
    place, name = {
        "query": (query_module, "_run"),
        "compaction": (rewrite, "_overwrite"),
        "tidying": (TableOptimizer, "compact"),
        "lookup": (lookup, "_select"),
        "pictures": (lookup, "run_sql"),
        "stored rows": (lookup, "sort_rows"),
    }[at]
    original, calls = getattr(place, name), []

    def late(*arguments: Any, **settings: Any) -> Any:
        if not calls:
            calls.append(at)
            assert forget(str(tmp_path), "/archive/secret.mp4", USUAL).checked
        return original(*arguments, **settings)

    analyse(lake, "v2")
    row = current_analyses(lake, ["v1"])["v1"]
    monkeypatch.setattr(place, name, late)
    if at == "query":
        assert query(tmp_path, "SELECT count(*) AS n FROM tracks").to_pylist() == [{"n": 80}]
    elif at in ("compaction", "tidying"):
        monkeypatch.setattr(compact_module, "_SMALL_FILES", 0)
        assert {result.state for result in compact(str(tmp_path), USUAL)} == {"rewritten"}
    elif at == "lookup":
        assert current_analyses(lake, ["v1"])["v1"] == row
    elif at == "pictures":
        assert known_pictures(lake, [name_of(row)]) == {digest("v1"): b"picture"}
    else:
        parts = read_rows(lake, "tracks", "v1", row.tracking_run_id or "", row.date, samples=7)
        assert pa.concat_tables(parts).num_rows == 40
    assert calls
    assert query(tmp_path, "SELECT count(*) AS n FROM tracks").to_pylist() == [{"n": 80}]


def test_a_video_whose_worker_died_can_be_forgotten(tmp_path: Path) -> None:
    """It has attempts and staged segments, and no name."""
    lake = Lake.open(tmp_path)
    analyse(lake, "v1")
    start_attempts(
        lake, [running("v-secret", perception_id="ffff", started_at=datetime(2025, 3, 1, tzinfo=UTC))]
    )
    lake.location.create("_staging/ffff/0-9.parquet", b"")
    uri = "/archive/v-secret.mp4"
    with pytest.raises(UsageError, match="was never noted: no worker came to its end: it cannot be denied"):
        forget(str(tmp_path), uri, USUAL, deny=True)
    receipt = forget(str(tmp_path), "/archive/gone/../v-secret.mp4", USUAL)
    assert (receipt.checked, receipt.names, receipt.staged_segments) == (True, [uri], 1)
    assert lake.location.names("_staging") == []
    assert holding(tmp_path, "v-secret") == []


def test_a_check_point_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path)
    for video in ("v1", "v2"):
        analyse(lake, video)
    version = lake.table("frames").version() + 2
    (tmp_path / "frames" / "_delta_log" / f"{version:020d}.checkpoint.parquet").mkdir()
    with pytest.raises(StorageError, match=f"table frames of lake {tmp_path} cannot be check-pointed"):
        forget(str(tmp_path), "/archive/v1.mp4", USUAL)
