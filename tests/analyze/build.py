"""A clip with known moving shapes, a network that sees them, and what the main job wrote of them.

The network is not trained: its finest map is made to hold the mean colour of each 8 x 8 pixels, and the two
classes are colours. Boxes have a fixed size, everything else is random. That gives real tracks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from models.checkpoint import save_detector
from models.detector import Detector, DetectorConfig
from models.encoder import Backbone, SameConv
from models.event_config import EventModelConfig
from models.temporal import EventModel, save_events
from pipeline.analyze.outcome import Silent
from pipeline.config import Config, load
from pipeline.lake.layout import ORDER
from pipeline.lake.query import query
from tests.media.make import write_video

FPS = 10
LONG_S, SHORT_S = 30, 6
WIDTH, HEIGHT = 160, 96
INPUT = (96, 64)  # width, height of the CNN's input
SIDE = 24  # pixels of a shape
CLASSES = ("person", "car")
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


def picture(t: float, seed: int = 0, *, empty: bool = False) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) RGB: two shapes, or none, over a still, uneven ground."""
    ground = np.random.default_rng(99).integers(90, 130, (HEIGHT // 8, WIDTH // 8, 3))
    out = np.kron(ground, np.ones((8, 8, 1))).astype(np.uint8)
    for shape, colour in enumerate(() if empty else COLOURS):
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
    config = DetectorConfig(CLASSES, 16, 10, 8, 16, input_width=width, input_height=height)
    detector = Detector(config)
    neck, head = detector.encoder.neck, detector.heads[0]
    with torch.no_grad():
        _pass_colours(detector.encoder.backbone)
        for coarse in neck.lateral[1:]:
            coarse.bn.weight.zero_()  # the finest map is not to hear of the coarser ones
        _pass(neck.lateral[0])
        for separable in (neck.down[0], *head.tower):
            _pass(separable.depthwise)
            _pass(separable.pointwise)
        # Colours are 0 to 2 here: 1.4 is yellow without blue, and the other way round.
        head.logits.weight.zero_()
        head.logits.weight[0, :3, 0, 0] = torch.tensor([5.0, 5.0, -10.0])
        head.logits.weight[1, :3, 0, 0] = torch.tensor([-5.0, -5.0, 10.0])
        head.logits.bias.fill_(-6.0)
        for number, level in enumerate(detector.heads):
            level.sides.weight.zero_()
            level.sides.bias.copy_(_fixed_sides(config.bins, number))
            if number:
                level.logits.weight.zero_()
                level.logits.bias.fill_(-20.0)
    save_detector(path, detector.eval(), half=False)
    return path


def _pass_colours(backbone: Backbone) -> None:
    """Make each cell of stride 8 the mean colour, 0 to 2, of the pixels below it."""
    _pass(backbone.stem)
    backbone.stem.bn.bias.fill_(1.0)  # colours come as -1 to 1, and ReLU6 would cut the half of that
    for stage in backbone.stages[:3]:
        for block in stage:
            if block.residual:
                block.layers[-1].bn.weight.zero_()
            else:
                for layer in block.layers:
                    _pass(layer)


def _pass(layer: SameConv) -> None:
    """Hand on the first channels: unchanged, or at stride 2 the mean of each 2 x 2."""
    weight = layer.conv.weight.zero_()  # (outputs, inputs per group, side, side)
    side = weight.shape[-1]
    depthwise = layer.conv.groups > 1
    first = (side - 1) // 2  # the tap on the cell itself; at stride 2 on the first of its two, see SameConv
    taps = slice(first, first + 1)
    if layer.conv.stride[0] == 2:
        first = (side - 2) // 2
        taps = slice(first, first + 2)
    share = 1 / (taps.stop - taps.start) ** 2
    for channel in range(3):
        weight[channel, 0 if depthwise else channel, taps, taps] = share


def _fixed_sides(bins: int, level: int) -> torch.Tensor:
    """Logits of a box as large as a shape, as (4 * bins,)."""
    distance = SIDE * INPUT[0] / WIDTH / 2 / 8 / 2**level
    low = int(distance)
    share = distance - low
    row = torch.full((bins,), -20.0)
    row[low], row[low + 1] = math.log(1 - share), math.log(share)
    return row.repeat(4)


def write_event_model(path: Path) -> Path:
    """A recurrent event model with random weights over the motion grids."""
    torch.manual_seed(3)
    model = EventModel(EventModelConfig(("stir",), sample_fps=FPS, width=8, hidden=8, window_s=4.0), 14)
    with torch.no_grad():
        model.leave[1].weight.mul_(120.0)
        model.leave[1].bias.mul_(10.0).sub_(34.5)  # so that it says now yes, now no
    save_events(path, model)
    return path


@cache
def prepared(folder: Path) -> Path:
    """Fill a folder with tiny.safetensors, stir.safetensors, long.mp4 and short.mp4, once per session."""
    torch.set_num_threads(1)
    folder.mkdir()
    write_detector(folder / "tiny.safetensors")
    write_event_model(folder / "stir.safetensors")
    write_clip(folder / "long.mp4", LONG_S)
    write_clip(folder / "short.mp4", SHORT_S, seed=1)
    return folder


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    """Config values of a quick analysis; keys are dotted with two underscores."""
    values: dict[str, Any] = {
        "perceive.weights": str(folder / "tiny.safetensors"),
        "perceive.input_width": INPUT[0],
        "perceive.input_height": INPUT[1],
        "perceive.min_score": 0.3,
        "perceive.nms_iou": 0.1,
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


def rows(lake: Path | str, view: str = "", video: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Rows in canonical order, all columns but the runs'; `view` "_all" takes also what is not current."""
    where = f" WHERE video_id = '{video}'" if video else ""
    found = {}
    for name in TABLES:
        table = query(str(lake), f"SELECT * FROM {name}{view}{where}").drop_columns(["run_id"])
        order = [("video_id", "ascending"), *((c, d) for c, d in ORDER[name] if c in table.schema.names)]
        found[name] = table.sort_by(order).to_pylist()
    return found


def counts(lake: Path | str) -> dict[str, int]:
    """Rows of every table, current or not."""
    names = ["analyses", "configs", "videos_all", *(f"{name}_all" for name in TABLES)]
    return {name: ask(lake, f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in names}


class Ticking(Silent):
    """A reporter that calls back once, when some seconds of video have been seen."""

    def __init__(self, seconds: float, act: Callable[[], object]) -> None:
        self.left, self.act = seconds, act

    def advance(self, seconds: float) -> None:
        before, self.left = self.left, self.left - seconds
        if before > 0 >= self.left:
            self.act()


def ask(lake: Path | str, sql: str) -> list[dict[str, Any]]:
    table: pa.Table = query(str(lake), sql)
    found: list[dict[str, Any]] = table.to_pylist()
    return found
