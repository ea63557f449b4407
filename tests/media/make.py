"""Small videos made by the tests themselves: the frames' times and brightness are known."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

MILLI = Fraction(1, 1000)

STEP = 12
"""Grey levels between one frame and the next."""


def level(index: int) -> int:
    """Brightness of frame `index`, far enough from its neighbours' to survive coding."""
    return 30 + STEP * (index % 16)


def flat(index: int, width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), level(index), np.uint8)


def write_video(
    path: Path,
    times: Sequence[int],
    *,
    time_base: Fraction = MILLI,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pictures: Sequence[np.ndarray] | None = None,
    options: dict[str, str] | None = None,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    audio_streams: int = 0,
    format: str | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Encode one frame for each of `times` (units of `time_base`); flat grey unless `pictures` are given."""
    with av.open(str(path), "w", format=format, container_options=container) as output:
        stream: Any = output.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = stream.time_base = time_base
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.set_display_matrix(matrix)
        sounds: list[Any] = [output.add_stream("aac", rate=8000, layout="mono") for _ in range(audio_streams)]
        for index, pts in enumerate(times):
            picture = pictures[index] if pictures is not None else flat(index, *size)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = pts, time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        for sound in sounds:
            mux_silence(output, sound)
    return path


def mux_silence(container: Any, stream: Any) -> None:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 8000, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_audio(path: Path) -> Path:
    """A tenth of a second of silence, no video stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        mux_silence(container, stream)
    return path
