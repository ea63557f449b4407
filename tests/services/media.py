"""Short real clips and a tiny network: flows, not vision, are the subject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np

FPS = 10
SAMPLE_FPS = 5


def write_clip(path: Path, duration_s: float, shade: int) -> None:
    """An H.264 MP4, 128x96, of a square that moves to the right; clips of another shade differ."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(round(duration_s * FPS)):
            picture = np.full((96, 128, 3), shade, np.uint8)
            picture[40:64, 2 * number : 2 * number + 24] = 255 - shade
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def write_weights(path: Path) -> None:
    """A detector of random weights."""
    import torch

    from models.checkpoint import save_detector
    from models.detector import Detector, DetectorConfig

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = DetectorConfig(
            channels=16, bins=4, appearance=8, embedding=16, input_width=128, input_height=96
        )
        save_detector(path, Detector(config))


def tiny_settings(weights: Path) -> dict[str, Any]:
    """Settings under which a clip takes a second. Random weights score low: all their boxes are kept."""
    return {
        "video.sample_fps": SAMPLE_FPS,
        "perceive": {"weights": str(weights), "input_width": 128, "input_height": 96, "runtime": "torch"},
        "perceive.device": "cpu",
        "perceive.min_score": 0.0,
        "perceive.max_detections": 5,
        "events.models": [],
        "run.threads": 1,
    }
