"""Full load for an hour, or so: `python -m bench.speed.soak [--minutes 60]`.

One process analyses files of a minute, more than it can, and is ended when the time is over. Throughput
of the last quarter of the time beside the first, by what was committed when, and the same of memory. Prints
one line; exit 1 if the last quarter is more than 5% slower, or needs more than 5% more memory.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.speed.footage import long_file, short_files
from bench.speed.peers import analyzed
from pipeline.lake.query import query
from pipeline.speed import tree_bytes

SIZE, FILE_S, EVERY_S = (640, 360), 60, 2.0
SPARE = 2.0
"""Times as much footage as can be analysed by the rate of one file, which includes the start."""

TERMINATED = 143
MAX_LOSS = 0.05


def busy(files: Path, lake: Path, seconds: float) -> list[tuple[float, int]]:
    """Analyse for so long; seconds since the epoch and bytes of memory, all along."""
    command = [sys.executable, "-m", "pipeline.cli", "analyze", files, "--lake", lake]
    looks: list[tuple[float, int]] = []
    with subprocess.Popen([*map(str, command), "--set", "lake.commit_interval_s=1"]) as process:
        until = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < until:
            looks.append((time.time(), tree_bytes(process.pid)))
            time.sleep(EVERY_S)
        process.send_signal(signal.SIGTERM)
    if process.returncode != TERMINATED:
        raise SystemExit(f"it ended before its time, exit status {process.returncode}")
    return looks


def quarters(lake: Path, looks: list[tuple[float, int]]) -> str:
    """What the first and the last quarter of the time gave and took."""
    sql = "SELECT committed_at, frames_sampled FROM analyses WHERE status IN ('ok', 'partial')"
    done = sorted(
        (r["committed_at"].timestamp(), r["frames_sampled"]) for r in query(str(lake), sql).to_pylist()
    )
    began, ended = done[0][0], done[-1][0]
    if ended - began < 8 * EVERY_S:
        raise SystemExit("too short to tell: give more --minutes")
    quarter = (ended - began) / 4
    rates = [
        sum(n for t, n in done if low < t <= low + quarter) / quarter for low in (began, ended - quarter)
    ]
    peaks = [max(m for t, m in looks if low < t <= low + quarter) for low in (began, ended - quarter)]
    text = (
        f"{(ended - began) / 60:.1f} min, {sum(n for _, n in done)} sampled frames; first and last quarter: "
        f"{rates[0]:.1f}, {rates[1]:.1f} frames/s, at most {peaks[0] / 1e6:.0f}, {peaks[1] / 1e6:.0f} MB"
    )
    if rates[1] < (1 - MAX_LOSS) * rates[0] or peaks[1] > (1 + MAX_LOSS) * peaks[0]:
        raise SystemExit(f"{text}: it does not hold")
    return text


def main() -> None:
    """Estimate how much footage is needed, make it, analyse it, take it away."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.speed.soak", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--footage", type=Path, default=Path("footage"), help="folder for the footage")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        trial = analyzed("trial", [long_file(args.footage, SIZE, 300)], lake)
        count = round(SPARE * args.minutes * 60 * trial.frames / trial.wall_s / 10 / FILE_S) + 1
        files = short_files(args.footage, SIZE, count, FILE_S)
        try:
            print(quarters(lake, busy(files, lake, 60 * args.minutes)))
        finally:
            shutil.rmtree(files)


if __name__ == "__main__":
    main()
