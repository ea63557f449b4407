"""Bad input through the real command: one line that names the thing and the remedy, and the exit code."""

from __future__ import annotations

import os
import resource
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.cli import run
from pipeline.cli.output import Format, write
from pipeline.errors import StorageError
from tests.analyze.build import ask
from tests.cli.conftest import Site
from tests.cli.run import COMMAND, environment, is_one_line, marey, within
from tests.media.make import write_video
from tests.media.test_probe import opens_of

CROSSED = "rules=[{name='yard', kind='zone_entry', zone=[[0, 0], [1, 1], [1, 0], [0, 1]]}]"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with what may be wrong."""
    (tmp_path / "empty folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "not.toml").write_text("[video\n")
    (tmp_path / "coco.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}'
    )
    (tmp_path / "typo.toml").write_text("[video]\nfps = 5\n")
    return tmp_path


WRONG_USE = {
    "missing file": (["analyze", "absent.mp4"], "absent.mp4 does not exist: check the name"),
    "no videos": (["analyze", "empty folder"], "directory empty folder holds no video: name the files, or"),
    "no match": (["analyze", "*.avi"], "no file matches *.avi: check the pattern"),
    "scheme": (["analyze", "gs://b/x.mp4"], "gs:// inputs are not supported: give files, directories,"),
    "unknown key": (
        ["analyze", "text.mp4", "-c", "typo.toml"],
        "config typo.toml, line 2: unknown key 'video.fps' (did you mean 'video.sample_fps'?): `mar",
    ),
    "no TOML": (["analyze", "text.mp4", "-c", "not.toml"], "config not.toml is not TOML: Expected ']'"),
    "no config": (["analyze", "text.mp4", "-c", "no.toml"], "config no.toml cannot be read: No such file or"),
    "wrong rule": (
        ["analyze", "text.mp4", "--set", CROSSED],
        "rule 'yard': zone is not a simple polygon: Self-",
    ),
    "wrong set": (["analyze", "text.mp4", "--set", "video"], "--set video: write key=value"),
    "unknown option": (["analyze", "text.mp4", "--nope"], "No such option: --nope"),
    "SQL like an option": (
        ["query", "-- how many\nselect count(*) from events"],
        "select count(*) from events: put -- before it, if it is none",
    ),
    "no argument": (["analyze"], "Missing argument 'inputs': see --help"),
    "unknown command": (["annalyze"], "No such command 'annalyze'"),
    "wrong number": (["analyze", "text.mp4", "--limit", "0"], "Invalid value for '--limit'"),
    "no lake": (["query", "select 1", "--lake", "nowhere"], "there is no lake at"),
    "file as lake": (["reinterpret", "--lake", "file"], "there is no lake at"),
    "unknown engine": (["views", "-e", "oracle"], "Invalid value for '--engine' / '-e': 'oracle' is not"),
    "no truth": (
        ["evaluate", "detector", "--data", "no.json", "--images", "."],
        "no.json cannot be read: No such",
    ),
    "no data": (["train", "detector", "--data", "no.json", "--images", ".", "--out", "o"], "No such file"),
    "no images": (
        ["train", "detector", "--data", "a", "--data", "b", "--images", "."],
        "one folder for each file",
    ),
    "odd size": (
        ["train", "detector", "--data", "a", "--images", ".", "--size", "100"],
        "a multiple of 32, got 100",
    ),
    "weights into a folder": (
        ["train", "motion", "--out", "empty folder"],
        "empty folder cannot be written: it is a directory",
    ),
    "weights below a file": (
        ["train", "events", "--data", "absent", "--out", "file/a.safetensors"],
        "file/a.safetensors cannot be written: file is no directory",
    ),
    "a report below a file": (
        ["evaluate", "detector", "--data", "coco.json", "--images", ".", "--report", "file"],
        "file/curves.png cannot be written: file is no directory",
    ),
    "no time": (["train", "motion", "--minutes", "0"], "must be above 0, got 0"),
    "an address without digest": (
        ["evaluate", "events", "--data", "absent", "--model", "https://example.org/a.safetensors"],
        "need #sha256=",
    ),
    "no weights": (
        ["analyze", "text.mp4", "--set", "perceive.weights=no.safetensors"],
        "no.safetensors cannot be r",
    ),
}


@pytest.mark.parametrize("case", WRONG_USE)
def test_wrong_use(
    here: Path, case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    arguments, said = WRONG_USE[case]
    before = sorted(here.rglob("*"))
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("marey: ")
    assert err.count("\n") == 1
    assert said in err
    assert sorted(here.rglob("*")) == before  # nothing was begun


@pytest.mark.parametrize("case", ["missing file", "unknown key", "unknown option"])
def test_wrong_use_in_a_process_of_its_own(here: Path, case: str) -> None:
    arguments, said = WRONG_USE[case]
    done = marey(*arguments, cwd=here)
    assert is_one_line(done), done
    assert said in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/marey"])
def test_a_lake_that_cannot_be_written(
    here: Path, site: Site, place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    assert run(["analyze", str(site.video), "--config", str(site.toml), "--lake", place]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"marey: lake {here / place}")


def test_bad_files_beside_a_good_one(here: Path, site: Site) -> None:
    """Each is one line; the good one is done; the script's file is not opened."""
    other = write_video(here / "other.ts", [0, 40], format="mpegts")
    (here / "script.mp4").write_text("ffconcat version 1.0\nfile other.ts\n")
    shutil.copy(site.video, here / "good.mp4")
    names = ["text.mp4", "absent.mp4", "script.mp4", "empty.mp4", "good.mp4"]
    done = None

    def analyze() -> None:
        nonlocal done
        done = marey("analyze", *names, "--config", site.toml, "--lake", "lake", cwd=here)

    assert opens_of(other, analyze) == 0
    assert done is not None
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    for name, why in (
        ("absent.mp4", "does not exist"),
        ("text.mp4", ""),
        ("script.mp4", ""),
        ("empty.mp4", "empty"),
    ):
        [line] = [line for line in lines if name in line]
        assert line.startswith(f"failed   {here / name}")
        assert why in line
        assert ": " in line.split(" - ", 1)[1]  # what, then what to do
    [good] = [line for line in lines if "good.mp4" in line]
    assert good.startswith("ok ")
    assert lines[-1].endswith("4 failed, 1 ok")
    assert "Traceback" not in done.stderr
    assert ask(here / "lake", "SELECT count(*) AS n FROM frames") == [{"n": 60}]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select nope from frames", "No field named nope"),
        ("selec 1", "a query only reads (got 'selec 1'): begin with SELECT or WITH"),
        ("drop table frames", "a query only reads"),
    ],
)
def test_bad_sql(site: Site, sql: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", sql, "--lake", str(site.lake)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever it stands; without it there is none."""
    path = str(tmp_path / "no.mp4")
    for arguments in (["--debug", "analyze", path], ["analyze", path, "--debug"]):
        assert run(arguments) == 2
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert f"UsageError: {path} does not exist" in err


def test_a_bug_is_one_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That asks for --debug, by which it can be reported."""

    def broken(*arguments: object) -> None:
        raise RuntimeError("oh\nno")

    monkeypatch.setattr("pipeline.config.load", broken)
    assert run(["config"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("marey: this is a bug of marey, --debug shows where: RuntimeError: oh")
    assert err.count("\n") == 1


def test_names_cannot_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", str(tmp_path / "a\x1b[2J\nb.mp4")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert run(["doctor", str(tmp_path / "a\x1b[2J\nb.mp4")]) == 1
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == ["file", "error"]
    assert "\x1b" not in out + err


def test_a_reader_that_has_seen_enough(site: Site, tmp_path: Path) -> None:
    """`marey query ... | head` is no failure and says nothing."""
    command = [*COMMAND, "query", "select * from detections", "--format", "csv", "--lake", str(site.lake)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


class _PollOfMacOS:
    """Of a stream that is registered for no event poll(2) of macOS tells nothing, not even that it broke."""

    def __init__(self) -> None:
        self._poll = _poll()

    def register(self, stream: int, events: int) -> None:
        if events:
            self._poll.register(stream, events)

    def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
        return self._poll.poll(timeout_ms)


_poll = select.poll


def test_a_reader_that_has_seen_enough_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(select, "poll", _PollOfMacOS)
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert run(["config"]) == 0


def test_who_no_longer_reads_progress_does_not_end_the_work(site: Site, tmp_path: Path) -> None:
    """`marey analyze ... 2>&1 | head -1` analyses all the same."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "analyze", str(site.video), "--config", str(site.toml), "--lake", "lake"],
        stdout=subprocess.PIPE, stderr=writing, cwd=tmp_path, env=environment(), check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, b"")
    assert ask(tmp_path / "lake", "SELECT count(*) AS n FROM frames") == [{"n": 60}]


