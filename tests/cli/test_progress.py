"""Progress: what is counted, and lines that fit in a log."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from time import process_time

import pytest

from pipeline.analyze.outcome import VideoResult
from pipeline.cli import progress
from pipeline.cli.progress import BarReporter, Meter, PlainReporter, clock, reporter, result_line
from pipeline.cli.text import printable, say
from tests.cli.conftest import Site
from tests.cli.run import marey


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_meter(time: Clock) -> None:
    """Two of four videos of about 100 s are known, one is done; 150 s were seen in 10 s."""
    meter = Meter()
    meter.num_videos = 4
    assert (meter.total_s, meter.eta_s) == (None, None)
    for uri, duration_s in (("a", 80.0), ("b", 60.0), ("b", 120.0)):
        meter.add(uri, duration_s)
    meter.num_done = 1
    meter.seen_s = 150.0
    time.now += 10
    assert meter.speed == 15
    assert meter.total_s == 400
    assert meter.eta_s == pytest.approx(250 / 15)
    assert meter.line() == "1/4 videos, 0.04 h of footage, 15.0x real time, 0:17 left"


def test_a_bar_costs_no_more_for_each_of_many_videos() -> None:
    """Videos before are not added up with each frame; side by side, the best of six."""

    def seconds(num_videos: int) -> float:
        meter = Meter()
        meter.num_videos, meter.seen_s = 50_000, 1.0
        for number in range(num_videos):
            meter.add(str(number), 60.0)
        begin = process_time()
        for _ in range(50):
            meter.line()
        return process_time() - begin

    pairs = [(seconds(10), seconds(20_000)) for _ in range(6)]
    assert min(many for _, many in pairs) < 8 * min(few for few, _ in pairs)


def test_a_bar_outlives_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a command in the background whose window is closed."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with reporter() as bar:
            assert isinstance(bar, BarReporter)
            bar.begin(2)
            assert os.read(master, 4096)
            os.close(master)
            for _ in range(2):
                bar.note("not seen")
                bar.bar.refresh()
        say("not seen either")


def test_plain_lines(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """One now and then, one for each video, none for what was done before."""
    plain = PlainReporter()
    plain.begin(3)
    plain.video("a.mp4", 60.0)
    for _ in range(100):
        time.now += 0.5
        plain.advance(0.5)
    plain.done(VideoResult("a.mp4", "ok", rows={"objects": 2, "events": 1}))
    plain.done(VideoResult("b.mp4", "current"))
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 4  # 50 s: three of progress, one of the video
    assert lines[0].startswith("0/3 videos, 0.00 h of footage, 1.0x real time")
    assert lines[-1] == "ok       a.mp4 - 2 objects, 1 events"


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (VideoResult("a", "failed", error="no", note="failed before"), "failed   a - no (failed before)"),
        (VideoResult("a", "planned", note="events"), "planned  a (events)"),
        (
            VideoResult(
                "a",
                "partial",
                rows={"objects": 0, "events": 0},
                frames_failed=3,
                gaps=({"cause": "media"}, {"cause": "crash"}),
            ),
            "partial  a - 0 objects, 0 events, 3 frames lost (crash, media)",
        ),
    ],
)
def test_result_lines(result: VideoResult, line: str) -> None:
    assert result_line(result) == line


def test_printable() -> None:
    assert printable("Straße 🚚 a\tb\r\n\x1b[1m\udce9") == "Straße 🚚 a\\tb\\r\\n\\x1b[1m\\udce9"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with reporter() as plain:
        assert not isinstance(plain, BarReporter)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with reporter() as bar:
        assert isinstance(bar, BarReporter)
        bar.begin(1)
        bar.video("a.mp4", 10.0)
        bar.advance(5.0)
        bar.note("a line\x07")
        bar.done(VideoResult("a.mp4", "ok", rows={"objects": 1, "events": 0}))
    shown = terminal.getvalue()
    assert "a line\\x07" in shown
    assert "ok       a.mp4 - 1 objects, 0 events" in shown


def test_lines_for_machines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MAREY_LOG", "json")
    with reporter() as lines:
        lines.segment("/a b.mp4", "f" * 32, 0, 599)
        lines.done(VideoResult("/a b.mp4", "failed", "f" * 32, error_code="media", error="no picture"))
        lines.note("1/1 videos")
    segment, video, note = map(json.loads, capsys.readouterr().err.splitlines())
    assert (segment["event"], segment["video_id"], segment["segment"]) == ("segment", "f" * 32, "0-599")
    assert (video["event"], video["level"], video["error"]) == ("video", "WARNING", "no picture")
    assert (note["text"], set(note)) == ("1/1 videos", {"time", "level", "event", "text"})


def test_every_line_for_machines_is_json(site: Site, tmp_path: Path) -> None:
    """Also the last one, and errors; results stay on stdout."""
    (tmp_path / "torn.mp4").write_text("no video at all")
    command = ["analyze", site.video, "torn.mp4", "--config", site.toml, "--lake", "lake"]
    done = marey(*command, cwd=tmp_path, MAREY_LOG="json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, done.stdout) == (1, "")
    states = {line["uri"]: line["state"] for line in lines if line["event"] == "video"}
    assert states == {str(site.video): "ok", str(tmp_path / "torn.mp4"): "failed"}
    assert (lines[-1]["event"], lines[-1]["text"].startswith("2 videos in ")) == ("note", True)
    done = marey("watch", "gone", "--lake", "lake", cwd=tmp_path, MAREY_LOG="json")
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, line["event"], line["level"]) == (2, "error", "ERROR")
    assert "does not exist: check the name, or make it" in line["text"]
