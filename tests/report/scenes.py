"""A video of one moving square, and a lake that says where it is: the truth is a formula."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa

from pipeline.config import Config
from pipeline.ids import content_id
from pipeline.lake import schema
from pipeline.lake.commit import put_config
from pipeline.lake.tables import Lake
from pipeline.sources import Source, look
from tests.lake.build import RECORDED, analyse

WIDTH, HEIGHT, FPS, SECONDS = 640, 360, 25, 12
SIDE = 80
SAMPLE_FPS = 10

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><img src=x onerror=\"document.title='owned'\">",
    "'\"><svg onload=document.title='owned'>",
    "{{ 7 * 7 }}${document.title='owned'}<!--",
    "&lt;b&gt;\u2028\u202e\\u003c/script\\u003e",
)


def square(t: float) -> tuple[float, float, float, float]:
    """Where the square is at a time, xyxy in pixels."""
    x, y = 20 + 40 * t, 60 + 12 * t
    return x, y, x + SIDE, y + SIDE


def square_video(path: Path, start_s: float = 0.0, codec: str = "libx264") -> Path:
    """A white square that moves over dark grey, 25 frames/s, key frames every second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options={"g": str(FPS), "crf": "16"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for n in range(FPS * SECONDS):
            picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
            x1, y1, x2, y2 = (round(v) for v in square(n / FPS))
            picture[y1:y2, x1:x2] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * (start_s + n / FPS)), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shown_at(tick: int, sample_fps: float = SAMPLE_FPS) -> float:
    """Time of the frame on display at a tick of the grid."""
    return np.floor(tick / sample_fps * FPS + 1e-9) / FPS


def event_id(video: int, event: int) -> str:
    return f"{video:016x}{event:016x}"


def square_rows(
    label: str = "gate",
    kind: str = "person",
    number: int = 1,
    events: int = 5,
    sample_fps: float = SAMPLE_FPS,
) -> dict[str, pa.Table]:
    """Rows of the square as track 7, and events every two seconds."""
    times = [shown_at(tick, sample_fps) for tick in range(round(SECONDS * sample_fps))]
    frames = [{"sample": n, "pts": None, "t": t, "reused": False} for n, t in enumerate(times)]
    tracks = [
        {"track_id": 7, "sample": n, "t": t, "class": kind, "score": 0.9, "observed": n % 7 != 3,
         **dict(zip(("x1", "y1", "x2", "y2"), square(t), strict=True))}
        for n, t in enumerate(times)
    ]  # fmt: skip
    found = [
        {"event_id": event_id(number, n), "source": "rule", "label": label, "t_start": 2.0 * n + 1.0,
         "t_end": 2.0 * n + 1.4, "t_peak": 2.0 * n + 1.2, "score": 0.9, "track_ids": [7], "zone": label,
         "direction": "left_to_right", "details": "{}"}
        for n in range(events)
    ]  # fmt: skip
    track = {
        "track_id": 7, "class": kind, "score": 0.9, "t_start": 0.0, "t_end": times[-1],
        "num_frames": len(times), "trajectory": [
            {"t": t, "x": square(t)[0] + SIDE / 2, "y": square(t)[3]} for t in (0.0, times[-1])
        ],
        "mean_speed": 0.5, "top_speed": 0.5, "cut_at_start": True, "cut_at_end": True,
    }  # fmt: skip
    rows = {"frames": frames, "tracks": tracks, "objects": [track], "events": found}
    tables = {name: pa.Table.from_pylist(part, getattr(schema, name.upper())) for name, part in rows.items()}
    return tables | {"detections": schema.DETECTIONS.empty_table()}


def square_lake(
    place: Path, video: Path | str, *, label: str = "gate", kind: str = "person", camera: str | None = "gate",
    number: int = 1, sample_fps: float = SAMPLE_FPS, **name: Any,
) -> str:  # fmt: skip
    """Put the square's video into a lake; returns its video_id."""
    lake = Lake.open(str(place))
    line = {"name": label, "kind": "line_crossing", "line": [[0.5, 0.1], [0.5, 0.9]], "classes": [kind]}
    settings = {"rules": [line], "events": {"models": []}, "video": {"sample_fps": sample_fps}}
    config_id = put_config(lake, Config.model_validate(settings))
    facts = {
        "duration_s": float(SECONDS), "width_px": WIDTH, "height_px": HEIGHT, "codec": "h264",
        "fps_mean": float(FPS), "rotation": 0, "recorded_at": RECORDED + timedelta(hours=number),
    }  # fmt: skip
    if isinstance(video, Path) and isinstance(source := look(video), Source):
        facts |= {"etag": source.etag, "size_bytes": source.size_bytes, "content_id": content_id(video)}
    video_id = f"{number:032x}"
    analyse(
        lake, video_id, uri=str(video), camera=camera, name=facts | name,
        rows=square_rows(label, kind, number, sample_fps=sample_fps), config_id=config_id, marey_version="0",
        weights='{"detector": "abc"}',
    )  # fmt: skip
    return video_id
