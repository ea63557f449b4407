"""Random scenes with boxes for the detector's training: other places, figures, light, weather each time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.demo.camera import Camera, Floats, Light
from pipeline.demo.figures import (
    SHADOW_SCALE,
    Figure,
    Mask,
    Sprite,
    cast_shadow,
    darken,
    draw,
    solid_box,
)
from pipeline.demo.paint import random_vehicle
from pipeline.demo.people import Pose, random_person
from pipeline.demo.places import (
    Plane,
    StreetPlan,
    cast,
    facade,
    hung_wall,
    noise_tile,
    plain,
    sky,
    street_ground,
    tree,
)
from pipeline.demo.raster import Colour, Layer, capsule, fractal, tube
from pipeline.demo.vehicles import Vehicle

Picture = npt.NDArray[np.uint8]
"""(H, W, 3) RGB, uint8."""

LONG_SIDE_PX = 384
Room = Callable[[float, float], bool]
"""Whether somebody can stand at ground point (x, y), in metres."""

CATEGORY_IDS = {"person": 1, "cycle": 2, "car": 3, "bus": 4, "truck": 5}
LICENSE = "Apache-2.0 (rendered by marey)"

MIN_SIDE_PX = 7
MIN_VISIBLE = 0.25
"""Boxes with less of the figure to be seen, or smaller, are marked `ignore`."""


@dataclass(frozen=True)
class Labelled:
    """A box xyxy of what is visible of a figure, in pixels."""

    label: str
    box: tuple[float, float, float, float]
    visible: float


def _camera(rng: np.random.Generator, indoors: bool) -> Camera:
    ratio = float(rng.choice([9 / 16, 9 / 16, 3 / 4, 2 / 3, 4 / 3]))
    width, height = (
        (LONG_SIDE_PX, round(LONG_SIDE_PX * ratio))
        if ratio < 1
        else (round(LONG_SIDE_PX / ratio), LONG_SIDE_PX)
    )
    above = rng.uniform(1.2, 2.8) if indoors or rng.random() < 0.4 else rng.uniform(2.5, 6.5)
    pitch = rng.uniform(-0.03, 0.12) if above < 2 else rng.uniform(0.08, 0.5 if indoors else 0.42)
    return Camera(width, height, float(rng.uniform(0.7, 1.5)) * LONG_SIDE_PX, float(above), float(pitch))


def _tone(rng: np.random.Generator, low: float, high: float, chroma: float = 14.0) -> Colour:
    """A colour as walls and floors have it: some grey with a warm or cold cast."""
    grey, warmth = float(rng.uniform(low, high)), float(rng.normal(0, chroma))
    green = float(rng.normal(0, chroma / 3))
    return grey + warmth, grey + green, grey - warmth


def _anywhere(x: float, y: float) -> bool:
    return True


def _street(rng: np.random.Generator, camera: Camera) -> tuple[Floats, Room]:
    tile = noise_tile(rng)
    heading = float(np.pi / 2 + rng.normal(0, 0.25)) if rng.random() < 0.6 else float(rng.normal(0, 0.2))
    far = float(rng.uniform(6, 18)) if abs(np.sin(heading)) < 0.5 else float(rng.uniform(-4, 5))
    beyond: Colour = (104.0, 116.0, 78.0) if rng.random() < 0.4 else _tone(rng, 80, 170)
    plan = StreetPlan(
        heading, far if abs(np.sin(heading)) > 0.5 else -far,
        float(rng.uniform(5, 14)), float(rng.uniform(1.5, 6)),
        _tone(rng, 70, 135, 4), _tone(rng, 105, 185, 8), beyond, bool(rng.random() < 0.7),
        float(rng.uniform(6, 25)) if rng.random() < 0.3 else None,
    )  # fmt: skip
    planes = [Plane((0, 0, 0), (1, 0, 0), (0, 1, 0), street_ground(plan, tile))]
    along = (float(np.cos(heading)), float(np.sin(heading)), 0.0)
    right = np.array([np.sin(heading), -np.cos(heading), 0])
    fronts = {1: np.inf, -1: -np.inf}
    for side in (1, -1):
        if rng.random() < 0.75:
            front = side * (plan.road_m / 2 + plan.pavement_m + float(rng.uniform(0, 8)))
            fronts[side] = front
            base = right * (plan.offset_m + front)
            texture = facade(
                rng, tile, _tone(rng, 80, 205), float(rng.uniform(2, 4.5)), float(rng.uniform(2.8, 3.8))
            )
            limits = (-200.0, 200.0, 0.0, float(rng.uniform(4, 22)))
            origin = (float(base[0]), float(base[1]), 0.0)
            planes.append(Plane(origin, along, (0, 0, 1), texture, limits))

    def open_to(x: float, y: float) -> bool:
        return bool(fronts[-1] + 0.4 < plan.across(x, y) < fronts[1] - 0.4)

    return cast(camera, planes, sky(rng, camera), float(rng.uniform(80, 500))), open_to


def _room(rng: np.random.Generator, camera: Camera) -> tuple[Floats, Room]:
    tile = noise_tile(rng)
    deep, wide, tall = (
        rng.uniform(6, 22),
        rng.uniform(2.5, 8),
        max(camera.height_m + 0.3, rng.uniform(2.5, 3.6)),
    )
    paint = [_tone(rng, 90, 220) for _ in range(3)]
    floor = plain(tile, paint[0], float(rng.choice([0.0, 0.4, 0.6, 1.2])), 0.25)
    planes = [
        Plane((0, 0, 0), (1, 0, 0), (0, 1, 0), floor),
        Plane((0, 0, float(tall)), (1, 0, 0), (0, 1, 0), plain(tile, (205, 204, 200), 0.6, 0.3)),
        Plane((0, float(deep), 0), (1, 0, 0), (0, 0, 1), hung_wall(rng, tile, paint[1], float(wide))),
    ]
    for side in (1, -1):
        texture = hung_wall(rng, tile, paint[2], float(deep))
        planes.append(Plane((float(side * wide), 0, 0), (0, 1, 0), (0, 0, 1), texture))
    picture = cast(camera, planes, np.full((camera.height, camera.width, 3), 120, np.float32), 400)
    glow = fractal(rng, camera.height, camera.width, 2, 0.4)

    def open_to(x: float, y: float) -> bool:
        return bool(abs(x) < wide - 0.4 and y < deep - 0.4)

    return picture * (1 + 0.1 * glow)[..., None], open_to


def _abstract(rng: np.random.Generator, camera: Camera) -> tuple[Floats, Room]:
    """Gradients, noise and rectangles: nothing that a place has."""
    shape = (camera.height, camera.width)
    ends = np.array([_tone(rng, 30, 225, 22) for _ in range(2)], np.float32)
    mix = fractal(rng, *shape, 2, float(rng.uniform(0.3, 0.8)))
    mix = (mix - mix.min()) / max(float(np.ptp(mix)), 1e-6)
    picture = ends[0] + (ends[1] - ends[0]) * mix[..., None]
    for _ in range(int(rng.integers(0, 14))):
        x, y = int(rng.integers(camera.width)), int(rng.integers(camera.height))
        w, h = (int(v) for v in rng.integers(8, 140, 2))
        tone = np.array(_tone(rng, 15, 235, 30), np.float32)
        picture[y : y + h, x : x + w] = tone * (1 + 0.15 * mix[y : y + h, x : x + w, None])
    grain = fractal(rng, *shape, 24, 0.9) * float(rng.uniform(2, 14))
    return (picture + grain[..., None]).astype(np.float32), _anywhere


# -- things that stand about and are none of the classes ---------------------------------------------------


def _prop(rng: np.random.Generator, camera: Camera, light: Light, x: float, y: float) -> Sprite | None:
    """A pole, bin, bollard, sign or tree: none of the classes, but in the way."""
    kind = str(rng.choice(["pole", "bin", "bollard", "sign", "tree", "cabinet"]))
    tall = {"pole": 5.0, "bin": 1.0, "bollard": 0.9, "sign": 2.4, "tree": 5.5, "cabinet": 1.5}[kind] * float(
        rng.uniform(0.8, 1.2)
    )
    half = {"pole": 0.07, "bin": 0.28, "bollard": 0.09, "sign": 0.04, "tree": 0.16, "cabinet": 0.4}[
        kind
    ] * float(rng.uniform(0.8, 1.3))
    pixels, depth = camera.project(np.array([[x, y, 0], [x, y, tall]], np.float32))
    scale = (camera.focal_px / depth).tolist()
    (foot_x, foot_y), (top_x, top_y) = pixels.tolist()
    if foot_y - top_y < 3 or not 0 < foot_x < camera.width:
        return None
    layer = Layer.blank(0, 0, camera.width, camera.height, camera, light)
    red, green, blue = rng.uniform(30, 190, 3).tolist()
    grow = 1.12 if kind == "bin" else 1.0
    halves = [max(half * s * g, 0.5) for s, g in zip(reversed(scale), (grow, 1.0), strict=True)]
    tube(layer, [top_y, foot_y], [top_x, foot_x], halves, (red, green, blue), 0.7, int(rng.integers(99)))
    if kind == "sign":
        plate = 0.35 * scale[1]
        capsule(
            layer,
            [(top_x, top_y), (top_x, top_y + plate)],
            (plate * 0.9, plate * 0.9),
            (blue, red, green),
            0.3,
        )
    if kind == "tree":
        _crown(rng, layer, top_x, top_y, 3.4 * scale[1])
    return Sprite(layer, float(depth[0]))


def _crown(rng: np.random.Generator, layer: Layer, x: float, y: float, size: float) -> None:
    side = int(np.clip(size, 8, 500))
    rgb, cover = tree(rng, side)
    left, top = int(x - side / 2), int(y - side / 2)
    sprite = Sprite(Layer(left, top, rgb * cover[..., None], cover), 0.0)
    sprite.paste(layer.rgb)
    here, own = sprite.inside(layer.alpha.shape[1], layer.alpha.shape[0])
    layer.alpha[here] = np.maximum(layer.alpha[here], cover[own])


# -- figures -----------------------------------------------------------------------------------------------


def _spot(
    rng: np.random.Generator, camera: Camera, tall_m: float, low_px: float, high_px: float
) -> tuple[float, float]:
    """A ground place where something of this height looks between so many pixels tall."""
    seen_px = float(np.exp(rng.uniform(np.log(low_px), np.log(high_px))))
    depth = camera.focal_px * tall_m / seen_px
    u = rng.uniform(-0.05, 1.05) * camera.width
    # depth is measured along the view; the ground point below it
    y = (depth - camera.height_m * np.sin(camera.pitch)) / np.cos(camera.pitch)
    return float((u - camera.width / 2) / camera.focal_px * depth), float(max(y, 0.5))


def _cast(
    rng: np.random.Generator, camera: Camera, indoors: bool, open_to: Room
) -> list[tuple[Figure, Pose]]:
    """Figures and where they stand, none inside another."""
    people = int(rng.choice([0, 1, 2, 3, 4, 5, 7, 10]))
    vehicles = 0 if indoors else int(rng.choice([0, 1, 2, 2, 3, 4, 5]))
    placed: list[tuple[Figure, Pose]] = []
    taken: list[tuple[float, float, float]] = []
    shared = float(rng.uniform(0, 2 * np.pi))
    for k in range(people + vehicles):
        label = (
            "person"
            if k >= vehicles
            else str(rng.choice(["car", "car", "car", "bus", "truck", "cycle", "cycle"]))
        )
        figure: Figure = random_person(rng) if label == "person" else random_vehicle(rng, label)
        low, high = (16, 0.95 * camera.height) if label in ("person", "cycle") else (14, 0.6 * camera.height)
        reach = figure.length_m / 2 if isinstance(figure, Vehicle) else 0.3
        for _ in range(6):
            x, y = _spot(rng, camera, figure.height_m, low, high)
            clear = all(np.hypot(x - a, y - b) > reach + r for a, b, r in taken)
            if clear and y > reach + 0.5 and open_to(x, y):
                break
        else:
            continue
        taken.append((x, y, reach))
        side = float(rng.choice([0, np.pi]))
        heading = (
            float(rng.uniform(0, 2 * np.pi))
            if label == "person"
            else shared + side + float(rng.normal(0, 0.15))
        )
        stride = float(rng.choice([0.0, 0.3, 1.0, 1.0, 1.1]))
        pose = Pose(x, y, heading, float(rng.uniform(0, 2 * np.pi)), stride)
        placed.append((figure, pose))
        if label == "cycle" and rng.random() < 0.75:
            rider = Pose(x, y, heading, pose.phase, 1.0, True, 0.16)
            placed.append((random_person(rng), rider))
    return placed


def _compose(canvas: Floats, sprites: list[tuple[Sprite, str | None]]) -> list[Labelled]:
    """Paste from far to near and say what remains visible of each labelled sprite."""
    height, width = canvas.shape[:2]
    order = sorted(sprites, key=lambda item: -item[0].depth_m)
    owner = np.full((height, width), -1, np.int32)
    for index, (sprite, _) in enumerate(order):
        sprite.paste(canvas)
        here, own = sprite.inside(width, height)
        owner[here][sprite.solid[own]] = index
    labelled = []
    for index, (sprite, label) in enumerate(order):
        seen: Mask = owner == index
        box = solid_box(seen)
        if label is None or box is None:
            continue
        labelled.append(Labelled(label, box, float(seen.sum()) / max(float(sprite.solid.sum()), 1.0)))
    return labelled


def _weather(rng: np.random.Generator, canvas: Floats) -> Picture:
    """Exposure, tint, night, haze, blur and sensor noise; uint8 RGB."""
    picture = canvas
    if rng.random() < 0.15:
        picture = picture * float(rng.uniform(0.35, 0.6)) * rng.uniform((0.8, 0.85, 0.9), (1.1, 1.0, 1.15))
    if rng.random() < 0.1:
        veil = float(rng.uniform(0.1, 0.45))
        picture = picture * (1 - veil) + 200 * veil
    picture = picture * float(rng.uniform(0.75, 1.25)) * rng.uniform(0.93, 1.07, 3) + float(
        rng.uniform(-15, 15)
    )
    picture = 255 * np.power(np.clip(picture / 255, 0, 1), float(rng.uniform(0.8, 1.25)))
    blur = float(rng.choice([0.45, 0.6, 0.8, 1.2]))
    blurred: Floats = np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), blur), np.float32)
    grain = rng.standard_normal(blurred.shape[:2], np.float32)[..., None] * float(
        rng.choice([1.0, 2.0, 4.0, 8.0])
    )
    grain = grain + rng.standard_normal(blurred.shape, np.float32) * float(rng.uniform(0, 3))
    taken: Picture = np.clip(blurred + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.1:
        taken = np.repeat(cv2.cvtColor(taken, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2).astype(np.uint8)
    return taken


def training_scene(rng: np.random.Generator) -> tuple[Picture, list[Labelled]]:
    """A random picture (height, width, 3) uint8 RGB, longer side 384, and the boxes in it."""
    kind = str(rng.choice(["street", "street", "street", "street", "room", "room", "abstract"]))
    camera = _camera(rng, kind == "room")
    light = Light.at(
        float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.35, 1.4)),
        ambient=float(rng.uniform(0.5, 0.75)), sun=float(rng.uniform(0.0, 0.55)),
        shadow=float(rng.uniform(0.1, 0.55)),
    )  # fmt: skip
    canvas, open_to = {"street": _street, "room": _room, "abstract": _abstract}[kind](rng, camera)
    mask = np.zeros((-(-camera.height // SHADOW_SCALE), -(-camera.width // SHADOW_SCALE)), np.uint8)
    sprites: list[tuple[Sprite, str | None]] = []
    for figure, pose in _cast(rng, camera, kind == "room", open_to):
        sprite = draw(figure, pose, camera, light)
        if sprite is not None:
            cast_shadow(mask, figure, pose, camera, light)
            nearer = 0.02 if pose.riding else 0.0
            sprites.append((Sprite(sprite.layer, sprite.depth_m - nearer), figure.label))
    for _ in range(int(rng.integers(0, 5))):
        prop = _prop(rng, camera, light, *_spot(rng, camera, 2.0, 20, 200))
        if prop is not None:
            sprites.append((prop, None))
    darken(canvas, mask, light)
    labelled = _compose(canvas, sprites)
    return _weather(rng, canvas), labelled


def render_training_images(out_dir: Path, count: int, seed: int) -> dict[str, Any]:
    """Write `count` random scenes to `out_dir`/images as WebP and return their COCO description.

    File names in it are relative to `out_dir`. Each picture depends on `seed` and its number alone.
    """
    (out_dir / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        picture, labelled = training_scene(rng)
        name = f"images/{number:05d}.webp"
        quality = int(rng.integers(35, 85))
        cv2.imwrite(str(out_dir / name), picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
        height, width = picture.shape[:2]
        images.append({
            "id": number + 1, "file_name": name, "width": width, "height": height,
            "complete_for": [*CATEGORY_IDS.values()], "source": "marey", "kind": "rendered",
            "license": LICENSE,
        })  # fmt: skip
        for item in labelled:
            x1, y1, x2, y2 = item.box
            small = min(x2 - x1, y2 - y1) < MIN_SIDE_PX or item.visible < MIN_VISIBLE
            annotations.append({
                "id": len(annotations) + 1, "image_id": number + 1, "category_id": CATEGORY_IDS[item.label],
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0, "ignore": int(small),
            })  # fmt: skip
    info = {"description": "scenes rendered by marey", "seed": seed}
    return {
        "info": info,
        "categories": [{"id": number, "name": name} for name, number in CATEGORY_IDS.items()],
        "images": images,
        "annotations": annotations,
    }


def main() -> None:
    """`python -m pipeline.demo.training OUT [COUNT [SEED]]`: the rendered part of the training mix."""
    out = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    data = render_training_images(out, count, seed)
    (out / "train.json").write_text(json.dumps(data), encoding="utf-8")


if __name__ == "__main__":
    main()
