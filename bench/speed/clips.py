"""Many short clips beside the same footage in one file."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from bench.speed.footage import PIECE_S, long_file, short_files
from bench.speed.peers import analyzed

SIZE = (1280, 720)
BAR = 1.25


def compare(footage: Path, count: int, rounds: int) -> str:
    """Wall time of a folder of clips, as multiple of that of one file, alternating."""
    one, many = long_file(footage, SIZE, count * PIECE_S), short_files(footage, SIZE, count)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        for _ in range(rounds):
            whole = analyzed("one file", [one], lake)
            runs.append((analyzed(f"{count} clips", [many], lake), whole))
    ratios = [clips.wall_s / whole.wall_s for clips, whole in runs]
    walls = [statistics.median(run.wall_s for run in column) for column in zip(*runs, strict=True)]
    cpus = [statistics.median(run.cpu_s for run in column) for column in zip(*runs, strict=True)]
    said = [
        f"{walls[i]:.1f} s, {cpus[i]:.1f} CPU s, {runs[0][i].frames} sampled frames, "
        f"{max(run[i].peak_bytes for run in runs) / 1e6:.0f} MB"
        for i in (0, 1)
    ]
    return (
        f"{count} clips of {PIECE_S} s: {said[0]}. In one file: {said[1]}. "
        f"{statistics.median(ratios):.2f} times as long; the bar is {BAR}."
    )
