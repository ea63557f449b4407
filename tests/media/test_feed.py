from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipeline.errors import SourceError, WorkerError
from pipeline.media import DecodeJob, Fault, Feed, JobEnd, JobStart, SampledFrame, decode_inline
from tests.helpers import ROOT
from tests.media.make import write_video

STALL_S = 2.0
"""Longer than a busy machine keeps a healthy process waiting, short enough for a test."""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 s, 25 frames a second, a key frame each second, B-frames."""
    path = tmp_path_factory.mktemp("feed") / "v.mp4"
    return write_video(path, range(0, 8000, 40), options={"g": "25", "bf": "2"})


@pytest.fixture(scope="module")
def feed() -> Iterator[Feed]:
    with Feed(2, ring_size=4, max_pixels=64 * 48) as feed:
        yield feed


def job(video: Path, **values: object) -> DecodeJob:
    base = DecodeJob("a", str(video), width=64, height=48, stall_s=STALL_S, max_memory_bytes=400 << 20)
    return replace(base, **values)


def gone(pid: int) -> bool:
    """Whether the process is no more, or dead and only not yet reaped by somebody."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(what: object, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def collect(feed: Feed, jobs: list[DecodeJob]) -> tuple[list[tuple[object, ...]], dict[str, JobEnd]]:
    """Facts of the frames (pictures copied) and the ends by job."""
    frames: list[tuple[object, ...]] = []
    ends: dict[str, JobEnd] = {}
    started: set[str] = set()
    for item in feed.run(jobs):
        assert item.job_key not in ends
        if isinstance(item, JobStart):
            assert item.job_key not in started
            started.add(item.job_key)
        elif isinstance(item, SampledFrame):
            assert item.job_key in started
            assert not item.picture.flags.writeable
            frames.append(facts(item))
        else:
            ends[item.job_key] = item
    return frames, ends


def facts(f: SampledFrame) -> tuple[object, ...]:
    motion = f.camera_motion and tuple(round(x, 3) for x in f.camera_motion)
    return f.job_key, f.sample, f.pts, f.t, f.picture.tobytes(), f.motion_grid.tobytes(), motion


def inline(jobs: list[DecodeJob]) -> tuple[list[tuple[object, ...]], dict[str, JobEnd]]:
    items = [item for j in jobs for item in decode_inline(j)]
    frames = [facts(item) for item in items if isinstance(item, SampledFrame)]
    return frames, {item.job_key: item for item in items if isinstance(item, JobEnd)}


def test_children_give_what_the_same_code_gives_here(feed: Feed, video: Path, tmp_path: Path) -> None:
    other = write_video(tmp_path / "o.mkv", range(0, 3000, 100), size=(32, 48))
    jobs = [
        job(video, key="first", end_sample=40),
        job(video, key="second", first_sample=40, seek_after_s=1.0),
        job(other, key="other", sample_fps=0.0),
    ]
    frames, ends = collect(feed, jobs)
    expected, expected_ends = inline(jobs)
    for key in expected_ends:
        assert [f for f in frames if f[0] == key] == [f for f in expected if f[0] == key]
    assert ends == expected_ends


