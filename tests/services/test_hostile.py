"""Damaged and hostile files through whole runs, watched from outside."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.analyze.build import ask, config, prepared
from tests.cli.run import COMMAND, environment, marey, write_config
from tests.media.fuzz import SMALL, small_files
from tests.media.make import write_video
from tests.media.mutate import mutated
from tests.media.test_probe import SCRIPTS

MUTANTS = 100
OPEN = re.compile(r'^(?:open|openat|openat2)\((?:AT_FDCWD|\d+[^,]*), "([^"]+)"')


@pytest.fixture(scope="module")
def strace() -> str:
    """The tracer, from Debian's package if it is not here."""
    if shutil.which("strace") is None:
        subprocess.run(["apt-get", "install", "-y", "strace"], check=True, capture_output=True)
    found = shutil.which("strace")
    assert found is not None
    return found


def test_a_hundred_mutants_in_one_run(tmp_path: Path) -> None:
    """Each ends as ok, partial or failed with a reason of its own, and the good one beside them is done."""
    folder = prepared(tmp_path / "prepared")
    whole = small_files(tmp_path / "whole")
    names = list(SMALL)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    shutil.copy(folder / "short.mp4", inbox / "good.mp4")
    for seed in range(MUTANTS):
        name, other = names[seed % len(names)], names[seed // len(names) % len(names)]
        (inbox / f"{seed:03}-{name}").write_bytes(mutated(seed, whole[name], whole[other]))
    settings = config(folder, video__stall_s=5.0, video__max_pixels=2_000_000, video__max_memory_mb=600)
    site = write_config(tmp_path / "site.toml", settings)
    done = marey("analyze", inbox, "--lake", tmp_path / "lake", "--config", site, "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    results = {Path(r["uri"]).name: r for r in json.loads(done.stdout)["videos"]}
    assert results["good.mp4"]["state"] == "ok"
    assert len(results) == MUTANTS + 1
    rows = ask(tmp_path / "lake", "SELECT uri, status, error_code, error, gaps, frames_failed FROM analyses")
    ended = {Path(row["uri"]).name: row for row in rows if row["status"] != "running"}
    assert set(ended) == set(results)
    for name, row in ended.items():
        if row["status"] == "failed":
            assert row["error_code"].startswith("media"), (name, row)
            assert name in row["error"]
        elif row["status"] == "partial":
            assert row["gaps"] or row["frames_failed"], name
    assert {row["status"] for row in ended.values()} == {"ok", "partial", "failed"}


@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_decoding_opens_the_named_file_only(tmp_path: Path, strace: str, reader: str) -> None:
    """Mutants, and texts that name other files: a decoding process opens its video and Python's own files."""
    inbox = tmp_path / "inbox"
    whole = small_files(tmp_path / "whole")
    inbox.mkdir()
    write_video(inbox / "canary.ts", [0, 40], format="mpegts")
    for name, text in SCRIPTS.items():
        (inbox / name).write_text(text)
    names = list(SMALL)
    for seed in range(14):
        name = names[seed % len(names)]
        (inbox / f"{seed}-{name}").write_bytes(mutated(seed, whole[name], whole["v.mkv"]))
    (inbox / "whole.mp4").write_bytes(whole["v.mp4"])
    inputs = sorted(path for path in inbox.iterdir() if path.name != "canary.ts")
    tracing = [strace, "-ff", "-o", tmp_path / "log", "-e", "trace=open,openat,openat2,execve", "-s", "4096"]
    doctor = [*COMMAND, "doctor", *inputs, "--json", "--set", f"video.reader={reader}"]
    subprocess.run(
        [*tracing, *doctor],
        cwd=inbox,
        env=environment(),
        capture_output=True,
        timeout=300,
        check=False,
    )
    children = [text for log in tmp_path.glob("log.*") if "pipeline.media.child" in (text := log.read_text())]
    opened = {match[1] for text in children for line in text.splitlines() if (match := OPEN.match(line))}
    assert len(children) >= len(inputs)  # doctor takes a fresh process for each file
    assert {str(path) for path in inputs} <= opened
    assert [path for path in opened if Path(path).name == "canary.ts"] == []
    theirs = (
        sys.prefix,
        sys.base_prefix,
        "/usr",
        "/lib",
        "/etc",
        "/proc/",
        "/sys/",
        "/dev/",
        str(Path(__file__).parents[2]),
    )
    strangers = {path for path in opened if not path.startswith(theirs)} - {str(path) for path in inputs}
    assert {path for path in strangers if Path(path).exists()} == set()