@pytest.mark.parametrize(("before", "code"), [(signal.SIG_DFL, 143), (signal.SIG_IGN, 0)])
def test_a_terminal_that_is_closed_ends_the_work_in_order(before: signal.Handlers, code: int) -> None:
    """As SIGTERM does, with everything that is finished committed; under `nohup` it goes on."""
    harness = signal.signal(signal.SIGHUP, before)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipeline.cli._run", lambda _: os.kill(os.getpid(), signal.SIGHUP) or 0)
            assert run(["analyze"]) == code
        assert signal.getsignal(signal.SIGHUP) is before
    finally:
        signal.signal(signal.SIGHUP, harness)


@pytest.mark.parametrize("command", [["config"], ["query", "select * from detections", "--format", "csv"]])
def test_output_to_a_full_disk(command: list[str], site: Site, tmp_path: Path) -> None:
    lake = ["--lake", str(site.lake)] if command[0] == "query" else []
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, *command, *lake],
            stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, "marey: output cannot be written: No space left on device\n")


@pytest.mark.parametrize("form", [Format.csv, Format.parquet])
def test_a_file_that_does_not_fit_leaves_the_one_before(tmp_path: Path, form: Format) -> None:
    """Nor half of it beside; a limit on files is met as a full disk is."""
    path, rows = tmp_path / "rows", pa.table({"n": range(1000)})
    path.write_text("yesterday's")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(StorageError, match=f"{path} cannot be written: "):
            write(rows, form, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"rows": "yesterday's"}
    write(rows, form, path)
    assert path.stat().st_size > 1000
    if form is not Format.parquet:
        with pytest.raises(StorageError, match="/dev/full cannot be written"):
            write(rows, form, Path("/dev/full"))