def test_files_that_cannot_be_opened_end_with_their_error(feed: Feed, video: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("ffconcat version 1.0\nfile v.mp4\n")
    jobs = [
        job(tmp_path / "text.mp4", key="text"),
        job(tmp_path / "gone.mp4", key="gone"),
        job(video, key="good"),
    ]
    _, ends = collect(feed, jobs)
    text, missing = ends["text"].error, ends["gone"].error
    assert text is not None
    assert (text.code, text.retry) == ("media_format", False)
    assert isinstance(missing, SourceError)
    assert "gone.mp4 cannot be read: No such file" in str(missing)
    assert ends["good"].error is None
    assert ends["good"].frames_decoded == 200


@pytest.mark.parametrize("kind", ["hang", "crash", "leak"])
def test_one_fault_costs_nothing(feed: Feed, video: Path, kind: str) -> None:
    bad = job(video, fault=Fault(kind, at_sample=25))  # type: ignore[arg-type]
    frames, ends = collect(feed, [bad])
    expected, expected_ends = inline([bad])
    assert frames == expected
    assert ends == expected_ends


@pytest.mark.parametrize(("kind", "cause"), [("hang", "timeout"), ("crash", "crash"), ("leak", "memory")])
def test_a_fault_that_stays_costs_its_job_only(feed: Feed, video: Path, kind: str, cause: str) -> None:
    fault = Fault(kind, at_sample=25, attempts=2)  # type: ignore[arg-type]
    jobs = [job(video, key="bad", end_sample=70, fault=fault), *(job(video, key=k) for k in "xyz")]
    frames, ends = collect(feed, jobs)
    assert [f[1] for f in frames if f[0] == "bad"] == list(range(25))
    (gap,) = ends["bad"].gaps
    assert (gap.t_start, gap.t_end, gap.cause) == (2.4, 7.0, cause)
    assert (ends["bad"].error, ends["bad"].last_t, ends["bad"].end_of_file) == (None, 2.4, False)
    assert ends["bad"].info is not None
    for key in "xyz":
        assert len([f for f in frames if f[0] == key]) == 80
        assert ends[key].gaps == ()


def test_a_file_that_kills_at_opening_is_a_failure_to_retry(feed: Feed, video: Path) -> None:
    frames, ends = collect(feed, [job(video, fault=Fault("crash", at_sample=-1, attempts=2))])
    assert frames == []
    error = ends["a"].error
    assert isinstance(error, WorkerError)
    assert (error.code, error.retry, ends["a"].info) == ("crash", True, None)
    assert str(error).startswith(f"{video}: the decoding process crashed twice: ")


def test_a_child_killed_from_outside_is_replaced(video: Path) -> None:
    with Feed(1, ring_size=2, max_pixels=64 * 48) as feed:
        samples = []
        for item in feed.run([job(video)]):
            if isinstance(item, SampledFrame):
                samples.append(item.sample)
                if item.sample == 30:
                    (pid,) = feed.pids
                    os.kill(pid, signal.SIGKILL)
        assert samples == list(range(80))
        assert feed.pids != [pid]
        # And one that dies between two jobs.
        os.kill(feed.pids[0], signal.SIGKILL)
        assert wait_until(lambda: gone(feed.pids[0]))
        assert len(collect(feed, [job(video)])[0]) == 80


def test_a_slow_consumer_is_no_stall(video: Path) -> None:
    with Feed(1, ring_size=2, max_pixels=64 * 48) as feed:
        items = feed.run([job(video, stall_s=1.0)])
        pids, samples = set(), []
        for item in items:
            if isinstance(item, SampledFrame):
                samples.append(item.sample)
                pids |= set(feed.pids)
                if item.sample in (3, 50):
                    time.sleep(2.0)
        assert samples == list(range(80))
        assert len(pids) == 1


def test_memory_has_an_end_even_while_nobody_looks(video: Path) -> None:
    with Feed(1, ring_size=2, max_pixels=64 * 48) as feed:
        items = feed.run([job(video, fault=Fault("leak", 0, attempts=2))])
        next(item for item in items if isinstance(item, JobStart))
        (pid,) = feed.pids
        # The child's own limit, 512 MB above the job's, ends it; 8 MB every 10 ms would pass that in 2 s.
        assert wait_until(lambda: gone(pid), 20)
        (end,) = [item for item in items if isinstance(item, JobEnd)]
        assert [gap.cause for gap in end.gaps] == ["memory"]


def test_children_do_not_outlive_the_feed(video: Path) -> None:
    fds = len(os.listdir("/proc/self/fd"))
    with Feed(2, ring_size=2, max_pixels=64 * 48) as feed:
        run = feed.run([job(video, key="a"), job(video, key="b")])
        next(item for item in run if isinstance(item, SampledFrame) and item.sample == 5)
        pids = feed.pids
        assert len(pids) == 2
    assert all(gone(pid) for pid in pids)
    run.close()
    assert len(os.listdir("/proc/self/fd")) <= fds


def test_breaking_off_kills_who_is_at_work(feed: Feed, video: Path) -> None:
    run = feed.run([job(video)])
    next(run)
    pids = feed.pids
    run.close()
    assert len(feed.pids) < len(pids)
    assert len(collect(feed, [job(video)])[0]) == 80


PARENT = """
import sys
from pipeline.media import DecodeJob, Fault, Feed
feed = Feed(2, 2, 64 * 48)
fault = Fault("hang", 5, 2)
jobs = [DecodeJob(key, sys.argv[1], width=64, height=48, fault=fault if key == "a" else None) for key in "ab"]
for number, item in enumerate(feed.run(jobs)):
    if number == 8:
        print(*feed.pids, flush=True)
        sys.stdin.read()
"""


def test_children_die_with_a_killed_parent(video: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(video)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(gone(pid) for pid in pids)
        parent.kill()
    assert wait_until(lambda: all(gone(pid) for pid in pids))


def test_children_see_no_credentials_and_no_open_files(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    monkeypatch.setenv("PREFECT_API_KEY", "canary-secret")
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    with secret.open() as file, Feed(1, max_pixels=64 * 48) as feed:
        os.set_inheritable(file.fileno(), True)
        next(item for item in feed.run([job(video)]) if isinstance(item, SampledFrame))
        for item in feed.run([job(video)]):
            if isinstance(item, SampledFrame) and item.sample == 10:
                (child,) = [psutil.Process(pid) for pid in feed.pids]
                environment = Path(f"/proc/{child.pid}/environ").read_text()
                opened = {Path(fd).resolve() for fd in Path(f"/proc/{child.pid}/fd").iterdir()}
                maps = Path(f"/proc/{child.pid}/maps").read_text()
    assert "canary-secret" not in environment
    assert "HOME=" not in environment
    assert secret not in opened
    assert "torch" not in maps


def test_children_find_packages_where_the_parent_does(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where they do not, it is the installation's fault, not the file's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "packages"]))
    with Feed(1, max_pixels=64 * 48) as feed:
        assert [item for item in feed.run([job(video)]) if isinstance(item, SampledFrame)]
        (child,) = feed.pids
        found = Path(f"/proc/{child}/environ").read_text().split("PYTHONPATH=")[1].split("\0")[0]
        assert found.split(os.pathsep) == [str(ROOT), str(tmp_path / "packages")]
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "av.py").write_text("raise ImportError('no FFmpeg here')")
    with (
        Feed(1, max_pixels=64 * 48) as feed,
        pytest.raises(WorkerError, match="end before they begin") as met,
    ):
        list(feed.run([job(video)]))
    assert "no FFmpeg here" in str(met.value)


