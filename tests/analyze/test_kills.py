"""Runs that are killed, interrupted or terminated, and what the next one makes of it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.analyze import Options, analyze, run
from pipeline.analyze.interpret import Rows, interpret
from pipeline.lake import Lake
from pipeline.lake.commit import start_attempts
from tests.analyze.build import SHORT_S, Ticking, ask, config, counts, rows, write_clip
from tests.cli.run import start, write_config
from tests.lake.build import running

PATIENCE_S = 60.0


def staged(lake: Path) -> dict[str, tuple[int, int]]:
    """Finished segments: name to inode and time of change."""
    found = {}
    for path in (lake / "_staging").glob("*/*.parquet"):
        info = path.stat()
        found[path.name] = (info.st_ino, info.st_mtime_ns)
    return found


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Whether it came true before the process ended."""
    end = time.monotonic() + PATIENCE_S
    while not ready():
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, "the run makes no progress"
        time.sleep(0.003)
    return True


def has_rows(lake: Path, table: str) -> bool:
    return bool(list((lake / table).rglob("*.parquet")))


def test_killed_at_five_moments(folder: Path, tmp_path: Path, whole: Path) -> None:
    """Equal rows, finished segments stay as they are, and a further run adds nothing."""
    lake, video = tmp_path / "lake", folder / "long.mp4"
    settings = config(folder, run__segment_s=3, lake__commit_interval_s=0)
    site = write_config(tmp_path / "site.toml", settings)
    rng = random.Random(9)
    moments: list[Callable[[], bool]] = [
        lambda: has_rows(lake, "analyses"),
        *((lambda n=n: len(staged(lake)) >= n) for n in (2, 5, 8)),  # type: ignore[misc]
        lambda: has_rows(lake, "frames"),  # in the midst of the commit
    ]
    before: dict[str, tuple[int, int]] = {}
    for moment in moments:
        process = start("analyze", video, "--lake", lake, "--config", site, cwd=tmp_path)
        assert wait_for(moment, process)
        time.sleep(rng.uniform(0, 0.2) if moment is not moments[-1] else 0)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        after = staged(lake)
        if after or not has_rows(lake, "frames"):  # else the kill came too late, after the commit
            assert {name: after[name] for name in before} == before
        before = after
    ended = [row["status"] for row in ask(lake, "SELECT status FROM analyses ORDER BY revision")]
    assert ended[:4] == ["running"] * 4
    summary = analyze([str(video)], str(lake), settings)
    assert summary.exit_code() == 0
    assert staged(lake) == {}
    assert rows(lake) == rows(whole)
    total = counts(lake)
    analyze([str(video)], str(lake), settings)
    assert counts(lake) == total


