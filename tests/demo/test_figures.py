"""Figures as drawn: boxes, shading, sides, shadows."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.demo.camera import Camera, Light
from pipeline.demo.figures import SHADOW_SCALE, cast_shadow, darken, draw
from pipeline.demo.paint import SHAPES, random_vehicle
from pipeline.demo.people import Person, Pose, random_person
from pipeline.demo.vehicles import Vehicle

CAMERA = Camera(320, 240, 300.0, 1.6, 0.0)
LIGHT = Light.at(azimuth=-2.0, elevation=0.8)


def test_a_person_is_as_tall_as_the_geometry_says() -> None:
    person = Person(height_m=1.8)
    sprite = draw(person, Pose(0, 6, 0.0, stride=0.0), CAMERA, LIGHT)
    assert sprite is not None
    box = sprite.box()
    assert box is not None
    # 300 px focal length, 6 m away, camera at 1.6 m: feet at 120 + 80, head at 120 - 10
    assert box[3] == pytest.approx(200, abs=3)
    assert box[1] == pytest.approx(110, abs=3)
    assert 0.2 < (box[2] - box[0]) / (box[3] - box[1]) < 0.5


def test_walking_moves_the_legs_and_keeps_the_feet_on_the_ground() -> None:
    boxes = []
    for phase in np.linspace(0, 2 * np.pi, 9):
        sprite = draw(Person(), Pose(0, 6, 0.0, float(phase)), CAMERA, LIGHT)
        assert sprite is not None
        boxes.append(sprite.box())
    widths = [box[2] - box[0] for box in boxes if box]
    bottoms = [box[3] for box in boxes if box]
    assert max(widths) > 1.4 * min(widths)
    assert max(bottoms) - min(bottoms) <= 4


@pytest.mark.parametrize("label", list(SHAPES))
def test_a_vehicle_fits_its_size(label: str) -> None:
    vehicle = random_vehicle(np.random.default_rng(3), label)
    sprite = draw(vehicle, Pose(0, 20, 0.0), CAMERA, LIGHT)
    assert sprite is not None
    box = sprite.box()
    assert box is not None
    near = 300 / (20 - vehicle.width_m / 2)
    assert box[2] - box[0] == pytest.approx(vehicle.length_m * near, rel=0.08, abs=2)
    assert box[3] - box[1] == pytest.approx(vehicle.height_m * near, rel=0.2, abs=3)


def test_paint_shows_and_front_differs_from_back() -> None:
    car = Vehicle(paint=(200.0, 20.0, 20.0), lamps=True)
    pictures = []
    for heading in (-np.pi / 2, np.pi / 2):  # towards the camera, and away
        sprite = draw(car, Pose(0, 8, heading), CAMERA, LIGHT)
        assert sprite is not None
        rgb = sprite.layer.rgb[sprite.solid]
        assert ((rgb[:, 0] > 70) & (rgb[:, 1] < 60)).mean() > 0.2
        pictures.append((rgb.min(axis=1) > 180).sum())
    assert pictures[0] > 2 * pictures[1]


def test_outside_the_picture_there_is_nothing() -> None:
    assert draw(Person(), Pose(40, 6, 0.0), CAMERA, LIGHT) is None


def test_a_cut_figure_keeps_its_full_box() -> None:
    sprite = draw(Person(), Pose(-3.2, 6, 0.0), CAMERA, LIGHT)
    assert sprite is not None
    box = sprite.box()
    assert box is not None and box[0] < 0 < box[2]


def test_shadows_darken_beside_the_feet() -> None:
    canvas = np.full((240, 320, 3), 200, np.float32)
    mask = np.zeros((240 // SHADOW_SCALE, 320 // SHADOW_SCALE), np.uint8)
    low_sun = Light.at(azimuth=np.pi, elevation=0.5, shadow=0.5)  # from the left
    cast_shadow(mask, Person(), Pose(0, 6, 0.0), Camera(320, 240, 300.0, 3.0, 0.2), low_sun)
    darken(canvas, mask, low_sun)
    dark = canvas[..., 0] < 150
    assert dark.sum() > 100
    columns = np.flatnonzero(dark.any(axis=0))
    assert columns.mean() > 165
    assert canvas.min() == pytest.approx(100, abs=4)


def test_random_people_differ_and_repeat() -> None:
    first = [random_person(np.random.default_rng(k)) for k in range(4)]
    assert len(set(first)) == 4
    assert first == [random_person(np.random.default_rng(k)) for k in range(4)]
