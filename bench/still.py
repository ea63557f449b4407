"""What still scenes gain, and what is lost by them.

    python -m bench.still [ROUNDS [THRESHOLD...]]

Footage is made of four real clips: a tenth of the time they run, in pieces, after each of which the picture
stands still for nine times as long; noise lies over all of it, and it is encoded as a camera would. It is
analysed with every frame perceived and with `perceive.still_threshold`, in turn. HOTA and events are those of
the run with the threshold, measured against the run without. Other noise is the same footage under noise of
another seed, every frame perceived: how much noise alone changes. Busy is the same without the pauses: what
looking for still scenes costs where there are few.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.footage import clip_path, timed, write_footage
from bench.tracking.score import Array, score
from pipeline.analyze import analyze
from pipeline.config import Config, load
from pipeline.lake.query import query

ROUNDS = 3
THRESHOLDS = (2.0,)
MOVING_S, STILL_S = 4.0, 36.0
MATCH_S, MOVED_S = 5.0, 1.0
"""Seconds by which an event may begin elsewhere and still be the same, and from which on it has moved."""

CLIPS = {
    "one-by-one-person-detection": 32.0,
    "person-bicycle-car-detection": 36.0,
    "car-detection": 20.0,
    "bottle-detection": 32.0,
}
"""Seconds that are taken of each."""

RULES = [
    {"name": "middle", "kind": "line_crossing", "line": [[0.5, 0.0], [0.5, 1.0]]},
    {"name": "across", "kind": "line_crossing", "line": [[0.0, 0.5], [1.0, 0.5]]},
    {"name": "left", "kind": "zone_entry", "zone": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]},
    {"name": "stays", "kind": "dwell", "zone": [[0, 0], [1, 0], [1, 1], [0, 1]], "min_duration_s": 10},
    {"name": "comes", "kind": "appear", "zone": [[0, 0], [1, 0], [1, 1], [0, 1]]},
]


Event = tuple[str, str, float]  # label, direction, begin


@dataclass(frozen=True)
class Run:
    """What an analysis cost and found."""

    wall_s: float
    cpu_s: float
    reused: float  # share of the frames
    tracks: Array  # (N, 6): frame, id, corners
    events: list[Event]
    num_frames: int


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    thresholds = [float(text) for text in sys.argv[2:]] or THRESHOLDS
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, ",
        end="",
    )
    print(f"medians of {rounds} rounds in turn\n")
    names = "wall s | CPU s | wall, times as fast | CPU | HOTA | events | lost | lost or moved"
    print(f"| footage | threshold | reused | {names} |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip, seconds in CLIPS.items():
            long = write_footage(clip_path(clip), folder / f"{clip}.mp4", seconds * 10, _paused)
            base = _compare(clip, long, rounds, thresholds, folder)
            other = write_footage(clip_path(clip), folder / "other.mp4", seconds * 10, _paused, seed=1)
            noisy = _run(other, 0, folder / f"{clip}-other")
            print(_row(f"{clip}, other noise", 0, base, [noisy]), flush=True)
            busy = write_footage(clip_path(clip), folder / f"{clip}-busy.mp4", seconds)
            _compare(f"{clip}, busy", busy, rounds, thresholds, folder)


def _paused(t: float) -> float:
    """The clip's time that is shown at `t`."""
    piece, within = divmod(t, MOVING_S + STILL_S)
    return piece * MOVING_S + min(within, MOVING_S)


def _compare(name: str, video: Path, rounds: int, thresholds: Sequence[float], folder: Path) -> Sequence[Run]:
    """Print a row for each threshold; gives the runs without."""
    runs: dict[float, list[Run]] = {threshold: [] for threshold in (0.0, *thresholds)}
    for number in range(rounds):
        for threshold, found in runs.items():
            found.append(_run(video, threshold, folder / f"{video.stem}-{threshold}-{number}"))
    base = runs[0.0]
    for threshold, found in runs.items():
        print(_row(name, threshold, base, found), flush=True)
    return base


def _row(name: str, threshold: float, base: Sequence[Run], found: Sequence[Run]) -> str:
    """What runs cost and found, beside those without a threshold."""

    def median(runs: Sequence[Run], field: str) -> float:
        return statistics.median(getattr(run, field) for run in runs)

    wall, cpu = median(found, "wall_s"), median(found, "cpu_s")
    faster = f"{median(base, 'wall_s') / wall:.2f} | {median(base, 'cpu_s') / cpu:.2f}"
    hota = score(base[0].tracks, found[0].tracks, base[0].num_frames)["HOTA"]
    missed = (_lost(base[0].events, found[0].events, seconds) for seconds in (MATCH_S, MOVED_S))
    events = " | ".join(map(str, (len(base[0].events), *missed)))
    cost = f"{found[0].reused:.0%} | {wall:.1f} | {cpu:.1f} | {faster}"
    return f"| {name} | {threshold:g} | {cost} | {hota:.1f} | {events} |"


def _run(video: Path, threshold: float, lake: Path) -> Run:
    config = load(None, {"perceive.still_threshold": threshold, "rules": RULES})
    wall, cpu = timed(partial(_analyze, video, lake, config))
    ask: Callable[[str], pa.Table] = partial(query, str(lake))
    frames = ask("select sample, reused from frames")
    tracks = ask("select sample, track_id, x1, y1, x2, y2 from tracks order by sample")
    events = ask("select label, coalesce(direction, ''), t_start from events order by t_start")
    numbers = np.unique(tracks["track_id"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    columns = [
        tracks["sample"].to_numpy() + 1,
        numbers,
        *(tracks[k].to_numpy() for k in ("x1", "y1", "x2", "y2")),
    ]
    return Run(
        wall,
        cpu,
        float(np.mean(frames["reused"].to_numpy(zero_copy_only=False))),
        np.stack(columns, axis=1).astype(np.float64),
        [tuple(row.values()) for row in events.to_pylist()],
        int(frames["sample"].to_numpy().max()) + 1,
    )


def _analyze(video: Path, lake: Path, config: Config) -> None:
    [result] = analyze([str(video)], str(lake), config).results
    if result.state != "ok":
        raise SystemExit(f"{video}: {result.state} {result.error}")


def _lost(wanted: Sequence[Event], found: Sequence[Event], seconds: float) -> int:
    """Events that have no like one within so many seconds; each stands for one."""
    left, lost = list(found), 0
    for label, details, begin in wanted:
        near = [e for e in left if e[:2] == (label, details) and abs(e[2] - begin) <= seconds]
        if near:
            left.remove(min(near, key=lambda e: abs(e[2] - begin)))
        else:
            lost += 1
    return lost


if __name__ == "__main__":
    main()