CONSUMER = """
import signal, sys
from pipeline.media import DecodeJob, Fault, Feed, SampledFrame
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what runs in the background without
try:
    with Feed(1, max_pixels=64 * 48) as feed:
        job = DecodeJob("a", sys.argv[1], width=64, height=48, stall_s=30.0, fault=Fault("hang", 5, 2))
        for item in feed.run([job]):
            if isinstance(item, SampledFrame) and item.sample == 4:
                print(*feed.pids, flush=True)
except KeyboardInterrupt:
    print("interrupted", feed.pids, flush=True)
    sys.stdin.read()
"""


def test_an_interrupt_reaches_the_consumer_and_ends_the_children(video: Path) -> None:
    """In a process of its own: libraries that other tests load in this one have their say about signals."""
    command = [sys.executable, "-c", CONSUMER, str(video)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as consumer:
        assert consumer.stdout is not None
        pids = [int(pid) for pid in consumer.stdout.readline().split()]
        assert len(pids) == 1
        assert not gone(pids[0])
        time.sleep(0.2)  # it waits for the frame that never comes
        consumer.send_signal(signal.SIGINT)
        assert consumer.stdout.readline() == "interrupted []\n"
        assert gone(pids[0])
    assert consumer.returncode == 0


def test_a_picture_that_has_no_room_is_refused(feed: Feed, video: Path) -> None:
    with pytest.raises(ValueError, match="room for 3072 pixels, got 65x48"):
        list(feed.run([job(video, width=65)]))
    with pytest.raises(ValueError, match="a process and two slots"):
        Feed(0)
