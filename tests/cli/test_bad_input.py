"""Bad input through the real command: one line that names the thing and the remedy, and the exit code."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.analyze.build import ask
from tests.cli.conftest import Site
from tests.cli.run import is_one_line, marey
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
    (tmp_path / "typo.toml").write_text("[video]\nfps = 5\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["analyze", "absent.mp4"], 2, "absent.mp4 does not exist: check the name"),
        (["analyze", "empty folder"], 2, "directory empty folder holds no video: name the files, or another directory"),
        (["analyze", "*.avi"], 2, "no file matches *.avi: check the pattern"),
        (["analyze", "s3://bucket/x.mp4"], 2, "s3:// inputs are not supported: give files, directories or globs"),
        (["analyze", "text.mp4", "-c", "typo.toml"], 2, "config typo.toml: unknown key 'video.fps': `marey config --schema`"),
        (["analyze", "text.mp4", "-c", "not.toml"], 2, "config not.toml is not TOML: Expected ']'"),
        (["analyze", "text.mp4", "-c", "no.toml"], 2, "config no.toml cannot be read: No such file or directory"),
        (["analyze", "text.mp4", "--set", CROSSED], 2, "--set: rule 'yard': zone is not a simple polygon: Self-inter"),
        (["analyze", "text.mp4", "--set", "video"], 2, "--set video: write key=value"),
        (["analyze", "text.mp4", "--nope"], 2, "No such option: --nope"),
        (["analyze"], 2, "Missing argument 'inputs...': see --help"),
        (["annalyze"], 2, "No such command 'annalyze'"),
        (["analyze", "text.mp4", "--limit", "0"], 2, "Invalid value for '--limit'"),
        (["query", "select 1", "--lake", "nowhere"], 2, "there is no lake at"),
        (["reinterpret", "--lake", "file"], 2, "there is no lake at"),
        (["views", "-e", "oracle"], 2, "Invalid value for '--engine'"),
        (["evaluate", "detector", "--data", "no.json", "--images", "."], 2, "no.json cannot be read: No such file"),
        (["train", "detector", "--data", "no.json", "--images", ".", "--out", "o"], 2, "No such file"),
    ],
)  # fmt: skip
def test_wrong_use(here: Path, arguments: list[str], code: int, said: str) -> None:
    before = sorted(here.rglob("*"))
    done = marey(*arguments, cwd=here)
    assert is_one_line(done), done
    assert done.stderr.startswith("marey: ")
    assert said in done.stderr
    assert done.returncode == code
    assert sorted(here.rglob("*")) == before  # nothing was begun


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/marey"])
def test_a_lake_that_cannot_be_written(here: Path, site: Site, place: str) -> None:
    done = marey("analyze", site.video, "--config", site.toml, "--lake", place, cwd=here)
    assert is_one_line(done), done
    assert f"lake {here / place}" in done.stderr
    assert done.returncode == 3


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
def test_bad_sql(site: Site, tmp_path: Path, sql: str, said: str) -> None:
    done = marey("query", sql, "--lake", site.lake, cwd=tmp_path)
    assert is_one_line(done), done
    assert said in done.stderr
    assert done.returncode == 2


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """Wherever it stands; without it there is none."""
    for arguments in (["--debug", "analyze", "no.mp4"], ["analyze", "no.mp4", "--debug"]):
        done = marey(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        assert "UsageError: no.mp4 does not exist" in done.stderr


def test_names_cannot_move_the_cursor(tmp_path: Path) -> None:
    done = marey("analyze", "a\x1b[2J\nb.mp4", cwd=tmp_path)
    assert is_one_line(done), done
    assert "\x1b" not in done.stderr


def test_a_reader_that_has_seen_enough(site: Site, tmp_path: Path) -> None:
    """`marey query ... | head` is no failure and says nothing."""
    import subprocess

    from tests.cli.run import COMMAND, environment

    command = [*COMMAND, "query", "select * from detections", "--format", "csv", "--lake", str(site.lake)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
