"""What decoding costs where frames between the ticks are left out.

    python -m bench.sparse [VIDEO]

The video is 60 s of the clip of people, with noise, 720p, H.264 with B-frames and a key frame every 2 s,
unless another is named. CPU seconds of decoding with sampling, scaling and motion, in this process, medians
of rounds in turn.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench.footage import clip_path, timed, write_footage
from pipeline.media import DecodeJob, decode_inline

ROUNDS = 5
RATES = (0.2, 1.0, 5.0, 10.0)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        named = Path(sys.argv[1]) if len(sys.argv) > 1 else None
        video = named or write_footage(
            clip_path("one-by-one-person-detection"), Path(folder) / "people.mp4", 60.0, height=720
        )
        every = DecodeJob("bench", str(video), sample_fps=0.0, sparse=False)
        jobs = {(0.0, False): every}
        for rate in RATES:
            for sparse in (True, False):
                jobs[rate, sparse] = replace(every, sample_fps=rate, sparse=sparse)
        seconds: dict[tuple[float, bool], list[float]] = {case: [] for case in jobs}
        for _ in range(ROUNDS):
            for case, job in jobs.items():
                seconds[case].append(timed(lambda job=job: _decode(job))[1])  # type: ignore[misc]
    cost = {case: statistics.median(times) for case, times in seconds.items()}
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {video.name}, "
    )
    print(f"CPU s, medians of {ROUNDS} rounds; every frame taken: {cost[0.0, False]:.2f}\n")
    print("| samples/s | what is on display | all decoded | share | share of every frame taken |")
    print("|---|---:|---:|---:|---:|")
    for rate in RATES:
        sparse, full = cost[rate, True], cost[rate, False]
        shares = f"{sparse / full:.2f} | {sparse / cost[0.0, False]:.2f}"
        print(f"| {rate:g} | {sparse:.2f} | {full:.2f} | {shares} |")


def _decode(job: DecodeJob) -> None:
    for _ in decode_inline(job):
        pass


if __name__ == "__main__":
    main()
