"""Footage as a camera would give it, made from real clips: it may pause, and noise lies over all of it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

FPS = 25
CAMERA = {"g": "50", "bf": "3", "crf": "23", "preset": "medium"}
"""H.264 with B-frames and a key frame every 2 s."""

NOISE = 2.0
"""Standard deviation of the noise, in grey levels: that of a camera by day."""

_FIELDS = 24

Planes = npt.NDArray[np.uint8]  # (3 H / 2, W), yuv420p


def clip_path(name: str) -> Path:
    """A clip of the shared data folder (MAREY_SHARED, else ../shared)."""
    shared = Path(os.environ.get("MAREY_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    return shared / "data" / "videos" / "surveillance" / f"{name}.mp4"


def write_footage(
    clip: Path,
    out: Path,
    seconds: float,
    source_at: Callable[[float], float] = lambda t: t,
    *,
    height: int = 360,
    seed: int = 0,
) -> Path:
    """Write `seconds` of footage that shows at each time the clip's frame of `source_at`, with new noise.

    Args:
        clip: of an aspect of 16:9.
        out: the file to write.
        seconds: its length.
        source_at: never decreasing.
        height: of its pictures.
        seed: of the noise.
    """
    width = height * 16 // 9
    rng = np.random.default_rng(seed)
    noise = [rng.normal(0, NOISE, (height, width)).astype(np.float32) for _ in range(_FIELDS)]
    shown = _shown(clip, [source_at(k / FPS) for k in range(round(seconds * FPS))], width, height)
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=CAMERA)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, planes in enumerate(shown):
            noisy = planes.copy()
            field = np.roll(noise[rng.integers(_FIELDS)], rng.integers(width), axis=1)
            noisy[:height] = (planes[:height] + field).clip(0, 255)
            frame = av.VideoFrame.from_ndarray(noisy, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out


def _shown(clip: Path, times: list[float], width: int, height: int) -> Iterator[Planes]:
    """The clip's frames on display at these times, in the size."""
    with av.open(str(clip)) as container:
        frames = container.decode(video=0)
        now, after = next(frames), next(frames, None)
        origin, planes = now.time, None
        for t in times:
            while after is not None and after.time - origin <= t:
                now, after, planes = after, next(frames, None), None
            if planes is None:
                rgb = cv2.resize(now.to_ndarray(format="rgb24"), (width, height))
                planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
            yield planes


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds, children that ended included."""
    began, cpu = time.perf_counter(), _cpu_s()
    act()
    return time.perf_counter() - began, _cpu_s() - cpu


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
