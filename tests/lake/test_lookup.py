"""What the main job asks of a lake."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.lake import lookup, schema
from pipeline.lake.commit import Ending, commit, start_attempts
from pipeline.lake.layout import ORDER, sort_rows
from pipeline.lake.lookup import (
    LOST,
    current_analyses,
    find_perceptions,
    histories,
    known_pictures,
    known_videos,
    met,
    read_rows,
    run_sql,
)
from pipeline.lake.records import Analysis, Place, VideoName, analyses_table, names_table, place_rows
from pipeline.lake.tables import Lake
from tests.lake.build import DAY, RECORDED, analyse, ending, finished, name_of, running, stage_rows


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(tmp_path / "lake")


def test_records_have_the_tables_columns() -> None:
    assert sorted(field.name for field in fields(Analysis)) == sorted(schema.ANALYSES.names)
    assert sorted(field.name for field in fields(VideoName)) == sorted(schema.VIDEOS.names)


def test_an_analysis_survives_its_row(lake: Lake) -> None:
    gap = {"t_start": 1.0, "t_end": 2.5, "frames": 15, "cause": "timeout"}
    row = replace(
        finished(running("it's", camera=None), status="partial"),
        gaps=(gap,),
        seconds={"perceive": 1.5, "track": 0.25},
        peak_memory_bytes=2**40,
        config_id="c",
        weights='{"detector":"x"}',
    )
    [outcome] = commit(lake, [Ending(analysis=row, names=(name_of(row),))])
    found = current_analyses(lake, ["it's"])["it's"]
    assert found == outcome.analysis
    assert replace(found, revision=0, committed_at=None) == row


def test_an_attempt_ends_as_it_began(lake: Lake) -> None:
    [started] = start_attempts(lake, [running("v1", config_id="c")])
    row = started.ended(status="failed", error_code="media", error="broken")
    assert (row.revision, row.committed_at) == (0, None)
    [outcome] = commit(lake, [Ending(analysis=row)])
    assert (outcome.revision, outcome.analysis.config_id, outcome.analysis.error) == (2, "c", "broken")


def test_current_is_the_highest_success(lake: Lake) -> None:
    first = analyse(lake, "v1", "a1")
    second = analyse(lake, "v1", "a2", basis=first.revision)
    analyse(lake, "v2")
    start_attempts(lake, [running("v3")])
    found = current_analyses(lake, ["v1", "v2", "v3", "v4"])
    assert {key: row.analysis_id for key, row in found.items()} == {"v1": "a2", "v2": "a1"}
    assert found["v1"].revision == second.revision
    assert current_analyses(lake, []) == {}


def test_many_keys_give_the_same_as_few(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for video in ("v1", "v2", "v3"):
        analyse(lake, video, rows={})
    wanted = ["v3", "v1", "nobody"]
    few = histories(lake, wanted), known_videos(lake, [f"/archive/{video}.mp4" for video in wanted])
    monkeypatch.setattr(lookup, "_MAX_KEYS", 1)
    many = histories(lake, wanted), known_videos(lake, [f"/archive/{video}.mp4" for video in wanted])
    assert few == many
    assert [len(few[0][video].rows) for video in wanted] == [2, 2, 0]


def test_unended_attempts_are_counted_since_the_last_success(lake: Lake) -> None:
    start_attempts(lake, [running("v1")])
    analyse(lake, "v1", rows={})
    assert histories(lake, ["v1"])["v1"].unended == ()
    dead = start_attempts(lake, [running("v1"), running("v1")])
    commit(lake, [Ending(analysis=replace(dead[0], status="crashed", error_code="crash"))])
    [failed] = start_attempts(lake, [running("v1")])
    commit(lake, [Ending(analysis=replace(failed, status="failed", error_code="media"))])
    found = histories(lake, ["v1", "v2"])
    assert (found["v1"].unended, found["v2"].unended) == (tuple(dead), ())


def test_attempts_at_which_the_program_failed_are_dead_at_once(lake: Lake) -> None:
    """As are, after a while, those without a word; what its own run broke off is not."""
    rows = start_attempts(lake, [running("v1") for _ in range(4)])
    ends = (("crashed", "bug"), ("abandoned", "interrupted"), ("abandoned", LOST))
    for row, (status, code) in zip(rows, ends, strict=False):
        commit(lake, [Ending(analysis=row.ended(status=status, error_code=code))])
    history = histories(lake, ["v1"])["v1"]
    attempts = [row.attempt_id for row in rows]
    assert [row.attempt_id for row in history.dead(datetime.now(UTC) - timedelta(hours=1))] == attempts[:1]
    later = history.dead(datetime.now(UTC) + timedelta(hours=1))
    assert [row.attempt_id for row in later] == [attempts[0], attempts[2], attempts[3]]


def test_known_videos_gives_the_newest_version_of_each_name(lake: Lake) -> None:
    odd = "/archive/it's 100% ü/🚚+%20.mp4"
    now = datetime.now(UTC)
    analyse(lake, "v1", uri=odd, name={"etag": "1", "seen_at": now})
    analyse(lake, "v2", uri=odd, name={"etag": "2", "seen_at": now + timedelta(seconds=1)})
    known = known_videos(lake, [odd, "/archive/other.mp4"])
    assert list(known) == [odd]
    assert (known[odd].video_id, known[odd].etag, known[odd].seen_at) == (
        "v2",
        "2",
        now + timedelta(seconds=1),
    )


def test_the_picture_of_a_name_is_one_that_it_had(lake: Lake) -> None:
    row = running("v1")
    versions = [name_of(row, thumbnail=b"picture"), name_of(row, etag="2")]
    lake.append("videos", names_table(versions))
    assert known_pictures(lake, versions) == {versions[0].content_id: b"picture"}


def test_find_perceptions_prefers_a_whole_one(lake: Lake) -> None:
    ends = {"p": ("partial", "aa"), "w": ("ok", "aa"), "x": ("partial", "bb")}
    for video, (status, perception) in ends.items():
        [attempt] = start_attempts(lake, [running(video)])
        commit(lake, [ending(finished(attempt, status=status, perception_id=perception), rows={})])
    found = find_perceptions(lake, ["bb", "aa", "cc"])
    assert {key: row.video_id for key, row in found.items()} == {"bb": "x", "aa": "w"}


def test_one_reading_tells_a_video_and_its_perception(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {"p": ("partial", "aa"), "w": ("ok", "aa"), "x": ("partial", "bb"), "f": ("failed", "cc")}
    for video, (status, perception) in ends.items():
        [attempt] = start_attempts(lake, [running(video)])
        commit(lake, [ending(finished(attempt, status=status, perception_id=perception), rows={})])
    for video in (*ends, "new"):
        for perception in ("aa", "bb", "cc", "new"):
            history, other = met(lake, video, perception)
            assert history == histories(lake, [video])[video]
            assert other == find_perceptions(lake, [perception]).get(perception)
    asked = []
    monkeypatch.setattr(lookup, "run_sql", lambda *given: asked.append(given) or run_sql(*given))
    met(lake, "new", "new")
    met(lake, "x", "bb")
    assert len(asked) == 2


@pytest.mark.parametrize("samples", [1, 7, 6000])
@pytest.mark.parametrize("name", list(ORDER))
def test_read_rows_gives_back_what_the_stage_gave(lake: Lake, name: str, samples: int) -> None:
    rows = stage_rows(samples=20, objects=3, seed=5)
    outcome = analyse(lake, "v1", rows=rows)
    analyse(lake, "v2")
    parts = list(read_rows(lake, name, "v1", outcome.analysis.run_id, DAY, samples=samples))
    found = pa.concat_tables(parts)
    assert found.schema == rows[name].schema
    assert found.equals(sort_rows(name, rows[name]))
    if "sample" in found.schema.names:
        assert max(len(set(part["sample"].to_pylist())) for part in parts) <= samples


def test_read_rows_takes_columns_and_finds_nothing_elsewhere(lake: Lake) -> None:
    outcome = analyse(lake, "v1", rows=stage_rows())
    run = outcome.analysis.run_id
    [part] = read_rows(lake, "detections", "v1", run, DAY, columns=["score", "sample"])
    assert part.schema.names == ["score", "sample"]
    assert part.num_rows == 40
    assert list(read_rows(lake, "detections", "v1", "other run", DAY)) == []
    assert list(read_rows(lake, "objects", "v1", run, date(2020, 1, 1))) == []


def test_read_rows_is_in_order_over_many_appends(lake: Lake) -> None:
    rows = stage_rows(samples=30)["frames"]
    place = Place("v1", None, DAY, "r1")
    for first in (20, 0, 10):
        lake.append("frames", place_rows("frames", rows.slice(first, 10), place))
    found = pa.concat_tables(list(read_rows(lake, "frames", "v1", "r1", DAY, samples=8)))
    assert found.equals(rows)


def test_read_rows_passes_over_what_a_clock_leapt(lake: Lake) -> None:
    rows = stage_rows(samples=4)["frames"]
    leaps = pa.array([0, 1, 10**14, 10**14 + 1])
    rows = rows.set_column(rows.schema.get_field_index("sample"), rows.schema.field("sample"), leaps)
    lake.append("frames", place_rows("frames", rows, Place("v1", None, DAY, "r1")))
    found = list(read_rows(lake, "frames", "v1", "r1", DAY))
    assert [part.num_rows for part in found] == [2, 2]
    assert pa.concat_tables(found).equals(rows)


def test_placed_rows_have_utc_times_to_the_microsecond() -> None:
    rows = stage_rows(samples=3)
    tracks = place_rows("tracks", rows["tracks"], Place("v1", "gate", DAY, "r1", RECORDED))
    assert tracks.schema == schema.TABLES["tracks"]
    expected = [RECORDED + timedelta(microseconds=round(t * 1e6)) for t in rows["tracks"]["t"].to_pylist()]
    assert tracks["time_utc"].to_pylist() == expected
    events = place_rows("events", rows["events"], Place("v1", "gate", DAY, "r1", RECORDED))
    assert events["end_utc"][1].as_py() == RECORDED + timedelta(seconds=1.5)


@pytest.mark.parametrize("leap_s", [8e9, 1e13, 5e14, 1e16, 1e300, float("inf"), float("nan")])
def test_times_that_no_engine_knows_are_null(leap_s: float) -> None:
    """The clock of a file may leap by ages."""
    rows = stage_rows(samples=3, objects=1)
    tracks, objects = rows["tracks"], rows["objects"]
    tracks = tracks.set_column(tracks.schema.get_field_index("t"), "t", pa.array([0.0, 7e9, leap_s]))
    found = place_rows("tracks", tracks, Place("v1", "gate", DAY, "r1", RECORDED))
    assert found["time_utc"].to_pylist() == [RECORDED, RECORDED + timedelta(seconds=7e9), None]
    objects = objects.set_column(objects.schema.get_field_index("t_end"), "t_end", pa.array([leap_s]))
    found = place_rows("objects", objects, Place("v1", "gate", DAY, "r1", RECORDED))
    assert (found["start_utc"].to_pylist(), found["end_utc"].to_pylist()) == ([RECORDED], [None])


def test_placed_rows_without_recording_time_or_rows() -> None:
    rows = stage_rows(samples=3, objects=0)
    frames = place_rows("frames", rows["frames"], Place("v1", None, DAY, "r1"))
    assert pc.all(pc.is_null(frames["time_utc"])).as_py()
    assert frames["camera"].null_count == 3
    tracks = place_rows("tracks", rows["tracks"], Place("v1", None, DAY, "r1", RECORDED))
    assert (tracks.num_rows, tracks.schema) == (0, schema.TABLES["tracks"])
    with pytest.raises(ValueError, match="rows for tracks need columns"):
        place_rows("tracks", rows["frames"], Place("v1", None, DAY, "r1"))


def test_an_analysis_without_gaps_and_seconds_survives() -> None:
    row = finished(running("v"))
    [stored] = analyses_table([row]).to_pylist(maps_as_pydicts="strict")
    assert Analysis.from_row(stored) == row
