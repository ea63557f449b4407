"""Many damaged files through one feed, as a run meets them."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.media import DecodeJob, Feed, JobEnd, SampledFrame
from tests.media.make import write_video
from tests.media.mutate import mutated

SIZE = 64, 48
JOB = DecodeJob(
    "",
    "",
    sample_fps=10.0,
    width=64,
    height=48,
    max_pixels=2_000_000,
    stall_s=5.0,
    max_memory_bytes=600 << 20,
)
SMALL: dict[str, dict[str, object]] = {
    "v.mp4": {"container": {"movflags": "faststart"}},
    "fragmented.mp4": {"container": {"movflags": "frag_keyframe+empty_moov"}},
    "v.mkv": {"audio_streams": 1},
    "v.webm": {"codec": "libvpx"},
    "v.ts": {"audio_streams": 1},
    "v.flv": {},
    "v.avi": {"codec": "mpeg4"},
}


@dataclass
class Fuzzed:
    """What became of the files: frames, ends by kind, the longest time for one file."""

    frames: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    unfinished: list[int] = field(default_factory=list)


def small_files(folder: Path) -> dict[str, bytes]:
    """One second of moving noise in six containers (MP4 with and without fragments)."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3), np.uint8)
    pictures = [np.roll(noise, 2 * i, 1) for i in range(25)]
    return {
        name: write_video(
            folder / name, range(0, 1000, 40), size=SIZE, pictures=pictures, **more
        ).read_bytes()  # type: ignore[arg-type]
        for name, more in SMALL.items()
    }


def fuzz(folder: Path, seeds: range, reader: str = "pyav") -> Fuzzed:
    """Decode a mutation of a small file for each seed; each is deleted when its end has come."""
    whole = small_files(folder / "whole")
    names = list(whole)
    found = Fuzzed()
    began: dict[str, float] = {}

    def jobs() -> Iterator[DecodeJob]:
        for seed in seeds:
            name, other = names[seed % len(names)], names[seed // len(names) % len(names)]
            path = folder / f"{seed}-{name}"
            path.write_bytes(mutated(seed, whole[name], whole[other]))
            began[str(seed)] = time.monotonic()
            yield replace(JOB, key=str(seed), path=str(path), reader=reader)

    with Feed(2, ring_size=4, max_pixels=64 * 48) as feed:
        for item in feed.run(jobs()):
            if isinstance(item, SampledFrame):
                found.frames += 1
            elif isinstance(item, JobEnd):
                found.slowest_s = max(found.slowest_s, time.monotonic() - began.pop(item.job_key))
                found.ends[kind_of(item)] += 1
                next(folder.glob(f"{item.job_key}-*")).unlink()
    found.unfinished = [int(seed) for seed in began]
    return found


def kind_of(end: JobEnd) -> str:
    """`ok`, `partial`, the code of its error, or the cause of a gap that is not the file's bytes."""
    if end.error is not None:
        return end.error.code
    causes = {gap.cause for gap in end.gaps} - {"media"}
    return next(iter(causes), "partial" if end.gaps or end.frames_failed else "ok")


if __name__ == "__main__":
    folder, first, stop, *reader = sys.argv[1:]
    sys.stdout.write(f"{fuzz(Path(folder), range(int(first), int(stop)), *reader)}\n")
