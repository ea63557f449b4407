"""How soon a cold process is of use: help, a query, the first frames perceived.

Prints Markdown. Every figure is from before the process is made. The first frames are those of the first
batch; their network is compiled, or found in marey's cache. The video is ten seconds of the demo's street
unless another is named: `python -m bench.startup [VIDEO]`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROUNDS = 5
QUERY = "select count(*) from events"


def main() -> None:
    """Measure in turn, and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = Path(sys.argv[1]) if len(sys.argv) > 1 else _demo(folder)
        lake = str(folder / "lake")
        _first_batch(video, lake, folder / "kept")  # fills the cache, makes the lake
        cases = {
            "`marey --help`": (0.3, lambda i: _wall("--help")),
            "`marey query`": (0.8, lambda i: _wall("query", QUERY, "--lake", lake)),
            "first batch, network in the cache": (
                4.0,
                lambda i: _first_batch(video, f"{folder}/a{i}", folder / "kept"),
            ),
            "first batch, network compiled": (
                None,
                lambda i: _first_batch(video, f"{folder}/b{i}", folder / f"c{i}"),
            ),
        }
        times: dict[str, list[float]] = {case: [] for case in cases}
        for number in range(ROUNDS):
            for case, (_, measure) in cases.items():
                times[case].append(measure(number))
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"{ROUNDS} rounds in turn, seconds from the start of a process:\n")
    print("| until | median | lowest to highest | bar |\n|---|---:|---:|---:|")
    for case, (bar, _) in cases.items():
        row = times[case]
        said = f"{bar}" if bar else "--"
        print(f"| {case} | {statistics.median(row):.2f} | {min(row):.2f} to {max(row):.2f} | {said} |")


def _wall(*arguments: str) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _first_batch(video: Path, lake: str, cache: Path) -> float:
    """Seconds until `marey analyze` has perceived its first batch."""
    command = [sys.executable, "-m", "bench.startup", "--child", str(time.time()), str(video), lake]
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "MAREY_CACHE": str(cache)},
    )
    return float(done.stdout.splitlines()[0])


def _child(began: float, video: str, lake: str) -> None:
    """Analyse as the command does, and print when the first batch was perceived."""
    from pipeline.cli import run
    from pipeline.perceive import Perceiver

    perceive, told = Perceiver.__call__, []

    def telling(self, pictures):  # type: ignore[no-untyped-def]
        found = perceive(self, pictures)
        if not told:
            told.append(time.time() - began)
            print(told[0], flush=True)
        return found

    Perceiver.__call__ = telling  # type: ignore[method-assign]
    raise SystemExit(run(["analyze", video, "--lake", lake]))


def _demo(folder: Path) -> Path:
    from pipeline.demo.render import render_demo

    render_demo(folder / "street.mp4", duration_s=10.0)
    return folder / "street.mp4"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(float(sys.argv[2]), *sys.argv[3:5])
    main()
