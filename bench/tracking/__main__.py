"""Our tracker beside those of the `trackers` package, on identical boxes. Prints Markdown.

`python -m bench.tracking [--peers PYTHON] [scenes] [mot15] [mot17] [speed] [motion]`, all parts by default.
PYTHON is the interpreter of an environment of its own, made by
`python -m venv peers && peers/bin/pip install trackers==2.6.1`: the package brings another build of OpenCV.
Without it only our own rows are printed. The peers get gaps of up to 1 s filled and tracks of fewer than 3
boxes dropped, which helps most of them.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # speed is that of one core

import argparse
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.tracking.recorded import MOT15, MOT17, noisy, public
from bench.tracking.scenes import KINDS, Sequence, crossing, simulate
from bench.tracking.score import Array, filled, score
from models.motion import ConstantVelocity, MotionModel, load_motion
from pipeline.config import TrackConfig
from pipeline.evaluate.tracks import evaluate_motion
from pipeline.mot import MOT
from pipeline.track.text import track_boxes

SEEDS = (7, 8)
"""Of the simulated scenes that are reported; others are for development."""

COLUMNS = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW")
Scores = dict[str, list[dict[str, float]]]


def ours(sequence: Sequence, model: MotionModel) -> tuple[Array, float]:
    """Rows of our tracks, shipped defaults, and CPU seconds."""
    found, count = sequence.found, len(sequence.found)
    rows = pa.table(
        {
            "frame": found[:, 0].astype(np.int64), "id": np.full(count, -1),
            **{name: found[:, 2 + i] for i, name in enumerate(("x1", "y1", "x2", "y2", "score"))},
            "class": pa.nulls(count, pa.int64()), "visibility": pa.nulls(count, pa.float64()),
        },
        schema=MOT,
    )  # fmt: skip
    began = time.process_time()
    out = track_boxes(rows, sequence.fps, sequence.size_px, TrackConfig(), model)
    spent = time.process_time() - began
    names = ("track_id", "x1", "y1", "x2", "y2", "score")
    return np.column_stack([out["sample"].to_numpy() + 1, *(out[name].to_numpy() for name in names)]), spent


def peers(sequences: list[Sequence], python: str | None) -> dict[str, Array]:
    """What `peers.py` gives for these sequences, numbered; nothing without an interpreter."""
    if python is None:
        return {}
    given = {}
    for i, sequence in enumerate(sequences):
        given |= {f"{i}/found": sequence.found, f"{i}/fps": sequence.fps, f"{i}/frames": sequence.num_frames}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/in.npz", **given)
        script = Path(__file__).parent / "peers.py"
        subprocess.run([python, "-W", "ignore", script, f"{folder}/in.npz", f"{folder}/out.npz"], check=True)
        return dict(np.load(f"{folder}/out.npz"))


def compare(sequences: list[Sequence], python: str | None, model: MotionModel) -> Scores:
    """Scores by tracker, one per sequence."""
    found = peers(sequences, python)
    names = sorted({key.split("/")[1] for key in found})
    scores: Scores = {"ours": [], **{name: [] for name in names}, "perfect ids": []}
    for i, sequence in enumerate(sequences):
        rows = {"ours": ours(sequence, model)[0]}
        rows |= {name: filled(found[f"{i}/{name}"], sequence.fps) for name in names}
        rows["perfect ids"] = filled(sequence.perfect(), sequence.fps)
        for name, tracks in rows.items():
            scores[name].append(score(sequence.truth, tracks, sequence.num_frames))
    return scores


def table(scores: Scores) -> None:
    """Means over the sequences."""
    print(f"| tracker | {' | '.join(COLUMNS)} |\n|---{'|---' * len(COLUMNS)}|")
    for name, rows in scores.items():
        print(f"| {name} | {' | '.join(f'{np.mean([r[c] for r in rows]):.1f}' for c in COLUMNS)} |")


def by_sequence(names: Iterable[str], scores: Scores) -> None:
    """HOTA and IDF1 of each sequence."""
    print(f"| HOTA / IDF1 | {' | '.join(scores)} |\n|---{'|---' * len(scores)}|")
    for i, name in enumerate(names):
        cells = (f"{rows[i]['HOTA']:.1f} / {rows[i]['IDF1']:.1f}" for rows in scores.values())
        print(f"| {name} | {' | '.join(cells)} |")


def scenes(python: str | None) -> None:
    """Simulated street cameras."""
    sequences = [simulate(name, seed) for seed in SEEDS for name in KINDS]
    scores = compare(sequences, python, load_motion())
    print(f"\n### Simulated scenes, seeds {', '.join(map(str, SEEDS))}, means\n")
    table(scores)
    print()
    by_sequence((s.name for s in sequences), scores)


def mot15(python: str | None) -> None:
    """Recorded sequences with public detections."""
    sequences = [public(name) for name in MOT15]
    print("\n### Public MOT15 detections\n")
    by_sequence(MOT15, compare(sequences, python, load_motion()))


def mot17(python: str | None) -> None:
    """Recorded truth with simulated noise, at full and at reduced rates; then our motion models alone."""
    for every in (1, 2, 4, 8):
        sequences = [noisy(name, every) for name in MOT17]
        print(
            f"\n### MOT17 truth with noise, every {every}. frame\n"
            if every > 1
            else "\n### MOT17 with noise\n"
        )
        by_sequence(MOT17, compare(sequences, python if every in (1, 4) else None, load_motion()))
    print("\n### The same, Kalman filter of constant velocity in place of the GRU\n")
    by_sequence(MOT17, compare([noisy(name, 1) for name in MOT17], None, ConstantVelocity()))


def speed(python: str | None) -> None:
    """Frames per CPU second, best of three; peers beside."""
    sequences = [public(name) for name in MOT15]
    cases = {"MOT15 boxes": sequences, **{f"{n} objects": [crossing(n)] for n in (10, 60, 200)}}
    model = load_motion()
    print("\n### Frames per second of CPU time, one core, best of three\n")
    for label, given in cases.items():
        frames = sum(s.num_frames for s in given)
        best: dict[str, float] = {}
        for _ in range(3):
            spent = {"ours": sum(ours(s, model)[1] for s in given)}
            for key, seconds in peers(given, python).items():
                if key.endswith("/seconds"):
                    name = key.split("/")[1]
                    spent[name] = spent.get(name, 0.0) + float(seconds)
            best = {name: max(frames / s, best.get(name, 0.0)) for name, s in spent.items()}
        print(f"- {label}: {', '.join(f'{name} {fps:.0f}' for name, fps in best.items())}")


def motion(_: str | None) -> None:
    """Forecasts of the shipped model beside a constant velocity."""
    print("\n### Motion on MOT17 truth\n")
    for name in MOT17:
        scores = evaluate_motion(MOT17[name], load_motion())
        print(f"- {name}: {', '.join(f'{key} {value:.3f}' for key, value in scores.items())}")


PARTS = {"scenes": scenes, "mot15": mot15, "mot17": mot17, "speed": speed, "motion": motion}


def main() -> None:
    """Run the named parts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter that has trackers==2.6.1")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all by default")
    args = parser.parse_args()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores {platform.machine()}, python -m bench.tracking"
    )
    for name in args.parts or PARTS:
        PARTS[name](args.peers)


if __name__ == "__main__":
    main()
