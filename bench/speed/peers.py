"""marey beside what one would use instead: same videos, same sampling, from start to end of a process.

Peers run in an environment of their own; it is made by
`python -m venv peers && peers/bin/pip install trackers==2.6.1 onnxruntime daft==0.7.26 av`.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peer import ROOT, SHARED_PEERS
from pipeline.lake.query import query
from pipeline.speed import cpu_s, watched

MODEL = "fastestdet-coco"
FPS = 10.0
_SCRIPTS = Path(__file__).parent

SAME, DEFAULT = "marey, the same FastestDet", "marey, its own detector"
HAND, DAFT, PYAV = "OpenCV, ONNX Runtime, ByteTrack, CSV", "Daft to Parquet", "PyAV alone"
BARS = {(SAME, HAND): 2.0, (SAME, DAFT): 1.5, (DEFAULT, HAND): 1.2}


@dataclass(frozen=True)
class Ran:
    """A process from its start to its end."""

    frames: int
    wall_s: float
    cpu_s: float
    peak_bytes: int


def ran(name: str, command: Sequence[object], lake: Path | None = None) -> Ran:
    """Run a command; the frames are what it prints last, or those of the lake that it fills."""
    began, before = time.perf_counter(), cpu_s()
    said, peak = watched([str(part) for part in command])
    wall, cpu = time.perf_counter() - began, cpu_s() - before
    frames = (
        query(str(lake), "SELECT count(*) AS n FROM frames")["n"][0].as_py() if lake else said.split()[-1]
    )
    print(f"{name}: {int(frames) / wall:.1f} frames/s", file=sys.stderr)
    return Ran(int(frames), wall, cpu, peak)


def analyzed(name: str, videos: Sequence[Path], lake: Path, *settings: str) -> Ran:
    """`marey analyze` into a lake that is thrown away."""
    given = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "pipeline.cli", "analyze", *videos, "--lake", lake, *given]
    found = ran(name, command, lake)
    shutil.rmtree(lake)
    return found


def one_round(videos: Sequence[Path], python: str | None, folder: Path) -> dict[str, Ran]:
    """Everybody once."""
    model, lake = folder / f"{MODEL}.onnx", folder / "lake"
    brought = [f"perceive.detector={model}", "perceive.embeddings=false", "events.models=[]"]
    found = {SAME: analyzed(SAME, videos, lake, *brought), DEFAULT: analyzed(DEFAULT, videos, lake)}
    if python is not None:
        hand = [python, _SCRIPTS / "peer_opencv.py", model, FPS, folder / "tracks.csv", *videos]
        found[HAND] = ran(HAND, hand)
        found[DAFT] = ran(DAFT, [python, _SCRIPTS / "peer_daft.py", model, FPS, folder / "daft", *videos])
        found[PYAV] = ran(PYAV, [python, _SCRIPTS / "peer_pyav.py", FPS, 352, *videos])
        shutil.rmtree(folder / "daft")
    return found


def compare(videos: Sequence[Path], python: str | None, rounds: int) -> str:
    """Everybody in turn, several times: a table of medians, and the ratios beside their bars."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(SHARED_PEERS / f"{MODEL}.onnx", folder)
        shutil.copy(ROOT / "docs" / "recipes" / f"{MODEL}.toml", folder)
        runs = [one_round(videos, python, folder) for _ in range(rounds)]
    lines = ["| from start to end | sampled frames/s | s | CPU s | MB |", "|---|---:|---:|---:|---:|"]
    for who in runs[0]:
        mine = [run[who] for run in runs]
        wall, cpu, peak = (
            statistics.median(getattr(r, f) for r in mine) for f in ("wall_s", "cpu_s", "peak_bytes")
        )
        rate = statistics.median(r.frames / r.wall_s for r in mine)
        lines.append(f"| {who} | {rate:.1f} | {wall:.1f} | {cpu:.1f} | {peak / 1e6:.0f} |")
    lines += ["", *(_ratio(runs, ours, peer, bar) for (ours, peer), bar in BARS.items() if peer in runs[0])]
    if python is not None:
        wanted = "numpy", "opencv-python", "onnxruntime", "trackers", "daft", "av"
        listed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
        lines += ["", ", ".join(line for line in listed.stdout.split() if line.split("==")[0] in wanted)]
    return "\n".join(lines)


def _ratio(runs: Sequence[dict[str, Ran]], ours: str, peer: str, bar: float) -> str:
    ratios = [(run[ours].frames / run[ours].wall_s) / (run[peer].frames / run[peer].wall_s) for run in runs]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return f"- {ours}, to {peer}: {statistics.median(ratios):.2f} times as fast ({spread}); the bar is {bar}"
