"""Speed of each stage alone and of the whole, on one clip, alternating; medians of several rounds.

Prints Markdown. The clip is the demo's street unless another is named: `python -m bench [VIDEO]`.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.peer import compare
from pipeline.analyze import analyze
from pipeline.analyze.interpret import stored_perception
from pipeline.analyze.tools import Tools
from pipeline.config import load
from pipeline.lake import Lake
from pipeline.lake.lookup import current_analyses
from pipeline.media import DecodeJob, SampledFrame, decode_inline
from pipeline.track import Tracker

ROUNDS = 3


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(sys.argv[1]) if len(sys.argv) > 1 else _demo(Path(folder))
        config = load(None, {"events.models": []})
        tools = Tools(config)
        job = DecodeJob(
            "bench", str(video), width=config.perceive.input_width, height=config.perceive.input_height
        )
        pictures = [item.picture.copy() for item in decode_inline(job) if isinstance(item, SampledFrame)]
        analyze([str(video)], f"{folder}/lake", config)
        lake = Lake.open(f"{folder}/lake")
        [current] = current_analyses(lake, [_video_id(folder)]).values()
        perceived = list(stored_perception(lake, current))

        def decode() -> None:
            for _ in decode_inline(job):
                pass

        def cnn() -> None:
            batch = tools.perceiver.batch_size
            for begin in range(0, len(pictures), batch):
                tools.perceiver(np.stack(pictures[begin : begin + batch]))

        def track() -> None:
            tracker = Tracker(config.track, tools.motion, (640, 360))
            for pair in perceived:
                tracker.update(*pair)
            tracker.finish()

        def whole() -> None:
            with tempfile.TemporaryDirectory() as fresh:
                analyze([str(video)], f"{fresh}/lake", config)

        stages: dict[str, Callable[[], None]] = {"decode": decode, "CNN": cnn, "track": track, "whole": whole}
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in stages}
        for _ in range(ROUNDS):
            for name, stage in stages.items():
                runs[name].append(_timed(stage))
        seconds = len(pictures) / config.video.sample_fps
        machine = f"{os.cpu_count()} cores {platform.machine()}"
        print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, python -m bench, {video.name}:")
        print(f"{len(pictures)} sampled frames, {seconds:.0f} s; {tools.perceiver.network.runtime}; ", end="")
        print(f"torch {version('torch')}, median of {ROUNDS} rounds\n")
        print("| stage | sampled frames/s | times real time | CPU s |")
        print("|---|---|---|---|")
        for name, times in runs.items():
            wall = statistics.median(w for w, _ in times)
            cpu = statistics.median(c for _, c in times)
            print(f"| {name} | {len(pictures) / wall:.1f} | {seconds / wall:.1f} | {cpu:.2f} |")
        print(f"\n{compare(video)}")


def _demo(folder: Path) -> Path:
    from pipeline.demo.render import render_demo

    render_demo(folder / "street.mp4")
    return folder / "street.mp4"


def _video_id(folder: str) -> str:
    from pipeline.lake.query import query

    return str(query(f"{folder}/lake", "SELECT video_id FROM videos")["video_id"][0])


def _timed(stage: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds, children that ended included."""
    began, cpu = time.perf_counter(), _cpu_s()
    stage()
    return time.perf_counter() - began, _cpu_s() - cpu


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
