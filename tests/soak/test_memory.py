"""Memory, shared memory and disk of a long video against a short one.

The network is the tests' small one with a low threshold: the memory of a network does not depend on the
length, that of rows could, and of these it gives many.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import psutil
import pytest

from pipeline.media.process import memory_bytes
from tests.analyze.build import ask, config, prepared
from tests.cli.run import COMMAND, environment, write_config
from tests.helpers import shared_path

SIZE = 1280, 720
RATE = 10
CLIP_S = 20
PATIENCE_S = 3 * 3600


def looped(path: Path, minutes: int) -> Path:
    """Recipe: 20 s of a surveillance clip, scaled to 720p at 10 frames/s, its packets repeated."""
    clip = path.with_name("clip.mp4")
    if not clip.exists():
        write_clip(clip)
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        base = packets[0].time_base
        assert base is not None
        step = round(CLIP_S / base)
        data = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
        for number in range(minutes * 60 // CLIP_S):
            for payload, pts, dts, key in data:
                packet = av.Packet(payload)
                packet.pts, packet.dts, packet.time_base = pts + number * step, dts + number * step, base
                packet.is_keyframe = key
                packet.stream = stream
                target.mux(packet)
    return path


def write_clip(path: Path) -> None:
    video = shared_path("data", "videos", "surveillance", "person-bicycle-car-detection.mp4")
    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        stream: Any = target.add_stream("libx264", rate=RATE, options={"g": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        taken = 0
        for frame in source.decode(video=0):
            if frame.time >= Fraction(taken, RATE):
                small = frame.reformat(*SIZE, format="yuv420p")
                small.pts, small.time_base = taken, Fraction(1, RATE)
                target.mux(stream.encode(small))
                taken += 1
            if taken == CLIP_S * RATE:
                break
        target.mux(stream.encode(None))


@dataclass
class Peak:
    """The most that a run used at one time, in bytes."""

    memory: int = 0  # proportional set size of the process tree
    disk: int = 0  # the lake with its staged segments
    seconds: float = 0.0


def run_watched(video: Path, lake: Path, site: Path) -> Peak:
    peak, began = Peak(), time.monotonic()
    command = [*COMMAND, "analyze", str(video), "--lake", str(lake), "--config", str(site)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL, cwd=lake.parent) as process:
        while process.poll() is None:
            peak.memory = max(peak.memory, tree_bytes(process.pid))
            peak.disk = max(peak.disk, folder_bytes(lake))
            assert time.monotonic() - began < PATIENCE_S
            time.sleep(0.5)
        assert process.returncode == 0
    peak.seconds = time.monotonic() - began
    return peak


def tree_bytes(pid: int) -> int:
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(memory_bytes(process.pid) for process in tree)


def folder_bytes(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.stat(Path(root) / name).st_size
            except FileNotFoundError:  # written and moved meanwhile
                continue
    return total


def test_an_hour_takes_the_memory_of_five_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named_before = set(os.listdir("/dev/shm"))
    folder = prepared(tmp_path / "prepared")
    few = {"perceive__min_score": 0.002, "perceive__max_detections": 20}
    settings = config(folder, track__high_score=0.004, track__low_score=0.002, **few)
    site = write_config(tmp_path / "site.toml", settings)
    peaks = {}
    for minutes in (5, 60):
        video, lake = looped(tmp_path / f"{minutes}.mp4", minutes), tmp_path / f"lake-{minutes}"
        peaks[minutes] = run_watched(video, lake, site)
        [row] = ask(lake, "SELECT count(*) AS n FROM detections")
        assert row["n"] > 1000 * minutes
    with capsys.disabled():
        for minutes, peak in peaks.items():
            print(
                f"\n{minutes} min of 720p: {peak.memory / 1e6:.0f} MB of memory, "
                f"{peak.disk / 1e6:.1f} MB of disk, {peak.seconds:.0f} s"
            )
    assert peaks[60].memory <= 1.15 * peaks[5].memory
    # Staged segments and appended rows lie side by side at the end: twice the rows of the video.
    assert peaks[60].disk <= 13 * peaks[5].disk
    assert set(os.listdir("/dev/shm")) <= named_before  # the rings have no names
