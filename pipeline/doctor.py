"""What a machine has, and what one file is: for `marey doctor`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.analyze.tools import Tools
from pipeline.config import Config
from pipeline.errors import MareyError
from pipeline.media import DecodeJob, Feed, JobEnd, JobStart, SampledFrame

_PACKAGES = ("torch", "openvino", "onnxruntime", "av", "decord", "deltalake", "pyarrow", "prefect")


def machine(config: Config) -> dict[str, Any]:
    """Versions, devices and weights, and what would run the CNN."""
    import torch

    from models.runtime import choose

    found: dict[str, Any] = {"marey": version("marey"), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["cpu_cores"] = os.cpu_count()
    found["cuda"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    try:
        runtime, device = choose(config.perceive.runtime, config.perceive.device)
        found["cnn_runs_on"] = f"{runtime} on {device}"
        tools = Tools(config)
        found |= {f"weights_{role}": digest for role, digest in tools.digests.items()}
        found |= {f"weights_events_{name}": digest for name, digest in tools.event_digests.items()}
    except (MareyError, ValueError) as exc:
        found["error"] = str(exc)
    return found


def explain(path: Path, config: Config) -> dict[str, Any]:
    """Decode a file once, in a child process, and say what is in it and what would be lost."""
    video = config.video
    job = DecodeJob(
        key=str(path),
        path=str(path),
        sample_fps=video.sample_fps,
        width=config.perceive.input_width,
        height=config.perceive.input_height,
        max_pixels=video.max_pixels,
        max_streams=video.max_streams,
        stall_s=video.stall_s,
        max_memory_bytes=video.max_memory_mb << 20,
    )
    found: dict[str, Any] = {"file": str(path)}
    samples = 0
    with Feed(max_pixels=job.width * job.height) as feed:
        for item in feed.run([job]):
            if isinstance(item, JobStart):
                info = item.info
                found |= {
                    "container": info.container,
                    "codec": f"{info.codec} {info.pix_fmt}",
                    "displayed": f"{info.width_px}x{info.height_px}",
                    "rotation": info.rotation,
                    "streams": info.num_streams,
                    "read_stream": info.stream_index,
                    "fps_mean": info.fps_mean,
                    "duration_s_claimed": info.duration_s,
                    "created": info.creation_time,
                }
            elif isinstance(item, SampledFrame):
                samples += 1
            elif isinstance(item, JobEnd):
                found |= _end(item, samples)
    return found


def _end(end: JobEnd, samples: int) -> dict[str, Any]:
    if end.error is not None:
        return {"error": str(end.error)}
    return {
        "reader": end.reader,
        "time_from": end.time_source,
        "frames": end.frames_decoded,
        "last_frame_t": end.last_t,
        "frames_lost": end.frames_failed,
        "gaps": [
            f"{g.t_start:.3f} s to {g.t_end if g.t_end is not None else 'the end'}: {g.cause}"
            for g in end.gaps
        ],
        "would_be_sampled": samples,
    }
