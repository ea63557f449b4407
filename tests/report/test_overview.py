"""The page over many videos: its numbers, its pictures, its names."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.cli import run
from pipeline.report import overview
from pipeline.report.overview import (
    bars,
    by_camera,
    camera_part,
    heat_picture,
    occupancy,
    paths_picture,
    write_overview,
)
from pipeline.report.survey import Choice, Survey, survey
from tests.lake.build import DAY
from tests.report.scenes import HEIGHT, HOSTILE, WIDTH, square_lake, square_video

HOUR = datetime(2025, 3, 1, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overview")
    video = square_video(folder / "square.mp4")
    square_lake(folder / "lake", video)
    square_lake(folder / "lake", "/archive/b.mp4", number=2)
    square_lake(folder / "lake", "/archive/c.mp4", number=3, camera=HOSTILE[1], label=HOSTILE[0])
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> Survey:
    return survey(str(place / "lake"), Choice())


def test_the_numbers_are_those_of_the_tables(found: Survey) -> None:
    assert [row["camera"] for row in found.videos] == [HOSTILE[1], "gate", "gate"]
    part = camera_part(found, "gate")
    assert part["labels"] == [("gate", 10)]
    hours = part["events"]["bars"]
    assert [hour for hour in hours if hour[1]] == [("2025-03-01 22:00", 10, 1.0)]
    assert (len(hours), hours[0][0], hours[-1][0]) == (24, "2025-03-01 00:00", "2025-03-01 23:00")
    assert part["busiest"] == (HOUR, 1.0)  # one square, in every sampled frame
    assert {
        "camera": "gate",
        "label": "gate",
        "class": "person",
        "direction": "left_to_right",
        "number": 10,
    } in (found.crossings)
    assert found.failures == []


def test_each_camera_is_shown_from_rows_of_its_own(found: Survey) -> None:
    parts = by_camera(found)
    for name in ("videos", "events", "presence", "frames", "heat", "paths"):
        assert {row["camera"] for row in getattr(parts["gate"], name)} == {"gate"}
        assert sum(len(getattr(part, name)) for part in parts.values()) == len(getattr(found, name)) > 0
    for camera, part in parts.items():
        assert camera_part(part, camera) == camera_part(found, camera)


def test_videos_are_chosen_by_camera_and_date(place: Path) -> None:
    lake = str(place / "lake")
    assert len(survey(lake, Choice(camera="g*", since=DAY, on=DAY)).videos) == 2
    assert survey(lake, Choice(since=date(2025, 3, 2))).videos == []
    assert survey(lake, Choice(camera="none")).videos == []


def test_heat_and_paths_lie_where_the_square_went(found: Survey) -> None:
    gate = [row for row in found.heat if row["camera"] == "gate"]
    assert sum(row["boxes"] for row in gate) == 240
    warm = heat_picture(gate, None).max(axis=2)
    y, x = np.unravel_index(np.argmax(warm), warm.shape)
    # feet go from (60, 140) to (540, 284), all on one straight line
    assert abs((y / HEIGHT * 360 - 140) - (x / WIDTH * 640 - 60) * 144 / 480) < 20
    ways = [row for row in found.paths if row["camera"] == "gate"]
    drawn = np.argwhere(paths_picture(ways, None).max(axis=2) > 100)
    np.testing.assert_allclose([*drawn.min(axis=0), *drawn.max(axis=0)], [140, 60, 283, 536], atol=3)


def test_long_times_are_shown_by_day() -> None:
    chart = bars({datetime(2025, 1, 1, 5, tzinfo=UTC): 1.0, datetime(2025, 3, 1, 7, tzinfo=UTC): 3.0})
    assert chart is not None
    assert (chart["unit"], len(chart["bars"]), chart["top"]) == ("day", 60, 3.0)


@pytest.mark.parametrize(("size", "shown"), [((17, 4000), (5, 1280)), ((4000, 17), (640, 3))])
def test_a_strip_of_a_picture_stays_one_in_pages(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    scene = np.full((*size[::-1], 3), 200, np.uint8)
    assert heat_picture([], scene).shape == (*shown[::-1], 3)
    thumbnail = cv2.imencode(".jpg", scene)[1].tobytes()
    facts = {"width_px": size[0], "height_px": size[1], "thumbnail": thumbnail}
    square_lake(tmp_path / "lake", "/archive/a.mp4", **facts)
    out = tmp_path / "report"
    assert run(["report", "--pages", "--lake", str(tmp_path / "lake"), "--out", str(out)]) == 0
    page = (out / "videos" / f"{1:032x}" / "index.html").read_text(encoding="utf-8")
    jpeg = base64.b64decode(re.search(r"data:image/jpeg;base64,([^\"]+)", page)[1])  # type: ignore[index]
    height, width = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert width <= 960
    assert height <= 1920


@pytest.mark.parametrize(("days", "unit"), [(10, "hour"), (20, "day")])
def test_two_in_every_frame_are_two_on_average_by_hour_and_by_day(days: int, unit: str) -> None:
    """Also where one hour of a day has more frames than another."""
    hours = [HOUR.replace(hour=0) + timedelta(hours=n) for n in range(24 * days)]
    frames = [{"hour": hour, "frames": 36_000 if hour.hour else 10} for hour in hours]
    presence = [{"hour": row["hour"], "class": "person", "boxes": 2 * row["frames"]} for row in frames]
    chart = bars(*occupancy(presence, frames))
    assert chart is not None
    assert (chart["unit"], chart["top"]) == (unit, 2.0)
    assert {value for _, value, _ in chart["bars"]} == {2.0}


def test_a_day_counts_by_its_frames_and_hours_without_any_not_at_all() -> None:
    hours = [HOUR, HOUR + timedelta(hours=1), HOUR + timedelta(days=30)]
    frames = [{"hour": hour, "frames": n} for hour, n in zip(hours, (100, 300, 50), strict=True)]
    presence = [
        {"hour": hour, "class": "car", "boxes": n}
        for hour, n in [(hours[0], 400), (HOUR + timedelta(days=2), 7), (None, 9)]
    ]
    chart = bars(*occupancy(presence, [*frames, {"hour": None, "frames": 5}]))
    assert chart is not None
    assert (len(chart["bars"]), chart["bars"][0][1], chart["top"]) == (31, 1.0, 1.0)
    assert sum(value for _, value, _ in chart["bars"]) == 1.0


def test_hostile_names_stay_text_and_pages_are_linked(found: Survey, tmp_path: Path) -> None:
    linked = tmp_path / "videos" / f"{1:032x}" / "index.html"
    linked.parent.mkdir(parents=True)
    linked.write_text("x")
    html = write_overview(found, tmp_path, "Report").read_text(encoding="utf-8")
    assert f'href="videos/{1:032x}/index.html"' in html
    assert html.count("<script") == html.count("</script") == 1
    assert "<img src=x" not in html
    assert "&lt;script&gt;document.title" in html


def test_the_page_says_in_which_time_zone_its_hours_are(found: Survey, tmp_path: Path) -> None:
    """Cameras may be elsewhere, and none of their time zones is in the lake."""
    html = write_overview(found, tmp_path, "Report").read_text(encoding="utf-8")
    assert "<title>2025-03-01 22:00 UTC: 10</title>" in html
    assert "Events by hour from 2025-03-01 00:00 to 2025-03-01 23:00 UTC" in html
    assert "<span>by hour in UTC</span>" in html


def test_the_command_refuses_an_empty_choice(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    wanted = ["report", "--lake", str(place / "lake"), "--out", str(out)]
    assert run([*wanted, "--camera", "nobody"]) == 2
    assert "no video" in capsys.readouterr().err
    assert run([*wanted, "--camera", "gate", "--date", "2025-03-01"]) == 0
    assert capsys.readouterr().out == f"{out}/index.html\n"
    assert cv2.imread(str(out / "index.html")) is None


def test_of_many_videos_the_newest_are_listed_and_all_counted(
    found: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row for each of 200,000 made a page of 42 MB."""
    failures = [
        {"camera": "gate", "uri": f"/archive/{n}.mp4", "status": "failed", "error_code": "media",
         "error": None, "frames_failed": None, "committed_at": HOUR + timedelta(hours=n)}
        for n in range(3)
    ]  # fmt: skip
    whole = replace(found, failures=failures)
    page = write_overview(whole, tmp_path, "all").read_text(encoding="utf-8")
    assert "the newest" not in page
    monkeypatch.setattr(overview, "MAX_LISTED", 2)
    page = write_overview(whole, tmp_path, "some").read_text(encoding="utf-8")
    assert "<dt>Videos</dt><dd>3</dd>" in page
    assert "<dt>With losses or failed</dt><dd>3</dd>" in page
    assert page.count("the newest 2 of 3") == 2
    failed, videos = page.split('id="failures"')[1].split('id="videos"')
    assert [f"/archive/{n}.mp4" in failed for n in range(3)] == [False, True, True]
    assert [name in videos for name in ("square.mp4", "b.mp4", "c.mp4")] == [False, True, True]