@pytest.mark.parametrize("command", [["config"], ["query", "select 1 as one"]])
def test_output_that_is_closed(command: list[str], site: Site, tmp_path: Path) -> None:
    """`marey query ... >&-`; with stderr closed as well the exit code still tells."""
    lake = f"--lake {site.lake}" if command[0] == "query" else ""
    words = shlex.join([*COMMAND, *command])
    for more, told in (
        ("", "marey: output cannot be written: Bad file descriptor\n"),
        ("2>&-", ""),
        ("<&-", None),
    ):
        done = subprocess.run(
            f"{words} {lake} >&- {more}",
            shell=True, capture_output=True, cwd=tmp_path, env=environment(), text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (3, "")
        assert told is None or done.stderr == told


def test_work_that_prints_nothing_needs_no_output(site: Site, tmp_path: Path) -> None:
    command = [*COMMAND, "analyze", str(site.video), "--config", str(site.toml), "--lake", "lake"]
    done = subprocess.run(
        f"{shlex.join(command)} <&- >&- 2>&-", shell=True, cwd=tmp_path, env=environment(), check=False
    )
    assert done.returncode == 0
    assert ask(tmp_path / "lake", "SELECT count(*) AS n FROM frames") == [{"n": 60}]


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/marey", "/proc"])
def test_a_demo_that_cannot_be_written(here: Path, place: str) -> None:
    done = within("demo", "--out", place, cwd=here)
    assert is_one_line(done), done.stderr
    assert done.returncode == 2
    assert done.stderr.startswith(f"marey: {place} cannot be written: ")


def test_another_pipe_that_breaks_is_no_success(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where nobody reads the output is it enough to stop."""

    def broken(*arguments: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("pipeline.config.load", broken)
    assert run(["config"]) == 1
    assert "BrokenPipeError" in capfd.readouterr().err


def test_where_no_temporary_file_can_be_written_the_variable_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    assert run(["analyze", str(here / "text.mp4"), "--dry-run", "--lake", str(here / "none")]) == 3
    told = "marey: temporary files cannot be written anywhere: set TMPDIR to a folder for them\n"
    assert capsys.readouterr().err == told
