"""How results become visible: what is decided, what is written, what is seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest

from pipeline.config import Config
from pipeline.errors import ConflictError
from pipeline.ids import config_id
from pipeline.lake.commit import (
    Decision,
    Ending,
    GroupCommit,
    commit,
    decide,
    put_config,
    put_names,
    start_attempts,
)
from pipeline.lake.lookup import History, current_analyses, histories, known_videos
from pipeline.lake.query import query
from pipeline.lake.records import Analysis, VideoName, analyses_table, stamped
from pipeline.lake.schema import PARTITIONED, TABLES
from pipeline.lake.tables import Lake
from tests.lake.build import analyse, ending, finished, name_of, running, stage_rows


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(tmp_path / "lake")


def counts(lake: Lake, where: str = "") -> dict[str, int]:
    """Rows that the views show."""
    sql = "SELECT count(*) AS n FROM {} " + where
    return {name: query(str(lake.location), sql.format(name))["n"][0].as_py() for name in PARTITIONED}


def versions(lake: Lake) -> list[int]:
    return [lake.table(name).version() for name in TABLES]


FULL = {"frames": 20, "detections": 40, "tracks": 40, "objects": 2, "events": 2}
NONE = dict.fromkeys(FULL, 0)


def test_a_running_attempt_is_a_row_and_shows_nothing(lake: Lake) -> None:
    [started] = start_attempts(lake, [running("v1")])
    assert started.revision == 1
    assert histories(lake, ["v1"])["v1"].rows == (started,)
    assert counts(lake) == NONE


def test_rows_are_unseen_until_the_commit(lake: Lake) -> None:
    [attempt] = start_attempts(lake, [running("v1")])
    done = ending(finished(attempt))
    for name, rows in done.rows.items():
        lake.append(name, rows)
    assert counts(lake) == NONE
    [outcome] = commit(lake, [replace(done, rows={})])
    assert (outcome.decision, outcome.revision) == (Decision.COMMITTED, 2)
    assert counts(lake) == FULL


def test_committing_twice_is_committing_once(lake: Lake) -> None:
    [attempt] = start_attempts(lake, [running("v1")])
    done = ending(finished(attempt))
    first = commit(lake, [done])
    before = versions(lake)
    second = commit(lake, [done])
    assert [o.decision for o in first + second] == [Decision.COMMITTED] * 2
    assert first[0].revision == second[0].revision
    assert versions(lake) == before


def test_an_equal_analysis_by_another_is_a_duplicate(lake: Lake) -> None:
    attempts = start_attempts(lake, [running("v1"), running("v1")])
    assert [row.revision for row in attempts] == [1, 2]
    first, second = (commit(lake, [ending(finished(row))])[0] for row in attempts)
    assert (first.decision, second.decision) == (Decision.COMMITTED, Decision.DUPLICATE)
    assert second.revision == first.revision
    assert counts(lake) == FULL
    assert lake.table("tracks").count() == 40, "rows of a duplicate are not even appended"


def test_two_of_one_video_in_one_commit_are_one(lake: Lake) -> None:
    attempts = start_attempts(lake, [running("v1"), running("v1", uri="/archive/other.mp4")])
    outcomes = commit(lake, [ending(finished(row)) for row in attempts])
    assert [o.decision for o in outcomes] == [Decision.COMMITTED, Decision.DUPLICATE]
    assert counts(lake) == FULL
    assert set(known_videos(lake, ["/archive/v1.mp4", "/archive/other.mp4"])) == {
        "/archive/v1.mp4",
        "/archive/other.mp4",
    }


def test_another_config_is_committed_on_its_basis_only(lake: Lake) -> None:
    old = analyse(lake, "v1", "a1")
    late, upgrade = start_attempts(lake, [running("v1"), running("v1")])
    more = stage_rows(objects=3)
    [done] = commit(lake, [ending(finished(upgrade, "a2"), basis=old.revision, rows=more)])
    assert done.decision is Decision.COMMITTED
    [lost] = commit(lake, [ending(finished(late, "a3"), basis=old.revision)])
    assert (lost.decision, lost.revision) == (Decision.OVERTAKEN, done.revision)
    assert counts(lake)["tracks"] == 60
    [again] = commit(lake, [ending(finished(late, "a3"), basis=lost.revision)])
    assert again.decision is Decision.COMMITTED
    assert counts(lake) == FULL


def test_a_failure_never_hides_a_success(lake: Lake) -> None:
    analyse(lake, "v1")
    [attempt] = start_attempts(lake, [running("v1")])
    failed = replace(attempt, status="failed", error_code="media", error="it broke")
    [outcome] = commit(lake, [Ending(analysis=failed)])
    assert outcome.decision is Decision.COMMITTED
    history = histories(lake, ["v1"])["v1"]
    assert [row.status for row in history.rows] == ["running", "ok", "running", "failed"]
    assert history.current is not None
    assert history.current.revision == 2
    assert counts(lake) == FULL


def test_a_reinterpretation_writes_events_alone(lake: Lake) -> None:
    old = analyse(lake, "v1", "a1")
    [attempt] = start_attempts(lake, [running("v1")])
    new = replace(
        finished(attempt, "a2"),
        perception_run_id=old.analysis.perception_run_id,
        tracking_run_id=old.analysis.tracking_run_id,
    )
    rows = stage_rows(objects=5, seed=9)
    [outcome] = commit(lake, [ending(new, basis=old.revision, rows={"events": rows["events"]})])
    assert outcome.decision is Decision.COMMITTED
    assert counts(lake) == FULL | {"events": 5}
    assert lake.table("tracks").version() == 1


def test_a_video_without_objects_has_empty_tables(lake: Lake) -> None:
    analyse(lake, "v1", rows=stage_rows(samples=5, objects=0))
    assert counts(lake) == NONE | {"frames": 5}
    assert query(str(lake.location), "SELECT video_id FROM videos")["video_id"].to_pylist() == ["v1"]


def test_a_replaced_object_changes_hands_at_its_commit(lake: Lake) -> None:
    uri = "/archive/x.mp4"
    analyse(lake, "old", uri=uri)
    [attempt] = start_attempts(lake, [running("new", uri=uri)])
    done = ending(finished(attempt), rows=stage_rows(objects=3), etag="2")
    commit(lake, [replace(done, analysis=replace(attempt, status="failed", error="broken"), rows={})])
    assert known_videos(lake, [uri])[uri].video_id == "new"
    assert counts(lake, "WHERE video_id = 'old'") == FULL, "a version that failed hides nothing"
    analyse(lake, "new", uri=uri, rows=stage_rows(objects=3), name={"etag": "2"})
    assert counts(lake, "WHERE video_id = 'old'") == NONE
    assert counts(lake)["tracks"] == 60


def test_a_late_worker_does_not_bring_an_old_version_back(lake: Lake) -> None:
    uri, now = "/archive/x.mp4", datetime.now(UTC)
    analyse(lake, "new", uri=uri, name={"etag": "2", "seen_at": now})
    analyse(lake, "old", uri=uri, name={"etag": "1", "seen_at": now - timedelta(hours=1)})
    assert known_videos(lake, [uri])[uri].video_id == "new"
    assert lake.table("videos").count() == 1, "a name older than the newest is left out"
    assert counts(lake, "WHERE video_id = 'old'") == NONE


def test_group_commit_is_one_commit_per_table(lake: Lake) -> None:
    attempts = start_attempts(lake, [running(f"v{n}") for n in range(4)])
    group = GroupCommit(lake, interval_s=3600, max_videos=4)
    outcomes = [group.add(ending(finished(row))) for row in attempts]
    assert [len(found) for found in outcomes] == [0, 0, 0, 4]
    assert len(group) == 0
    assert dict(zip(TABLES, versions(lake), strict=True)) == dict.fromkeys(TABLES, 1) | {
        "analyses": 2,
        "configs": 0,
    }
    assert counts(lake) == {name: 4 * n for name, n in FULL.items()}


def test_pictures_of_other_names_are_not_read_for_those_that_take_theirs_over(lake: Lake) -> None:
    """A whole archive is named anew when its time zone is set right. Digests of contents lie anywhere."""

    def named(row: Analysis, **values: Any) -> VideoName:
        return name_of(row, content_id=row.video_id[::-1], width_px=64, **values)

    size = 1 << 20
    for n in range(4):
        pair = [running(f"{n}-{half}") for half in "0f"]
        put_names(lake, [named(row, thumbnail=np.random.default_rng(n).bytes(size)) for row in pair])
    moved = replace(named(running("3-0")), video_id="moved", camera="yard")
    before = psutil.Process().io_counters().read_chars
    put_names(lake, [moved])
    assert psutil.Process().io_counters().read_chars - before < 5 * size  # of 8
    pictures = "SELECT thumbnail FROM videos_all WHERE video_id = 'moved'"
    assert query(str(lake.location), pictures)["thumbnail"].to_pylist() == [
        np.random.default_rng(3).bytes(size)
    ]


def test_group_commit_is_due_by_time_and_at_the_end(lake: Lake) -> None:
    [attempt] = start_attempts(lake, [running("v1")])
    assert len(GroupCommit(lake, interval_s=0, max_videos=64).add(ending(finished(attempt)))) == 1
    group = GroupCommit(lake, interval_s=3600, max_videos=64)
    [second] = start_attempts(lake, [running("v2")])
    assert group.add(ending(finished(second))) == []
    assert (group.due(), len(group.flush()), group.flush()) == (False, 1, [])


def test_what_waits_longest_decides_when_a_group_is_due(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("pipeline.lake.commit.time", SimpleNamespace(monotonic=lambda: clock.now))
    group = GroupCommit(lake, interval_s=10, max_videos=64)
    for clock.now in (0.0, 6.0):
        group.add(ending(finished(running(f"at {clock.now}"))))
    due = []
    for clock.now in (9.0, 10.0):
        due.append(group.due())
    assert due == [False, True]


def test_group_commit_is_due_by_bytes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = (
        ending(finished(row)) for row in start_attempts(lake, [running(f"v{n}") for n in range(3)])
    )
    monkeypatch.setattr(GroupCommit, "MAX_BYTES", sum(rows.nbytes for rows in first.rows.values()) + 1)
    group = GroupCommit(lake, interval_s=3600, max_videos=64)
    assert [len(group.add(one)) for one in (first, *others)] == [0, 2, 0]


def test_one_loser_in_a_group_does_not_stop_the_others(lake: Lake) -> None:
    a, b = start_attempts(lake, [running("a"), running("b")])
    analyse(lake, "a", "theirs")
    outcomes = commit(lake, [ending(finished(a, "ours")), ending(finished(b, "ours"))])
    assert [o.decision for o in outcomes] == [Decision.OVERTAKEN, Decision.COMMITTED]
    assert set(current_analyses(lake, ["a", "b", "c"])) == {"a", "b"}


def test_compare_and_set_lets_one_of_two_through(lake: Lake) -> None:
    one, two, other = lake.table("analyses"), lake.table("analyses"), lake.table("analyses")

    def write(snapshot: Any, video_id: str) -> None:
        row = analyses_table([stamped(running(video_id), 1)])
        lake.append_if_unchanged(snapshot, "analyses", row, [(video_id, 1)])

    write(one, "v1")
    with pytest.raises(ConflictError, match="another writer committed to analyses first"):
        write(two, "v1")
    write(other, "v2")
    assert lake.table("analyses").count() == 2


def test_revisions_go_on_where_rows_were_removed(lake: Lake) -> None:
    analyse(lake, "v1")
    lake.table("analyses").delete("video_id = 'v1'")
    [started] = start_attempts(lake, [running("v1")])
    assert started.revision == 3


def test_start_is_not_repeated_when_its_answer_was_lost(lake: Lake) -> None:
    attempt = running("v1")
    [first] = start_attempts(lake, [attempt])
    [second] = start_attempts(lake, [attempt])
    assert first == second
    assert lake.table("analyses").count() == 1


def revised(*rows: Analysis) -> History:
    return History(tuple(replace(row, revision=n + 1) for n, row in enumerate(rows)))


def test_decisions() -> None:
    mine, theirs = running("v"), running("v")
    whole, partial = finished(mine), finished(mine, status="partial", frames_sampled=10)
    their_whole = finished(theirs)
    their_partial = finished(theirs, status="partial", frames_sampled=10)
    cases: list[tuple[Analysis, int, History, tuple[Decision, int] | None]] = [
        (whole, 0, revised(mine), None),
        (whole, 0, revised(mine, whole), (Decision.COMMITTED, 2)),
        (whole, 0, revised(mine, replace(mine, status="abandoned")), (Decision.ABANDONED, 2)),
        (replace(mine, status="failed"), 0, revised(mine, replace(mine, status="abandoned")), None),
        (replace(mine, status="failed"), 0, revised(theirs, their_whole), None),
        (whole, 0, revised(theirs, mine, their_whole), (Decision.DUPLICATE, 3)),
        (partial, 0, revised(mine, their_whole), (Decision.DUPLICATE, 2)),
        (whole, 0, revised(mine, their_partial), None),
        (partial, 2, revised(mine, their_partial), (Decision.DUPLICATE, 2)),
        (replace(partial, frames_sampled=11), 0, revised(mine, their_partial), None),
        (finished(mine, "b"), 0, revised(mine, their_whole), (Decision.OVERTAKEN, 2)),
        (finished(mine, "b"), 2, revised(mine, their_whole), None),
    ]
    for row, basis, history, expected in cases:
        assert decide(Ending(analysis=row, basis=basis), history) == expected


def test_an_abandoned_attempt_must_begin_anew(lake: Lake) -> None:
    [attempt] = start_attempts(lake, [running("v1")])
    commit(lake, [Ending(analysis=replace(attempt, status="abandoned"))])
    [outcome] = commit(lake, [ending(finished(attempt))])
    assert (outcome.decision, outcome.revision) == (Decision.ABANDONED, 2)
    assert counts(lake) == NONE
    analyse(lake, "v1")
    assert counts(lake) == FULL


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="status is one of"):
        running("v", status="done")
    with pytest.raises(ValueError, match="names its analysis_id and its three runs"):
        running("v", status="ok")
    with pytest.raises(ValueError, match="another status than running"):
        Ending(analysis=running("v"))
    with pytest.raises(ValueError, match="rows are for"):
        Ending(analysis=finished(running("v")), rows={"videos": pa.table({})})


def test_only_running_rows_begin(lake: Lake) -> None:
    with pytest.raises(ValueError, match="begins as running"):
        start_attempts(lake, [finished(running("v"))])


def test_a_config_is_stored_once(lake: Lake) -> None:
    config = Config()
    assert put_config(lake, config) == put_config(lake, config) == config_id(config)
    faster = config.model_copy(update={"run": config.run.model_copy(update={"threads": 3})})
    assert put_config(lake, faster) == config_id(config)
    stored = lake.table("configs").to_pyarrow_table().to_pylist()
    assert [Config.model_validate_json(row["config"]) for row in stored] == [config]


def test_the_same_name_is_stored_once(lake: Lake) -> None:
    analyse(lake, "v1")
    row = finished(running("v1"))
    commit(lake, [Ending(analysis=row, names=(name_of(row), name_of(row)))])
    assert lake.table("videos").count() == 1
    commit(lake, [Ending(analysis=row, names=(name_of(row, etag="2"),))])
    assert lake.table("videos").count() == 2


def test_names_with_signs_that_unicode_counts_as_line_ends_are_committed(lake: Lake) -> None:
    analyse(lake, "v1", camera="a\u2028b\u0085c\u001cd", uri="/archive/\u2029.mp4")
    assert (
        query(str(lake.location), "SELECT camera FROM videos")["camera"][0].as_py()
        == "a\u2028b\u0085c\u001cd"
    )


def test_what_is_secret_in_an_address_of_weights_is_not_stored(lake: Lake) -> None:
    """Neither a password nor a signed query; the digest and the rest say which weights they were."""
    place = "https://{}example.org:8443/a/w.safetensors{}#sha256=" + 64 * "0"
    address, told = place.format("me:secret@", "?X-Amz-Signature=secret"), place.format("", "")
    model = {"weights": address}
    config = Config.model_validate(
        {"perceive": model, "track": model, "events": {"models": [address, "fight"]}}
    )
    key = put_config(lake, config)
    [row] = query(str(lake.location), f"SELECT config FROM configs WHERE config_id = '{key}'").to_pylist()
    assert "secret" not in row["config"]
    stored = Config.model_validate_json(row["config"])
    assert (stored.perceive.weights, stored.track.weights) == (told, told)
    assert stored.events.models == (told, "fight")
    signed_anew = Config.model_validate_json(
        config.model_dump_json().replace("Signature=secret", "Signature=x")
    )
    assert put_config(lake, signed_anew) == key
