"""What the lake costs: `python -m bench.lake`. Prints Markdown.

Writing 2 million detection rows of scalar columns, in turn by `pyarrow.parquet.write_table` with its defaults
and with the lake's settings; and the bytes of an hour of a scene of five objects at ten samples a second.
Boxes move smoothly, with noise as a detector has it; vectors are noise, of which nothing can be saved.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ids import digest, new_run_id
from pipeline.lake import schema
from pipeline.lake.records import Place, place_rows
from pipeline.lake.rewrite import adds
from pipeline.lake.tables import Lake
from pipeline.media.motion import MOTION_GRID_SIZE

ROUNDS = 5
ROWS = 2_000_000
OBJECTS = 5
EMBEDDING, APPEARANCE = 64 + MOTION_GRID_SIZE, 32  # of the shipped weights, per frame and per object
DAY = date(2025, 3, 1)


def main() -> None:
    """Measure and print."""
    writing()
    hour(vectors=True)
    hour(vectors=False)


def writing() -> None:
    """CPU seconds and MB of both writers, in turn."""
    parts = [
        _placed("detections", _boxes(ROWS // 4 // OBJECTS, seed=n, vectors=False), f"v{n}") for n in range(4)
    ]
    rows = pa.concat_tables(parts).drop_columns(["appearance"])
    whole = schema.TABLES["detections"]
    found: dict[str, list[tuple[float, float]]] = {"pyarrow defaults": [], "lake": []}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.parquet"
            seconds = _cpu(lambda path=path: pq.write_table(rows, path))  # type: ignore[misc]
            found["pyarrow defaults"].append((seconds, path.stat().st_size / 1e6))
            schema.TABLES["detections"] = rows.schema
            lake = Lake.open(f"{folder}/lake")
            seconds = _cpu(lambda lake=lake: lake.append("detections", rows))  # type: ignore[misc]
            found["lake"].append(
                (seconds, sum(add["size_bytes"] for add in adds(lake.table("detections"))) / 1e6)
            )
            schema.TABLES["detections"] = whole
    print(f"\n| {ROWS} detection rows, scalar columns | CPU s | MB | of pyarrow's |\n|---|---|---|---|")
    base = statistics.median(size for _, size in found["pyarrow defaults"])
    for name, values in found.items():
        seconds, size = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"| {name} | {seconds:.2f} | {size:.1f} | {size / base:.0%} |")


def hour(vectors: bool) -> None:
    """MB by table of an hour."""
    samples = 36_000
    boxes = _boxes(samples, seed=1, vectors=vectors)
    tracks = boxes.select([n for n in schema.TRACKS.names if n in boxes.schema.names])
    tracks = tracks.add_column(0, "track_id", pa.array(np.tile(np.arange(OBJECTS), samples)))
    tracks = tracks.append_column("observed", pa.array(np.ones(len(tracks), bool)))
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(folder)
        for name, rows in (("frames", _frames(samples, vectors)), ("detections", boxes), ("tracks", tracks)):
            lake.append(name, _placed(name, rows, "v1"))
        sizes = {
            n: sum(a["size_bytes"] for a in adds(lake.table(n))) / 1e6
            for n in ("frames", "detections", "tracks")
        }
    print(f"\n| an hour, {'with' if vectors else 'without'} vectors | MB |\n|---|---|")
    for name, size in {**sizes, "together": sum(sizes.values())}.items():
        print(f"| {name} | {size:.1f} |")


def _boxes(samples: int, seed: int, vectors: bool) -> pa.Table:
    """Detections of OBJECTS objects in each of `samples` frames, in order."""
    rng = np.random.default_rng(seed)
    at = np.repeat(np.arange(samples), OBJECTS)
    which = np.tile(np.arange(OBJECTS), samples)
    x = 960 + 800 * np.sin(at / 300 + which) + rng.normal(0, 1.5, len(at))
    y = 540 + 300 * np.sin(at / 500 + 2 * which) + rng.normal(0, 1.5, len(at))
    w, h = 60 + rng.normal(0, 1.5, len(at)), 160 + rng.normal(0, 3, len(at))
    box = {"x1": x - w / 2, "y1": y - h / 2, "x2": x + w / 2, "y2": y + h / 2}
    vector = _vectors(rng, len(at), APPEARANCE) if vectors else pa.nulls(len(at), schema.VECTOR)
    columns = {
        "sample": pa.array(at),
        "t": pa.array(at / 10),
        **{name: pa.array(values.astype(np.float32)) for name, values in box.items()},
        "class": pa.array(np.array(["person", "car"])[which % 2]),
        "score": pa.array(rng.beta(8, 2, len(at)).astype(np.float32)),
        "appearance": vector,
    }
    return pa.table(columns).select(schema.DETECTIONS.names).cast(schema.DETECTIONS)


def _frames(samples: int, vectors: bool) -> pa.Table:
    rng = np.random.default_rng(2)
    columns = {
        "sample": pa.array(np.arange(samples)),
        "pts": pa.array(np.arange(samples) * 9000),
        "t": pa.array(np.arange(samples) / 10),
        "embedding": _vectors(rng, samples, EMBEDDING) if vectors else pa.nulls(samples, schema.VECTOR),
        "camera_motion": pa.nulls(samples, schema.CAMERA_MOTION),
        "reused": pa.array(np.zeros(samples, bool)),
    }
    return pa.table(columns, schema=schema.FRAMES)


def _vectors(rng: np.random.Generator, count: int, length: int) -> pa.Array:
    values = rng.normal(0, 1, count * length).astype(np.float16).astype(np.float32)
    return pa.ListArray.from_arrays(pa.array(np.arange(count + 1) * length, pa.int32()), pa.array(values))


def _placed(name: str, rows: pa.Table, video: str) -> pa.Table:
    recorded = datetime(2025, 3, 1, tzinfo=UTC)
    return place_rows(name, rows, Place(digest(video), "gate", DAY, new_run_id(), recorded))


def _cpu(call: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    call()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
