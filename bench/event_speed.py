"""Events alone, on one core: `python -m bench.event_speed`.

An hour of frames with 5 objects each, at 10 samples/s, through the shipped event model and three rules.
Prints frames per second of CPU time, best of three; 20,000 are wanted.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import time
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from models.event_config import GRID_SIZE
from pipeline.config import load
from pipeline.events import EventDetector, load_event_model
from pipeline.lake.schema import TRACKS
from pipeline.rules import RuleEngine

FRAMES, FPS, OBJECTS, DIM, PIECE = 36_000, 10.0, 5, 160, 600
SHOT = 100  # frames; cameras that do not change have none so short
SIZE = (1280, 720)
RULES = [
    {"name": "middle", "kind": "line_crossing", "line": [[0.5, 0.0], [0.5, 1.0]]},
    {"name": "left", "kind": "zone_entry", "zone": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]},
    {"name": "busy", "kind": "occupancy", "zone": [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]},
]


def main() -> None:
    """Measure and print."""
    frames, tracks = _frames(), _tracks()
    config = load(None, {"rules": RULES})
    network, _ = load_event_model("fight")
    spent = []
    for _ in range(3):
        detector = EventDetector(network, config.events, sample_fps=FPS)
        rules = RuleEngine(config.rules, SIZE, "v", 1 / FPS)
        began = time.process_time()
        found = 0
        for first in range(0, FRAMES, PIECE):
            found += detector.update(frames.slice(first, PIECE)).num_rows
            found += rules.update(tracks.slice(OBJECTS * first, OBJECTS * PIECE)).num_rows
        found += detector.finish().num_rows + rules.finish(FRAMES / FPS).num_rows
        spent.append(time.process_time() - began)
    print(
        f"{datetime.now(UTC):%Y-%m-%d}: {FRAMES} frames of {OBJECTS} objects, {found} events, "
        f"{FRAMES / min(spent):.0f} frames/s of CPU time; the bar is 20000"
    )


def _frames() -> pa.Table:
    """Frames with embeddings as long as the shipped detector's, in shots of `SHOT` frames.

    From frame to frame the CNN's numbers, of unit length, move by 0.11, as in real clips (median 0.09).
    """
    random = np.random.default_rng(0)
    vectors = random.random((FRAMES, DIM), np.float32)
    cnn = random.normal(0, 0.01, (FRAMES, DIM - GRID_SIZE))
    cnn += np.repeat(np.eye(DIM - GRID_SIZE)[np.arange(FRAMES // SHOT) % 2], SHOT, axis=0)
    vectors[:, :-GRID_SIZE] = cnn / np.linalg.norm(cnn, axis=1, keepdims=True)
    lists = pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), DIM).cast(pa.list_(pa.float32()))
    return pa.table({"sample": np.arange(FRAMES), "t": np.arange(FRAMES) / FPS, "embedding": lists})


def _tracks() -> pa.Table:
    """Tracks of walkers who go to and fro."""
    t = np.arange(FRAMES)[:, None] / FPS
    speed, phase = np.array([40.0, 60, 80, 100, 120]), np.arange(OBJECTS) * 300.0
    x = np.abs((speed * t + phase) % (2 * SIZE[0]) - SIZE[0])  # (frames, objects)
    y = np.broadcast_to(150.0 + 120 * np.arange(OBJECTS), x.shape)
    count = FRAMES * OBJECTS
    columns = {
        "track_id": np.tile(np.arange(1, OBJECTS + 1), FRAMES),
        "sample": np.repeat(np.arange(FRAMES), OBJECTS),
        "t": np.repeat(t[:, 0], OBJECTS),
        "x1": x.ravel() - 20, "y1": y.ravel() - 100, "x2": x.ravel() + 20, "y2": y.ravel(),
        "class": ["person"] * count,
        "score": np.full(count, 0.8),
        "observed": np.ones(count, bool),
    }  # fmt: skip
    return pa.table(columns).select(TRACKS.names).cast(TRACKS)


if __name__ == "__main__":
    main()
