"""What is read of a lake of many dates and many pictures for one video, or for one day."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.config import Config
from pipeline.exchange.pictures import frame_table
from pipeline.lake.commit import commit, put_names, start_attempts
from pipeline.lake.query import Reading, query
from pipeline.lake.schema import PARTITIONED
from pipeline.lake.tables import Lake
from pipeline.report.gather import find, gather
from pipeline.report.survey import Choice, survey
from pipeline.report.trial import draw_rules
from tests.lake.build import DAY, RECORDED, analyse, ending, finished, name_of, running, stage_rows

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


SIZE = 1 << 20
"""Of a picture, so that what is read beside them is little."""


@pytest.fixture
def pictured(tmp_path: Path) -> Path:
    """Nine videos of one camera, of which the newest but one has no picture."""
    lake = Lake.open(tmp_path)
    for n in range(9):
        name = {"recorded_at": RECORDED + timedelta(hours=n), "width_px": 64, "height_px": 48}
        picture = {} if n == 7 else {"thumbnail": np.random.default_rng(n).bytes(SIZE)}
        analyse(lake, f"v{n}", uri=f"/archive/{n}.mp4", name=name | picture)
    return tmp_path


def test_other_videos_pictures_are_not_read_for_the_page_of_one(pictured: Path) -> None:
    before = psutil.Process().io_counters().read_chars
    assert gather(str(pictured), "v7").thumbnail is None
    assert gather(str(pictured), "v3").thumbnail == np.random.default_rng(3).bytes(SIZE)
    assert psutil.Process().io_counters().read_chars - before < 4 * SIZE


def test_a_report_reads_pictures_of_few_videos(pictured: Path) -> None:
    """It held those of all videos at once: 4 GB of 200,000."""
    before = psutil.Process().io_counters().read_chars
    found = survey(str(pictured), Choice())
    assert found.thumbnails == {"gate": np.random.default_rng(8).bytes(SIZE)}
    assert psutil.Process().io_counters().read_chars - before < 5 * SIZE


def test_rules_are_drawn_over_a_picture_of_few_videos(pictured: Path) -> None:
    before = psutil.Process().io_counters().read_chars
    [path] = draw_rules(str(pictured), Config(), {f"v{n}": {} for n in range(9)}, pictured / "out")
    assert path.name == "gate.jpg"
    assert psutil.Process().io_counters().read_chars - before < 5 * SIZE
