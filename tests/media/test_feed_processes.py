"""What a feed's processes keep and leave behind: open files, memory, other processes."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import psutil
import pytest

from pipeline.errors import WorkerError
from pipeline.media import DecodeJob, Fault, Feed, Item, JobEnd, SampledFrame
from pipeline.media.process import memory_bytes
from tests.media.make import write_video
from tests.media.test_feed import collect, inline

JOB = DecodeJob("a", "", width=64, height=48, stall_s=10.0, max_memory_bytes=400 << 20)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 s, 25 frames a second, in a container that is read from its start only."""
    path = tmp_path_factory.mktemp("processes") / "v.ts"
    return write_video(path, range(0, 8000, 40), options={"g": "25", "bf": "2"})


@pytest.fixture(scope="module")
def feed() -> Iterator[Feed]:
    with Feed(2, ring_size=4, max_pixels=64 * 48) as feed:
        yield feed


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """No child, zombies included, no open file, and (warnings are errors) nothing that was not closed."""
    children, files = set(psutil.Process().children()), set(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert set(psutil.Process().children()) <= children
    assert set(os.listdir("/proc/self/fd")) <= files


def parts(path: Path, *ends: int | None) -> list[DecodeJob]:
    """Jobs that follow on each other."""
    return [
        replace(JOB, key=f"{path.name}:{first}", path=str(path), first_sample=first or 0, end_sample=end)
        for first, end in zip([0, *ends], ends, strict=False)
    ]


def open_files(pid: int) -> set[Path]:
    return {fd.resolve() for fd in Path(f"/proc/{pid}/fd").iterdir()}


@pytest.mark.parametrize("fault", [None, Fault("crash", 25), Fault("crash", 40), Fault("hang", 79)])
def test_following_jobs_give_what_single_ones_give(feed: Feed, video: Path, fault: Fault | None) -> None:
    jobs = [replace(job, fault=fault, stall_s=2.0) for job in parts(video, 20, 40, 41, 70, 90, 110)]
    frames, ends = collect(feed, jobs)
    expected, expected_ends = inline(jobs)
    assert sorted(frames) == sorted(expected)
    assert ends == expected_ends


def test_an_idle_process_keeps_one_file_open_at_most(video: Path, tmp_path: Path) -> None:
    other = write_video(tmp_path / "other.mkv", range(0, 4000, 100))
    with Feed(1, ring_size=2, max_pixels=64 * 48) as feed:
        first, second, rest = parts(video, 20, 40, None)
        collect(feed, [first])
        (pid,) = feed.pids
        assert video in open_files(pid)
        collect(feed, [second])
        assert video in open_files(pid)
        collect(feed, parts(other, 10))
        assert open_files(pid) & {video, other} == {other}
        collect(feed, [rest])
        assert not open_files(pid) & {video, other}  # it has come to the end
        assert feed.pids == [pid]


def test_the_process_that_has_the_file_open_goes_on_with_it(video: Path, tmp_path: Path) -> None:
    other = write_video(tmp_path / "other.ts", range(0, 8000, 40))
    with Feed(2, ring_size=2, max_pixels=64 * 48) as feed:
        # Both at once, so that each process has one of them.
        collect(feed, [*parts(video, 20), *parts(other, 20)])
        for path in (video, other, video):
            (pid,) = [pid for pid in feed.pids if path in open_files(pid)]
            switches = sum(psutil.Process(pid).num_ctx_switches())
            (_, job) = parts(path, 20, 40)
            collect(feed, [job])
            assert sum(psutil.Process(pid).num_ctx_switches()) > switches
            assert path in open_files(pid)
            assert sum(path in open_files(pid) for pid in feed.pids) == 1


def test_memory_does_not_grow_with_files_left_open(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.mp4" for name in "ab"]
    for path in paths:
        write_video(path, range(0, 1000, 100), size=(1280, 720), options={"preset": "ultrafast", "refs": "4"})
    used = []
    with Feed(1, ring_size=2, max_pixels=64 * 48) as feed:
        for _ in range(3):
            for path in paths * 4:
                collect(feed, parts(path, 6))
            (pid,) = feed.pids
            used.append(memory_bytes(pid))
    # A picture is 1.4 MB: were only one of each of the 16 later jobs kept, it would be 22 MB.
    assert used[2] < used[0] + (10 << 20)


def test_another_run_takes_over(feed: Feed, video: Path) -> None:
    job = replace(JOB, path=str(video))
    first = feed.run([replace(job, key="first")])
    next(item for item in first if isinstance(item, SampledFrame) and item.sample == 3)
    second = feed.run([replace(job, key="second")])
    items = [next(second)]
    assert list(first) == []
    first.close()
    items += second
    assert {item.job_key for item in items} == {"second"}
    assert isinstance(items[-1], JobEnd)
    assert items[-1].frames_decoded == 200


def test_a_used_feed_leaves_nothing(video: Path) -> None:
    with nothing_left_behind():
        with Feed(2, ring_size=2, max_pixels=64 * 48) as feed:
            collect(feed, parts(video, 20, 40, None))
        feed.close()


def test_breaking_off_leaves_nothing(video: Path) -> None:
    with nothing_left_behind(), Feed(2, ring_size=2, max_pixels=64 * 48) as feed:
        for item in feed.run(parts(video, 20, 40, None)):
            if isinstance(item, SampledFrame):
                break
        with pytest.raises(RuntimeError, match="consumer"):
            for item in feed.run(parts(video, 20, 40, None)):
                if isinstance(item, SampledFrame):
                    raise RuntimeError("consumer")
        del item  # its picture holds the ring


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("after_s", [0.0005, 0.004, 0.1, 0.5, 1.2])
def test_an_interrupt_at_any_time_leaves_nothing(video: Path, after_s: float) -> None:
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with nothing_left_behind(), Feed(2, ring_size=2, max_pixels=64 * 48) as feed:
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, after_s)
                while True:
                    collect(feed, parts(video, 20, 40, None))
            feed.close()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_failed_start_leaves_nothing(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with nothing_left_behind(), Feed(1, max_pixels=64 * 48) as feed:
        with pytest.raises(WorkerError, match=r"no decoding process can be started: .*No such file"):
            collect(feed, parts(video, 20))
        assert feed.pids == []


def test_an_abandoned_feed_ends_what_hangs_and_begins_nothing(video: Path) -> None:
    with Feed(1, ring_size=2, max_pixels=64 * 48) as feed:
        job = replace(JOB, path=str(video), fault=Fault("hang", 3, attempts=2))
        items: list[Item] = []
        reader = threading.Thread(target=lambda: items.extend(feed.run([job])))
        reader.start()
        while sum(isinstance(item, SampledFrame) for item in items) < 3:
            time.sleep(0.05)
        feed.abandon()
        reader.join(10)
        assert not reader.is_alive()
        assert isinstance(items[-1], JobEnd)
        assert feed.pids == []
        with pytest.raises(WorkerError):
            list(feed.run([replace(JOB, path=str(video))]))
