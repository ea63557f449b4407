"""What the flows say of their videos."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

from flows import report
from flows.report import LogReporter
from pipeline.analyze import VideoResult

OK = VideoResult(
    "/in/gate.mp4",
    "ok",
    video_id="a",
    duration_s=61.0,
    rows={"frames": 610, "detections": 1200, "tracks": 900, "objects": 7, "events": 2},
)
PARTIAL = replace(
    OK,
    uri="/in/yard.mp4",
    state="partial",
    frames_failed=4,
    gaps=({"cause": "timeout", "t_start": 1.0, "t_end": 2.0, "frames": 4},),
)
FAILED = VideoResult("/in/torn.mp4", "failed", error_code="media", error="/in/torn.mp4: no frame")


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        (["/in/gate.mp4"], "gate.mp4"),
        (["/in/footage/"], "footage"),
        (["gate.mp4", "b.mp4", "c.mp4"], "gate.mp4 and 2 more"),
        (["https://me:hunter2@host/in/gate.mp4?X-Amz-Signature=hunter2#hunter2"], "gate.mp4"),
        (["/"], "/"),
        (["x" * 300], "x" * 100),
        ([], "nothing"),
    ],
)
def test_runs_are_named_after_their_videos(inputs: list[str], name: str) -> None:
    assert report.named(inputs) == name


def test_results_are_plain_json() -> None:
    videos = report.plain([OK, PARTIAL])
    assert json.loads(json.dumps(videos)) == videos
    assert videos[1]["gaps"] == [{"cause": "timeout", "t_start": 1.0, "t_end": 2.0, "frames": 4}]


def test_summary_counts() -> None:
    summary = report.summary("/lake", report.plain([OK, PARTIAL, FAILED]), 3.25)
    assert summary == {
        "lake": "/lake",
        "num_videos": 3,
        "states": {"ok": 1, "partial": 1, "failed": 1},
        "rows": {"frames": 1220, "detections": 2400, "tracks": 1800, "objects": 14, "events": 4},
        "failures": [{"uri": "/in/torn.mp4", "error_code": "media", "error": "/in/torn.mp4: no frame"}],
        "elapsed_s": 3.25,
    }


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ([], "0 videos: nothing to do"),
        ([OK], "1 video: 1 ok"),
        ([replace(OK, state="other_config"), OK, OK], "3 videos: 2 ok, 1 other config"),
    ],
)
def test_states_in_words(results: list[VideoResult], text: str) -> None:
    assert report.states_text(report.plain(results)) == text


def test_failures_in_words() -> None:
    other = replace(FAILED, uri="/in/lost.mp4", error="gone")
    assert report.failure_text(report.plain([OK, FAILED, other])) == (
        "2 of 3 videos failed, first /in/torn.mp4: no frame"
    )
    assert report.failure_text(report.plain([other])) == "1 of 1 videos failed, first /in/lost.mp4: gone"


def test_table_has_failures_first() -> None:
    first, second = report.result_table(report.plain([OK, replace(FAILED, note="failed before")]))
    assert (first["state"], first["reason"]) == ("failed", "/in/torn.mp4: no frame failed before")
    assert (second["video"], second["duration"], second["objects"]) == ("/in/gate.mp4", "1:01", 7)
    assert first.keys() == second.keys()


def test_table_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_TABLE_ROWS", 2)
    rows = report.result_table(report.plain([OK] * 5))
    assert [row["video"] for row in rows] == [OK.uri, OK.uri, "3 more, all in the lake's analyses"]
    assert report.result_table(report.plain([OK] * 2))[-1]["video"] == OK.uri
    many = report.page(report.summary("l", report.plain([FAILED] * 5), 0), report.plain([FAILED] * 5))
    assert many.count("torn.mp4: no frame") == 2
    assert many.endswith("- 3 more\n")


def test_page() -> None:
    videos = report.plain([OK, PARTIAL, FAILED])
    page = report.page(report.summary("/lake", videos, 61), videos, stopped="lake is full")
    assert page == (
        "# 3 videos: 1 ok, 1 partial, 1 failed\n\n"
        "2:02 of footage in 1:01, lake /lake\n\n"
        "**Stopped:** lake is full\n\n"
        "| table | rows of these videos |\n|---|---:|\n"
        "| frames | 1,220 |\n| detections | 2,400 |\n| tracks | 1,800 |\n| objects | 14 |\n| events | 4 |\n\n"
        "## Failed\n\n- /in/torn.mp4: /in/torn.mp4: no frame\n\n"
        "## Partial\n\n- /in/yard.mp4: 4 frames lost (timeout)\n"
    )


def test_a_lake_as_a_link() -> None:
    assert report.address("s3://archive/lake") == "s3://archive/lake"
    assert report.address("/archive/my lake") == "file:///archive/my%20lake"


def test_names_of_files_are_not_markup() -> None:
    uri = "/in/<img src=x>|[a](javascript:b)\n# **big**.mp4"
    videos = report.plain([replace(FAILED, uri=uri, error="`no`")])
    page = report.page(report.summary("/lake", videos, 1), videos)
    expected = r"- /in/\<img src=x\>\|\[a\](javascript:b) \# \*\*big\*\*.mp4: \`no\`"
    assert page.splitlines()[-1] == expected


def test_failures_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reporter = LogReporter(logging.getLogger("run"))
    reporter.begin(3)
    reporter.video(OK.uri, OK.duration_s)
    for result in (OK, replace(OK, state="current"), FAILED):
        reporter.done(result)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "inputs: 3"),
        ("INFO", "begins   /in/gate.mp4 - 1:01"),
        ("INFO", "ok       /in/gate.mp4 - 7 objects, 2 events"),
        ("WARNING", "failed   /in/torn.mp4 - /in/torn.mp4: no frame"),
    ]
    assert reporter.meter.num_done == 3
    assert len(reporter.results) == 3


def test_names_of_files_make_no_lines_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reporter = LogReporter(logging.getLogger("run"))
    uri = "/in/a\n12:00:00 | ERROR | forged\x1b[2J.mp4"
    reporter.video(uri, 61.0)
    reporter.segment(uri, "ab", 0, 599)
    for result in (replace(OK, uri=uri), replace(FAILED, uri=uri, error=f"{uri}: no frame")):
        reporter.done(result)
    reporter.note(uri)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5
    assert all(line.isprintable() and r"a\n12:00:00 | ERROR | forged\x1b[2J.mp4" in line for line in lines)
