"""What is read of a lake of many dates and many pictures for one video, or for one day."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from pipeline.exchange.pictures import frame_table
from pipeline.lake.commit import commit, put_names, start_attempts
from pipeline.lake.query import Reading, query
from pipeline.lake.schema import PARTITIONED
from pipeline.lake.tables import Lake
from pipeline.report.gather import find, gather
from pipeline.report.survey import Choice, survey
from tests.lake.build import DAY, analyse, ending, finished, name_of, running, stage_rows

EARLIER, LATER = DAY - timedelta(days=1), DAY + timedelta(days=1)


def write_day(lake: Lake, on: date, *videos: str) -> None:
    """Videos of one date, in one file of each table: their ids are the least and the greatest."""
    attempts = start_attempts(lake, [running(f"{video}{on}", date=on) for video in videos])
    rows = [stage_rows(seed=number) for number in range(len(videos))]
    commit(lake, [ending(finished(a), rows=r) for a, r in zip(attempts, rows, strict=True)])


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Three days of three videos; those in the middle of their day are asked for."""
    lake = Lake.open(tmp_path / "lake")
    for on in (EARLIER, DAY, LATER):
        write_day(lake, on, "0", "7", "f")
    return tmp_path / "lake"


def test_rows_of_a_video_are_looked_for_under_its_date_alone(days: Path) -> None:
    """In three years of footage a page, clip or export opened the files of a thousand dates."""
    video = f"7{DAY}"
    every = {
        name: query(days, f"SELECT count(*) AS n FROM {name} WHERE video_id = '{video}'")["n"][0].as_py()
        for name in PARTITIONED
    }
    for name in PARTITIONED:
        for other in (EARLIER, LATER):
            shutil.rmtree(days / name / f"date={other}")
    assert find(str(days), f"{video}.mp4") == (video, None)
    record = gather(str(days), video)
    found = {name: getattr(record, name).num_rows for name in ("tracks", "objects", "events")}
    assert found == {name: every[name] for name in found}
    assert len(record.sample_times) == frame_table(str(days), record).num_rows == every["frames"]


def test_a_days_report_reads_that_days_rows(days: Path) -> None:
    whole = survey(str(days), Choice(on=DAY))
    for name in PARTITIONED:
        for other in (EARLIER, LATER):
            shutil.rmtree(days / name / f"date={other}")
    assert survey(str(days), Choice(on=DAY)) == whole
    assert [len(getattr(whole, part)) for part in ("videos", "events", "frames")] == [3, 1, 1]
    shutil.rmtree(days / "tracks" / f"date={DAY}")
    assert survey(str(days), Choice(on=DAY - timedelta(days=9))).videos == []


def test_a_copy_of_another_day_is_in_the_report_of_its_name(tmp_path: Path) -> None:
    """Rows lie under the date of the analysis; without a recording time a copy has one of its own."""
    lake = Lake.open(tmp_path)
    analyse(lake, "v1")
    put_names(lake, [name_of(running("v1", uri="/archive/copy.mp4", date=LATER))])
    found = survey(str(tmp_path), Choice(on=LATER))
    assert [row["video_id"] for row in found.videos] == ["v1"]
    assert sum(row["number"] for row in found.events) == 2
    assert sum(row["boxes"] for row in found.presence) == 40


def test_tables_are_opened_once_for_many_videos(days: Path) -> None:
    """Each page opened its tables ten times anew; on S3 that is thirty requests each time."""
    reading = Reading(str(days))
    first = gather(reading, f"0{DAY}")
    for log in list(days.glob("*/_delta_log")):
        shutil.rmtree(log)
    second = gather(reading, f"f{DAY}")
    assert first.tracks.num_rows == second.tracks.num_rows == 40
    assert reading("SELECT count(*) AS n FROM videos")["n"].to_pylist() == [9]


def test_a_reading_goes_on_in_the_newest_state_where_files_of_its_own_went(days: Path) -> None:
    reading = Reading(str(days))
    asked = "SELECT count(*) AS n FROM tracks"
    assert reading(asked)["n"].to_pylist() == [360]
    lake = Lake.open(days)
    lake.table("tracks").delete("video_id = 'f2025-03-01'")
    lake.table("tracks").vacuum(0, dry_run=False, enforce_retention_duration=False)
    assert reading(asked)["n"].to_pylist() == [320]
