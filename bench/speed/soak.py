"""Full load for an hour, or so: `python -m bench.speed.soak [--minutes 60]`.

One process analyses files of a minute, more than it can, and is ended when the time is over. Throughput
of the last quarter of the time beside the first, by what was committed when, and the same of memory. Prints
one line; exit 1 if the last quarter is more than 5% slower, or needs more than 5% more memory. A fixed piece
of work, done now and then beside, tells how fast the machine itself was: lent cores are not steady.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

from bench.speed.footage import long_file, short_files
from bench.speed.peers import analyzed
from pipeline.lake.query import query
from pipeline.speed import tree_bytes

SIZE, FILE_S, EVERY_S = (640, 360), 60, 2.0
PROBES = 15  # looks for each time that the machine is measured, half a percent of one core
SPARE = 2.0
"""Times as much footage as can be analysed by the rate of one file, which includes the start."""

TERMINATED = 143
MAX_LOSS = 0.05


@dataclass(frozen=True)
class Look:
    """What was seen at a time: seconds since the epoch, bytes of memory, CPU seconds of the fixed work."""

    t: float
    memory: int
    probe_s: float | None


def probe_s() -> float:
    """CPU seconds of a fixed piece of work, some 0.07 where nothing else is done."""
    data = Random(0).randbytes(4 << 20)
    began = time.thread_time()
    zlib.compress(data)
    return time.thread_time() - began


def busy(files: Path, lake: Path, seconds: float) -> list[Look]:
    """Analyse for so long, and look all along."""
    command = [sys.executable, "-m", "pipeline.cli", "analyze", files, "--lake", lake]
    looks: list[Look] = []
    with subprocess.Popen([*map(str, command), "--set", "lake.commit_interval_s=1"]) as process:
        until = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < until:
            probe = probe_s() if len(looks) % PROBES == 0 else None
            looks.append(Look(time.time(), tree_bytes(process.pid), probe))
            time.sleep(EVERY_S)
        process.send_signal(signal.SIGTERM)
    if process.returncode != TERMINATED:
        raise SystemExit(f"it ended before its time, exit status {process.returncode}")
    return looks


def quarters(lake: Path, looks: list[Look]) -> str:
    """What the first and the last quarter of the time gave and took."""
    sql = "SELECT committed_at, frames_sampled FROM analyses WHERE status IN ('ok', 'partial')"
    done = sorted(
        (r["committed_at"].timestamp(), r["frames_sampled"]) for r in query(str(lake), sql).to_pylist()
    )
    began, ended = done[0][0], done[-1][0]
    if ended - began < 8 * PROBES * EVERY_S:  # a quarter has a probe then
        raise SystemExit("too short to tell: give more --minutes")
    quarter = (ended - began) / 4
    both = (began, ended - quarter)
    rates = [sum(n for t, n in done if low < t <= low + quarter) / quarter for low in both]
    within = [[look for look in looks if low < look.t <= low + quarter] for low in both]
    peaks = [max(look.memory for look in some) for some in within]
    probes = [median(look.probe_s for look in some if look.probe_s is not None) for some in within]
    text = (
        f"{(ended - began) / 60:.1f} min, {sum(n for _, n in done)} sampled frames; first and last quarter: "
        f"{rates[0]:.1f}, {rates[1]:.1f} frames/s, at most {peaks[0] / 1e6:.0f}, {peaks[1] / 1e6:.0f} MB; "
        f"the same work beside took {1000 * probes[0]:.0f}, {1000 * probes[1]:.0f} ms of CPU"
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
