"""What a machine has, and what one file is: for `marey doctor`."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.cores import usable_cores
from pipeline.analyze.perception import job_of
from pipeline.analyze.tools import Tools
from pipeline.config import Config
from pipeline.errors import MareyError
from pipeline.media import Feed, JobEnd, JobStart, SampledFrame, VideoInfo

_PACKAGES = ("torch", "openvino", "onnxruntime", "av", "decord", "deltalake", "pyarrow", "prefect")


def machine(config: Config) -> dict[str, Any]:
    """Versions, devices and weights, and what would run the CNN."""
    import torch

    from models.runtime import choose, refusal

    found: dict[str, Any] = {"marey": version("marey"), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["cpu_cores"] = usable_cores()
    found["cuda"] = "none"
    if torch.cuda.is_available():
        found["cuda"] = refusal("cuda") or torch.cuda.get_device_name(0)
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
    """Decode a file once, in a child process: its streams, what reads it and how, what would be lost."""
    job = replace(job_of(str(path), str(path), config), explain=True)
    found: dict[str, Any] = {"file": str(path)}
    samples = 0
    with Feed(max_pixels=job.width * job.height) as feed:
        for item in feed.run([job]):
            if isinstance(item, JobStart):
                found |= _headers(item.info)
            elif isinstance(item, SampledFrame):
                samples += 1
            elif isinstance(item, JobEnd):
                found |= _reading(item, samples)
    return found


def _headers(info: VideoInfo) -> dict[str, Any]:
    read = "  <- read: the largest video stream"
    return {
        "container": info.container,
        "streams": [
            f"{i}: {words}{read if i == info.stream_index else ''}" for i, words in enumerate(info.streams)
        ],
        "codec": f"{info.codec} {info.pix_fmt}",
        "displayed": f"{info.width_px}x{info.height_px}",
        "rotation": info.rotation,
        "mirrored": info.mirrored,
        "sample_aspect": str(info.sample_aspect),
        "fps_mean": info.fps_mean,
        "duration_s_claimed": info.duration_s,
        "created": info.creation_time,
    }


def _reading(end: JobEnd, samples: int) -> dict[str, Any]:
    if end.error is not None:
        return {"error": str(end.error)}
    return {
        "reader": end.reader if end.reader_note is None else f"{end.reader} ({end.reader_note})",
        "segments": "may begin at key frames"
        if end.read_from_start is None
        else f"are read from the file's start on: {end.read_from_start}",
        "time_from": end.time_source,
        "frames": end.frames_decoded,
        "last_frame_t": end.last_t,
        "frames_lost": end.frames_failed,
        "gaps": [
            f"{gap.t_start:.3f} s to {'the end' if gap.t_end is None else f'{gap.t_end:.3f} s'}: {gap.cause}"
            for gap in end.gaps
        ],
        "would_be_sampled": samples,
        "status": "partial" if end.gaps or end.frames_failed else "ok",
    }
