"""Rendering the demo's scene to an MP4, with its truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.demo.camera import Camera, Floats, Light
from pipeline.demo.figures import SHADOW_SCALE, SOLID, Box, Sprite, cast_shadow, darken, draw
from pipeline.demo.scene import (
    DURATION_S,
    FPS,
    HEIGHT,
    WIDTH,
    Actor,
    demo_actors,
    demo_background,
    demo_camera,
    demo_light,
    street_furniture,
)
from pipeline.demo.truth import SEEN, TRUE_OBJECTS, TRUE_TRACKS, DemoTruth, true_events

Picture = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Called with the number of frames done and the number of all."""

RECORDED_AT = datetime(2024, 5, 14, 8, 30, tzinfo=UTC)
"""The recording time that the demo's file claims."""

NOISE_PICTURES = 6


@dataclass(frozen=True)
class Seen:
    """A figure in one frame: its box xyxy clipped to the picture, and the share of it that shows."""

    actor: Actor
    box: Box
    visibility: float


class Stage:
    """The scene at any time, as picture and truth."""

    def __init__(self, seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> None:
        self.camera: Camera = demo_camera(width, height)
        self.light: Light = demo_light()
        self.actors = demo_actors(seed)
        self.background: Floats = demo_background(seed, self.camera)
        self.furniture: list[Sprite] = street_furniture(seed, self.camera, self.light)
        rng = np.random.default_rng([seed, 4])
        size = (NOISE_PICTURES, height, width, 3)
        self._noise = np.round(rng.standard_normal(size, np.float32) * 2.2).astype(np.int16)

    def figures(self, t: float) -> list[tuple[Actor, Sprite]]:
        """The figures in the picture at a time."""
        drawn = []
        for actor in self.actors:
            pose = actor.pose(t)
            sprite = None if pose is None else draw(actor.figure, pose, self.camera, self.light)
            if sprite is not None:
                drawn.append((actor, sprite))
        return drawn

    def compose(self, t: float, shadows: bool = True) -> tuple[Floats, list[Seen]]:
        """The picture (height, width, 3) float32 before the sensor, and what shows of each figure."""
        canvas = self.background.copy()
        drawn = self.figures(t)
        if shadows and drawn:
            mask = np.zeros((self.camera.height // SHADOW_SCALE, self.camera.width // SHADOW_SCALE), np.uint8)
            for actor in self.actors:
                pose = actor.pose(t)
                if pose is not None:
                    cast_shadow(mask, actor.figure, pose, self.camera, self.light)
            darken(canvas, mask, self.light)
        owner = np.zeros(canvas.shape[:2], np.int16)
        layers = [(sprite, actor.track_id) for actor, sprite in drawn] + [(s, -1) for s in self.furniture]
        for sprite, number in sorted(layers, key=lambda layer: -layer[0].depth_m):
            sprite.paste(canvas)
            here, own = sprite.inside(self.camera.width, self.camera.height)
            owner[here][sprite.layer.alpha[own] >= SOLID] = number
        seen = [s for s in (self._seen(actor, sprite, owner) for actor, sprite in drawn) if s is not None]
        return canvas, seen

    def _seen(self, actor: Actor, sprite: Sprite, owner: npt.NDArray[np.int16]) -> Seen | None:
        box = sprite.box()
        if box is None:
            return None
        x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
        x2, y2 = min(box[2], float(self.camera.width)), min(box[3], float(self.camera.height))
        if x2 - x1 < 1 or y2 - y1 < 1:
            return None
        here, _ = sprite.inside(self.camera.width, self.camera.height)
        shown = int(np.count_nonzero(owner[here] == actor.track_id))
        return Seen(actor, (x1, y1, x2, y2), shown / max(int(np.count_nonzero(sprite.solid)), 1))

    def expose(self, canvas: Floats, t: float, number: int) -> Picture:
        """What the sensor makes of a picture: drifting exposure, noise, 8 bits."""
        gain = 1 + 0.035 * np.sin(2 * np.pi * t / 19) + 0.01 * np.sin(2 * np.pi * t / 3.1)
        noise = np.roll(self._noise[number % NOISE_PICTURES], (number * 7919) % 997, axis=1)
        return cv2.add(cv2.convertScaleAbs(canvas, alpha=gain), noise, dtype=cv2.CV_8U).astype(
            np.uint8, copy=False
        )


def _open(path: Path, width: int, height: int) -> tuple[av.container.OutputContainer, av.VideoStream]:
    container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
    container.metadata["creation_time"] = RECORDED_AT.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    stream = container.add_stream(
        "libx264", rate=FPS, options={"preset": "veryfast", "crf": "22", "bf": "2", "g": "50"}
    )
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.time_base = stream.codec_context.time_base = Fraction(1, 12800)
    stream.codec_context.thread_count = 1
    return container, stream


def _tables(
    rows: list[tuple[int, Seen]], actors: tuple[Actor, ...], duration_s: float
) -> tuple[pa.Table, pa.Table, pa.Table]:
    order = sorted(rows, key=lambda row: (row[1].actor.track_id, row[0]))
    boxes = np.array([seen.box for _, seen in order], np.float32).reshape(-1, 4)
    columns = {
        "track_id": [seen.actor.track_id for _, seen in order],
        "sample": [number for number, _ in order],
        "t": [number / FPS for number, _ in order],
        **{name: boxes[:, k] for k, name in enumerate(("x1", "y1", "x2", "y2"))},
        "class": [seen.actor.figure.label for _, seen in order],
        "score": np.ones(len(order), np.float32),
        "observed": [seen.visibility >= SEEN for _, seen in order],
        "visibility": np.array([seen.visibility for _, seen in order], np.float32),
    }
    tracks = pa.table(columns, schema=TRUE_TRACKS)
    objects = []
    for actor in actors:
        times = [n / FPS for n, seen in order if seen.actor is actor and seen.visibility >= SEEN]
        if times:
            objects.append((actor.track_id, actor.figure.label, actor.name, times[0], times[-1], len(times)))
    objects_table = pa.table([list(c) for c in zip(*objects, strict=True)] or [[]] * 6, schema=TRUE_OBJECTS)
    return tracks, objects_table, true_events(actors, duration_s)


def render_demo(
    path: Path,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    duration_s: float = DURATION_S,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> DemoTruth:
    """Write the demo's MP4 and say what is true of it.

    H.264 with B-frames, 25 frames/s, creation time RECORDED_AT.
    `seed` changes looks and noise, never what happens. A shorter `duration_s` renders the scene's beginning.
    """
    stage = Stage(seed, width, height)
    count = round(duration_s * FPS)
    rows: list[tuple[int, Seen]] = []
    container, stream = _open(path, width, height)
    with container:
        for number in range(count):
            t = number / FPS
            canvas, seen = stage.compose(t)
            frame = av.VideoFrame.from_ndarray(stage.expose(canvas, t, number), format="rgb24")
            frame.pts, frame.time_base = number * (12800 // FPS), Fraction(1, 12800)
            container.mux(stream.encode(frame))
            rows += [(number, one) for one in seen]
            if progress is not None:
                progress(number + 1, count)
        container.mux(stream.encode(None))
    tracks, objects, events = _tables(rows, stage.actors, duration_s)
    return DemoTruth(tracks, objects, events, width, height, FPS, count / FPS)
