"""A clip with known moving shapes, a network that sees them, and what the main job wrote of them.

The network has a random backbone; only what lies between its finest map and the classes is fitted, in a
second or two, on frames of the same kind of scene. Boxes have a fixed size. That gives real tracks.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from models.checkpoint import load_detector, save_detector
from models.detector import Detector, DetectorConfig, cell_centres
from models.temporal import EventModel, EventModelConfig, Part, save_events
from pipeline.config import Config, load
from pipeline.lake.layout import ORDER
from pipeline.lake.query import query
from tests.media.make import write_video

FPS = 10
LONG_S, SHORT_S = 40, 6
WIDTH, HEIGHT = 160, 96
INPUT = (96, 64)  # width, height of the CNN's input
SIDE = 16  # pixels of a shape
CLASSES = ("person", "car")
FRAMES, STEPS = 100, 60  # of the fit
COLOURS = ((235, 235, 60), (30, 40, 200))
TABLES = ("frames", "detections", "tracks", "objects", "events")

LINE = {"name": "gate", "kind": "line_crossing", "line": [[0.5, 0.0], [0.5, 1.0]], "hysteresis": 0.02}
ZONE = {
    "name": "corner",
    "kind": "zone_entry",
    "zone": [[0.0, 0.5], [0.5, 0.5], [0.5, 1.0], [0.0, 1.0]],
    "anchor": "centre",
}


def place(shape: int, t: float, seed: int = 0) -> tuple[float, float]:
    """Centre of a shape at a time, in pixels of the clip."""
    phase = 1.7 * shape + 0.6 * seed
    x = WIDTH / 2 + (WIDTH / 2 - SIDE) * math.sin(0.45 * t + phase)
    y = HEIGHT / 2 + (HEIGHT / 2 - SIDE) * math.sin(0.31 * t + 2.1 * phase)
    return x, y


def picture(t: float, seed: int = 0) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) RGB: two shapes over a still, uneven ground."""
    ground = np.random.default_rng(99).integers(90, 130, (HEIGHT // 8, WIDTH // 8, 3))
    out = np.kron(ground, np.ones((8, 8, 1))).astype(np.uint8)
    for shape, colour in enumerate(COLOURS):
        x, y = place(shape, t, seed)
        left, top = round(x - SIDE / 2), round(y - SIDE / 2)
        out[top : top + SIDE, left : left + SIDE] = colour
    return out


def write_clip(path: Path, seconds: float, seed: int = 0) -> Path:
    """A real H.264 file of the scene, a key frame every 4 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(seconds * FPS)
    pictures = [picture(i / FPS, seed) for i in range(count)]
    times = [i * 1000 // FPS for i in range(count)]
    options = {"g": str(4 * FPS), "preset": "veryfast"}
    return write_video(path, times, size=(WIDTH, HEIGHT), pictures=pictures, options=options)


def write_detector(path: Path) -> Path:
    """Weights that see the shapes of `picture`."""
    torch.manual_seed(5)
    width, height = INPUT
    settings = DetectorConfig(CLASSES, 32, 10, 8, 16, input_width=width, input_height=height)
    detector = Detector(settings)
    for coarse in detector.encoder.neck.lateral[1:]:
        nn.init.zeros_(coarse.bn.weight)  # random layers far up would only be noise to the class layer
    images, truth = _training_frames(width, height)
    with torch.no_grad():
        _settle_norms(detector, images)
        for number, level in enumerate(detector.heads):
            level.sides.weight.zero_()
            level.sides.bias.copy_(_fixed_sides(settings.bins, number))
            if number:
                level.logits.weight.zero_()
                level.logits.bias.fill_(-20.0)
    _fit(detector, images, truth)
    save_detector(path, detector.eval(), half=False)
    return path


def _fit(detector: Detector, images: torch.Tensor, truth: torch.Tensor) -> None:
    """Fit what lies between the backbone's finest map and the classes of stride 8."""
    neck, head = detector.encoder.neck, detector.heads[0]
    layers = nn.Sequential(neck.lateral[0], neck.down[0], head.class_tower, head.logits).eval()
    with torch.no_grad():
        finest = detector.encoder.backbone((images - 127) / 128)[0]
    optimizer = torch.optim.Adam(layers.parameters(), lr=0.01)
    wanted = truth.permute(0, 2, 1).reshape(len(images), len(CLASSES), *finest.shape[2:])
    for _ in range(STEPS):
        loss = nn.functional.binary_cross_entropy_with_logits(layers(finest), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _training_frames(width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (N, 3, H, W) in 0..255 and, for each cell of stride 8 and class, whether a shape is there."""
    import cv2

    centres, strides = cell_centres(height, width)
    cells = centres[strides == 8].numpy()
    images, truth = [], []
    for number in range(FRAMES):
        t = number * 0.73
        images.append(cv2.resize(picture(t, seed=3), (width, height), interpolation=cv2.INTER_AREA))
        near = []
        for shape in range(len(CLASSES)):
            x, y = place(shape, t, seed=3)
            at = np.array([x * width / WIDTH, y * height / HEIGHT])
            near.append(np.abs(cells - at).max(axis=1) < 5)
        truth.append(np.stack(near, axis=1))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return pixels, torch.from_numpy(np.stack(truth)).float()


def _settle_norms(detector: Detector, images: torch.Tensor) -> None:
    """Give every batch norm the statistics of these pictures, so that random layers keep their scale."""
    norms = [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    detector.train()
    detector(images)
    detector.eval()


def _fixed_sides(bins: int, level: int) -> torch.Tensor:
    """Logits of a box as large as a shape, as (4 * bins,)."""
    distance = 0.7 / 2**level
    low = int(distance)
    share = distance - low
    row = torch.full((bins,), -20.0)
    row[low], row[low + 1] = math.log(1 - share), math.log(share)
    return row.repeat(4)


@cache
def prepared(folder: Path) -> Path:
    """Fill a folder with tiny.safetensors, stir.safetensors, long.mp4 and short.mp4, once per session."""
    torch.set_num_threads(1)
    folder.mkdir()
    write_event_model(folder / "stir.safetensors", write_detector(folder / "tiny.safetensors"))
    write_clip(folder / "long.mp4", LONG_S)
    write_clip(folder / "short.mp4", SHORT_S, seed=1)
    return folder


def write_event_model(path: Path, detector: Path) -> Path:
    """A recurrent event model with random weights over the frame embeddings of a detector."""
    torch.manual_seed(3)
    model = EventModel(EventModelConfig(("stir",), (Part(0, 16),), sample_fps=FPS, width=8, hidden=8), 16)
    images, _ = _training_frames(*INPUT)
    with torch.no_grad():
        _, embeddings = load_detector(detector).encoder(images[:30])
        model.standardise_by(embeddings[None], torch.tensor([len(embeddings)]))
        model.leave[1].weight.mul_(6.0)
    save_events(path, model)
    return path


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    """Config values of a quick analysis; keys are dotted with two underscores."""
    values: dict[str, Any] = {
        "perceive.weights": str(folder / "tiny.safetensors"),
        "perceive.input_width": INPUT[0],
        "perceive.input_height": INPUT[1],
        "perceive.min_score": 0.3,
        "perceive.nms_iou": 0.3,
        "perceive.runtime": "torch",
        "perceive.device": "cpu",
        "events.models": [str(folder / "stir.safetensors")],
        "rules": [LINE, ZONE],
        "run.threads": 1,
        "run.segment_s": 60.0,
        "lake.commit_interval_s": 0.2,
    }
    return values | {key.replace("__", "."): value for key, value in more.items()}


def config(folder: Path, **more: Any) -> Config:
    """The same, resolved."""
    return load(None, settings(folder, **more))


def rows(lake: Path, view: str = "", video: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Rows in canonical order, all columns but the runs'; `view` "_all" takes also what is not current."""
    where = f" WHERE video_id = '{video}'" if video else ""
    found = {}
    for name in TABLES:
        table = query(str(lake), f"SELECT * FROM {name}{view}{where}").drop_columns(["run_id"])
        order = [("video_id", "ascending"), *((c, d) for c, d in ORDER[name] if c in table.schema.names)]
        found[name] = table.sort_by(order).to_pylist()
    return found


def counts(lake: Path) -> dict[str, int]:
    """Rows of every table, current or not."""
    names = ["analyses", "configs", "videos_all", *(f"{name}_all" for name in TABLES)]
    return {name: ask(lake, f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in names}


def ask(lake: Path, sql: str) -> list[dict[str, Any]]:
    table: pa.Table = query(str(lake), sql)
    found: list[dict[str, Any]] = table.to_pylist()
    return found
