"""A lake of many videos, before and after compaction: `python -m bench.big_lake PLACE [VIDEOS]`.

`python -m bench.big_lake PLACE ask` asks once more what is there.

Each video has 3,000 track rows, 10 objects and 20 events; 100 videos have one date. PLACE is a directory or
s3://bucket/prefix, and is filled. Queries are asked by a fresh process; its start is not counted.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import numpy as np
import pyarrow as pa

from pipeline.config import LakeConfig
from pipeline.ids import digest, new_run_id
from pipeline.lake import schema
from pipeline.lake.compact import compact
from pipeline.lake.forget import forget
from pipeline.lake.records import Analysis, Place, VideoName, analyses_table, names_table, place_rows
from pipeline.lake.tables import Lake

GROUP = 64  # videos per commit, as in a batch
SAMPLES, OBJECTS, EVENTS = 300, 10, 20
PER_DAY = 100
ROUNDS = 3

T = TypeVar("T")
Maker = Callable[[np.random.Generator], pa.Table]

ONE = "SELECT count(*), avg(x1) FROM tracks WHERE video_id = '{}'"
ALL = "SELECT label, count(*) FROM events GROUP BY label"
ASKED = """
import resource, sys, time
from pipeline.lake.query import query
began = time.perf_counter()
query(sys.argv[1], sys.argv[2])
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""


def main(place: str, videos: int) -> None:
    """Fill, measure, compact, measure, forget."""
    lake = Lake.open(place)
    print(f"{videos} videos, {videos * SAMPLES * OBJECTS} track rows, {place.split('://')[0]}", flush=True)
    print("| | before | after compaction |\n|---|---|---|", flush=True)
    _timed("filled", lambda: fill(lake, videos))
    middle = digest(str(videos // 2))
    asked = {"one video's tracks": ONE.format(middle), "count over all events": ALL}
    before = {what: _ask(place, sql) for what, sql in asked.items()}
    _timed("compacted", lambda: compact(place, LakeConfig()))
    for what, sql in asked.items():
        (s0, _), (s1, mb) = before[what], _ask(place, sql)
        print(f"| {what} | {s0:.2f} s | {s1:.2f} s, {mb:.0f} MB |", flush=True)
    receipt = _timed("one video forgotten", lambda: forget(place, _uri(videos // 2), LakeConfig()))
    print(receipt, flush=True)


def ask(place: str) -> None:
    """Measure a lake that an earlier call has filled."""
    for what, sql in {"one video's tracks": ONE.format(digest("50")), "count over all events": ALL}.items():
        seconds, mb = _ask(place, sql)
        print(f"{what}: {seconds:.2f} s, {mb:.0f} MB", flush=True)


def _timed(what: str, call: Callable[[], T]) -> T:
    began = time.perf_counter()
    found = call()
    print(f"{what} in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def _ask(place: str, sql: str) -> tuple[float, float]:
    """Best of some rounds: seconds, and MB at the peak."""
    done = [
        subprocess.run([sys.executable, "-c", ASKED, place, sql], capture_output=True, text=True, check=True)
        for _ in range(ROUNDS)
    ]
    seconds, mb = min(tuple(map(float, found.stdout.split())) for found in done)
    return seconds, mb


def _uri(number: int) -> str:
    return f"/archive/{number:06}.mp4"


def fill(lake: Lake, videos: int, tables: Mapping[str, Maker] | None = None) -> None:
    """Write videos; `tables` makes the rows of each of them, by default tracks, objects and events."""
    made = tables or {"tracks": track_rows, "objects": object_rows, "events": event_rows}
    rng = np.random.default_rng(1)
    for begin in range(0, videos, GROUP):
        numbers = range(begin, min(begin + GROUP, videos))
        runs = [_analysis(number) for number in numbers]
        for name, rows in made.items():
            parts = [place_rows(name, rows(rng), _place(run)) for run in runs]
            lake.append(name, pa.concat_tables(parts))
        lake.append("videos", names_table(_name(run) for run in runs))
        started = [replace(run, status="running", revision=1) for run in runs]
        lake.append("analyses", analyses_table([*started, *runs]))


def _analysis(number: int) -> Analysis:
    run, now = new_run_id(), datetime.now(UTC)
    return Analysis(
        video_id=digest(str(number)), camera=f"cam-{number % 20}", date=_date(number), run_id=run,
        attempt_id=run, uri=_uri(number), status="ok", revision=2, perception_id=digest("p", number),
        tracking_id="t", analysis_id="a", perception_run_id=run, tracking_run_id=run, events_run_id=run,
        started_at=now, committed_at=now,
    )  # fmt: skip


def _date(number: int) -> date:
    return date(2025, 1, 1) + timedelta(days=number // PER_DAY)


def _place(run: Analysis) -> Place:
    return Place(run.video_id, run.camera, run.date, run.run_id, datetime(2025, 1, 1, tzinfo=UTC))


def _name(run: Analysis) -> VideoName:
    return VideoName(
        video_id=run.video_id, camera=run.camera, date=run.date, run_id=run.run_id, uri=run.uri, etag="1",
        size_bytes=1, content_id=digest("c", run.uri), seen_at=datetime.now(UTC),
        duration_s=SAMPLES / 10, width_px=1280, height_px=720, recorded_at=datetime(2025, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def track_rows(rng: np.random.Generator) -> pa.Table:
    at, which = np.repeat(np.arange(SAMPLES), OBJECTS), np.tile(np.arange(OBJECTS), SAMPLES)
    left = np.cumsum(rng.normal(0, 1, len(at))).astype(np.float32) + 500
    columns = {
        "track_id": which, "sample": at, "t": at / 10, "x1": left, "y1": left, "x2": left + 60,
        "y2": left + 160, "class": np.full(len(at), "person"), "score": rng.beta(8, 2, len(at)),
        "observed": np.ones(len(at), bool),
    }  # fmt: skip
    return pa.table(columns).select(schema.TRACKS.names).cast(schema.TRACKS)


def object_rows(rng: np.random.Generator) -> pa.Table:
    row = {
        "class": "person", "score": 0.8, "t_start": 0.0, "t_end": 30.0, "num_frames": SAMPLES,
        "trajectory": [],
        "mean_speed": 0.1, "top_speed": 0.2, "cut_at_start": False, "cut_at_end": False,
    }  # fmt: skip
    return pa.Table.from_pylist([{"track_id": n, **row} for n in range(OBJECTS)], schema.OBJECTS)


def event_rows(rng: np.random.Generator) -> pa.Table:
    rows = [
        {"event_id": digest(str(rng.integers(1 << 60))), "source": "rule", "label": ("gate", "yard")[n % 2],
         "t_start": float(n), "t_end": n + 1.0, "t_peak": n + 0.5, "score": 0.9, "track_ids": [n % OBJECTS],
         "zone": None, "direction": None, "details": "{}"}
        for n in range(EVENTS)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema.EVENTS)


if __name__ == "__main__":
    if sys.argv[2:] == ["ask"]:
        ask(sys.argv[1])
    else:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