def test_children_end_with_a_killed_command(folder: Path, tmp_path: Path) -> None:
    """Kill -9 of the command alone, not of its group, while it decodes."""
    lake = tmp_path / "lake"
    site = write_config(tmp_path / "site.toml", config(folder, run__segment_s=3))
    process = start("analyze", folder / "long.mp4", "--lake", lake, "--config", site, cwd=tmp_path)
    assert wait_for(lambda: len(staged(lake)) >= 2, process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.communicate()
    gone, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert (len(gone), alive) == (len(children), [])


def interrupt() -> None:
    raise KeyboardInterrupt


def test_segments_of_another_length_are_used(folder: Path, lake: Path, whole: Path) -> None:
    """A run may be continued with another run.segment_s, and by a run that finds a damaged segment."""
    video = str(folder / "long.mp4")
    with pytest.raises(KeyboardInterrupt):
        one = config(folder, run__segment_s=7, run__decoders=1)  # one segment after the other
        analyze([video], str(lake), one, reporter=Ticking(24.0, interrupt))  # two batches on
    names = sorted(staged(lake), key=lambda name: int(name.split("-")[0]))
    assert names == ["0-69.parquet", "70-139.parquet", "140-209.parquet"]
    [folder_of_it] = (lake / "_staging").iterdir()
    (folder_of_it / names[1]).write_bytes(b"PAR1 not really")  # as only a bad disk would
    assert analyze([video], str(lake), config(folder, run__segment_s=9)).exit_code() == 0
    assert rows(lake) == rows(whole)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_broken_off(folder: Path, tmp_path: Path, number: signal.Signals, code: int, word: str) -> None:
    """What is finished is committed, children are gone, segments are kept, and nothing counts as a crash."""
    lake = tmp_path / "lake"
    videos = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for source, target in zip(("short.mp4", "long.mp4"), videos, strict=True):
        shutil.copy(folder / source, target)
    settings = config(folder, run__segment_s=6, run__decoders=1, lake__commit_interval_s=600)
    site = write_config(tmp_path / "site.toml", settings)
    process = start("analyze", *videos, "--lake", lake, "--config", site, cwd=tmp_path)
    assert wait_for(lambda: any(name.startswith("60-") for name in staged(lake)), process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    assert not has_rows(lake, "frames")  # the first video is finished and waits for the group's commit
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (code, "")
    assert err.splitlines()[-1] == f"marey: {word}; what is done stays done"
    assert "Traceback" not in err
    assert not [child for child in children if child.is_running()]
    by_video = {
        row["uri"]: row["status"] for row in ask(lake, "SELECT uri, status FROM analyses ORDER BY revision")
    }
    assert by_video == {str(videos[0]): "ok", str(videos[1]): "abandoned"}
    kept = staged(lake)
    assert kept
    summary = analyze([str(video) for video in videos], str(lake), settings, Options(dry_run=True))
    assert [(result.state, result.note) for result in summary.results] == [
        ("current", ""),
        ("planned", "perception"),
    ]
    assert staged(lake) == kept


def test_other_workers_at_the_same_video_do_not_count_as_dead(folder: Path, lake: Path) -> None:
    video, settings = folder / "short.mp4", config(folder, lake__max_attempts=3)
    [planned] = analyze([str(video)], str(lake), settings, Options(dry_run=True)).results
    opened = Lake.open(lake)
    start_attempts(opened, [running(str(planned.video_id), uri=str(video), camera=None) for _ in range(9)])
    assert [r.state for r in analyze([str(video)], str(lake), settings).results] == ["ok"]


def test_a_video_that_kills_its_worker_is_left_alone(folder: Path, lake: Path) -> None:
    """After max_attempts attempts without an end, not before; --retry-failed tries again."""
    video, settings = folder / "short.mp4", config(folder, lake__max_attempts=3)
    [planned] = analyze([str(video)], str(lake), settings, Options(dry_run=True)).results
    values = {"video_id": planned.video_id, "uri": str(video), "camera": None}
    opened = Lake.open(lake)
    for number in range(settings.lake.max_attempts):
        [would] = analyze([str(video)], str(lake), settings, Options(dry_run=True)).results
        assert would.note == "perception", number
        # As a run leaves it that was killed here; ten minutes later it counts.
        start_attempts(opened, [running(**values, started_at=datetime.now(UTC) - timedelta(minutes=10))])
    [result] = analyze([str(video)], str(lake), settings).results
    assert (result.state, result.error_code) == ("failed", "quarantined")
    assert "--retry-failed" in (result.error or "")
    before = counts(lake)
    assert analyze([str(video)], str(lake), settings).exit_code() == 1
    assert counts(lake) == before
    [result] = analyze([str(video)], str(lake), settings, Options(retry_failed=True)).results
    assert result.state == "ok"


def test_a_video_at_which_the_program_fails_is_left_alone(
    folder: Path, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends max_attempts runs, and no more; whatever was at work beside it is not held responsible."""
    poison, good = tmp_path / "poison.mp4", write_clip(tmp_path / "good.mp4", 1)
    shutil.copy(folder / "short.mp4", poison)
    videos, settings = [str(poison), str(good)], config(folder, lake__max_attempts=3)

    def failing(pairs: Any, interpreter: Any, rows: Rows) -> None:
        interpret(pairs, interpreter, rows)
        if rows.counts["frames"] == 10 * SHORT_S:
            raise ArithmeticError("a number\nthat nobody foresaw")

    monkeypatch.setattr(run, "interpret", failing)
    attempts = 3 + 1  # a segment was finished: the one behind its end
    for _ in range(attempts):
        with pytest.raises(ArithmeticError):
            analyze(videos, str(lake), settings)
    found = {Path(r.uri).name: (r.state, r.error_code) for r in analyze(videos, str(lake), settings).results}
    assert found["poison.mp4"] == ("failed", "quarantined")
    assert found["good.mp4"] in (("ok", None), ("current", None))
    ends = ask(lake, "SELECT uri, error_code, error FROM analyses WHERE status = 'crashed'")
    told = {"error_code": "bug", "error": "ArithmeticError: a number that nobody foresaw"}
    assert ends == [{"uri": str(poison), **told}] * attempts
    assert len(staged(lake)) == 1
    monkeypatch.undo()
    [result] = analyze(videos[:1], str(lake), settings, Options(retry_failed=True)).results
    assert result.state == "ok"
