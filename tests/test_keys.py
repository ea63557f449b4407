"""Camera and time from keys: patterns, time zones, what is refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import CameraPattern
from pipeline.keys import compile_pattern
from pipeline.sources import camera_and_time

DEFAULT = CameraPattern().pattern
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\n"), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("pattern", "key", "camera", "at"),
    [
        (DEFAULT, "/archive/gate/2026/03/01/120000", "gate", NOON),
        (DEFAULT, "gate/2026/03/01/120000", "gate", NOON),
        ("{camera}_{recorded_at}", "x/cam_1_20260301T120000", "cam_1", NOON),
        ("{recorded_at:%d.%m.%y %H-%M}-{camera}", "01.03.26 12-00-hall", "hall", NOON),
        ("{camera}/{recorded_at:%Y%j%H}", "a/202606012", "a", NOON),
        ("{camera}/{recorded_at:%d%b%Y %I%M%p}", "a/01Mar2026 1200PM", "a", NOON),
        ("{recorded_at:%Y-%m-%dT%H%M%S.%f%z}", "2026-03-01T140000.000000+02:00", None, NOON),
        ("{recorded_at:%Y%m%d%H%M%z}", "202603011200Z", None, NOON),
        ("{recorded_at:%Y%m%d%%%H}", "20260301%12", None, NOON),
        ("cam-{camera}/[100%]", "cam-7/[100%]", "7", None),
    ],
)
def test_matches(pattern: str, key: str, camera: str | None, at: datetime | None) -> None:
    assert compile_pattern(pattern, "UTC").match(key) == (camera, at)


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        (DEFAULT, "/archive/gate/2026/13/01/120000"),  # no month 13
        (DEFAULT, "/archive/gate/2026/02/30/120000"),
        (DEFAULT, "/archive/gate/2026/03/01/120000/more"),
        (DEFAULT, "/archive/gate/2026/03/01/120000\n"),
        (DEFAULT, "/2026/03/01/120000"),  # no camera
        ("{camera}/{recorded_at:%Y%m%d}", "a/٢٠٢٦٠٣٠١"),  # digits of another script
        ("{camera}/{recorded_at:%Y%m%d%z}", "a/Z"),
        ("{camera}/{recorded_at:%Y%m%d%z}", "a/00010101+23:59"),  # before the year 1
    ],
)
def test_does_not_match(pattern: str, key: str) -> None:
    assert compile_pattern(pattern, "UTC").match(key) is None


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("20260701T120000", datetime(2026, 7, 1, 10, tzinfo=UTC)),  # summer time
        ("20260101T120000", datetime(2026, 1, 1, 11, tzinfo=UTC)),
        ("20261025T023000", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # twice on the clock: the first
        ("20261025T030000", datetime(2026, 10, 25, 2, 0, tzinfo=UTC)),
        ("20260329T023000", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),  # not on the clock at all
    ],
)
def test_time_zones(local: str, utc: datetime) -> None:
    assert compile_pattern("{recorded_at}", "Europe/Berlin").match(local) == (None, utc)


def test_an_offset_in_the_key_beats_the_zone() -> None:
    pattern = compile_pattern("{recorded_at:%Y%m%dT%H%M%S%z}", "Europe/Berlin")
    assert pattern.match("20260701T120000-0700") == (None, datetime(2026, 7, 1, 19, tzinfo=UTC))


@pytest.mark.parametrize(
    ("pattern", "zone", "message"),
    [
        ("{camera}", "Mars/Olympus", "unknown time zone 'Mars/Olympus'"),
        ("{camera}", "../../etc/passwd", "unknown time zone"),
        ("{camera}", "", "unknown time zone"),
        ("", "UTC", "may hold {camera} and {recorded_at"),
        ("clips", "UTC", "may hold {camera}"),
        ("{camera}/{place}", "UTC", "may hold {camera}"),
        ("{camera", "UTC", "may hold {camera}"),
        ("{camera}/a}", "UTC", "may hold {camera}"),
        ("{{camera}", "UTC", "may hold {camera}"),
        ("{camera}/{camera}", "UTC", "holds {camera} twice"),
        ("{camera:%Y}", "UTC", "takes no format"),
        ("{camera}/{recorded_at:%Y%m%d}*", "UTC", "holds a *"),
        ("*/{camera}", "UTC", "holds a *"),
        ("{recorded_at:%Y%m%d%Y}", "UTC", "%Y comes twice"),
        ("{recorded_at:%Y%m%d%Q}", "UTC", "%Q is not supported"),
        ("{recorded_at:%Y%m%d%}", "UTC", "is not supported"),
        ("{recorded_at:%H%M%S}", "UTC", "needs a year, a month and a day"),
        ("{recorded_at:%Y-%m}", "UTC", "needs a year, a month and a day"),
        ("{recorded_at:%Y%m%d%I%M}", "UTC", "%I and %p stand together"),
        ("{recorded_at:%Y%m%d%H%M%p}", "UTC", "%I and %p stand together"),
        ("{recorded_at:%Y%m%d%H%I%p}", "UTC", "%H and %I are the same hour"),
    ],
)
def test_refused(pattern: str, zone: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        compile_pattern(pattern, zone)


@given(
    camera=NAMES,
    at=st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)),
    zone=st.sampled_from(
        ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"]
    ),
    folder=st.sampled_from(["", "/", "/archive/2025/"]),
)
def test_what_is_written_is_read_again(camera: str, at: datetime, zone: str, folder: str) -> None:
    key = f"{folder}{camera}/{at:%Y/%m/%d/%H%M%S}"
    local = at.replace(microsecond=0, tzinfo=ZoneInfo(zone))
    assert compile_pattern(DEFAULT, zone).match(key) == (camera, local.astimezone(UTC))


@given(key=st.text(max_size=40), pattern=st.sampled_from([DEFAULT, "{camera}-{recorded_at:%Y%m%d%H%M%S%f}"]))
def test_no_key_is_an_error(key: str, pattern: str) -> None:
    found = compile_pattern(pattern, "Europe/Berlin").match(key)
    assert found is None or found[1] is not None


def test_the_first_pattern_that_matches_wins() -> None:
    patterns = [
        CameraPattern(pattern="{camera}/{recorded_at:%Y%m%d}"),
        CameraPattern(pattern="{camera}"),
    ]
    assert camera_and_time("/a/gate/20260301.mp4", patterns) == ("gate", datetime(2026, 3, 1, tzinfo=UTC))
    assert camera_and_time("/a/gate/today.mp4", patterns) == ("today", None)
    assert camera_and_time("/a/gate/today.mp4", patterns[:1]) == (None, None)
    assert camera_and_time("/a/gate/today.mp4", []) == (None, None)


def test_a_pattern_may_end_with_the_suffix() -> None:
    """As one writes it who has the names before the eyes; it was never met by any."""
    patterns = [
        CameraPattern(pattern="{camera}/{recorded_at:%Y/%m%d}.mp4"),
        CameraPattern(pattern="old-{camera}.MKV"),
    ]
    first = datetime(2026, 3, 1, tzinfo=UTC)
    assert camera_and_time("/a/gate/2026/0301.mp4", patterns) == ("gate", first)
    assert camera_and_time("/a/gate/2026/0301.MP4", patterns) == ("gate", first)
    assert camera_and_time("/a/gate/2026/0301.mkv", patterns) == (None, None)
    assert camera_and_time("/a/old-gate.mkv", patterns) == ("gate", None)
    assert camera_and_time("/a/0301.mp4.mkv", patterns) == (None, None)
