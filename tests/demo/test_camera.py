"""The camera's geometry, against what a pinhole does by definition."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.demo.camera import Camera, Light

CAMERA = Camera(640, 360, 600.0, 4.8, 0.3)


def test_the_middle_of_the_picture_is_where_the_camera_looks() -> None:
    reach = 4.8 / np.tan(0.3)
    pixels, depth = CAMERA.project(np.array([[0, reach, 0]]))
    assert pixels[0] == pytest.approx((320, 180), abs=0.01)
    assert depth[0] == pytest.approx(4.8 / np.sin(0.3), rel=1e-5)


def test_ground_and_projection_are_inverse() -> None:
    x, y = CAMERA.ground(500, 250)
    pixels, _ = CAMERA.project(np.array([[x, y, 0]]))
    assert pixels[0] == pytest.approx((500, 250), abs=0.01)


def test_the_sky_is_no_ground() -> None:
    horizon = CAMERA.height / 2 - CAMERA.focal_px * np.tan(CAMERA.pitch)
    with pytest.raises(ValueError, match="not below the horizon"):
        CAMERA.ground(320, horizon - 1)


def test_shadows_fall_away_from_the_sun() -> None:
    light = Light.at(azimuth=0.0, elevation=np.pi / 4)
    cast = light.on_ground(np.array([[1.0, 2.0, 3.0]]))
    assert cast[0] == pytest.approx((-2, 2, 0), abs=1e-5)
