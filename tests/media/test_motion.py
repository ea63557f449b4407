from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.media.letterbox import Letterbox
from pipeline.media.motion import GRID_CHANNELS, GRID_COLUMNS, GRID_ROWS, MOTION_GRID_SIZE, MotionMeter

BOX = Letterbox.fit(1024, 576, 512, 288)  # one content pixel is two displayed ones


def texture(seed: int = 0, width: int = 512, height: int = 288) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def moved(picture: np.ndarray, dx: float, dy: float, scale: float, rotation: float) -> np.ndarray:
    """The picture moved as `CameraMotion` defines it, in content pixels, by OpenCV's own warp."""
    height, width = picture.shape[:2]
    turn = scale * np.array([[np.cos(rotation), -np.sin(rotation)], [np.sin(rotation), np.cos(rotation)]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.column_stack([turn, centre + np.array([dx, dy]) - turn @ centre])
    return cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def grid_of(flat: np.ndarray) -> np.ndarray:
    return flat.reshape(GRID_ROWS, GRID_COLUMNS, GRID_CHANNELS)


@pytest.mark.parametrize(
    ("dx", "dy", "scale", "rotation"),
    [(6, 0, 1, 0), (0, -5, 1, 0), (3, 2, 1.03, 0), (0, 0, 1, 0.03), (-4, 3, 0.97, -0.02)],
)
def test_camera_motion_is_found(dx: float, dy: float, scale: float, rotation: float) -> None:
    meter = MotionMeter(BOX)
    picture = texture()
    meter.step(picture, 0.0)
    grid, camera = meter.step(moved(picture, dx, dy, scale, rotation), 0.1)
    assert camera is not None
    assert camera.dx == pytest.approx(2 * dx, abs=0.6)
    assert camera.dy == pytest.approx(2 * dy, abs=0.6)
    assert camera.scale == pytest.approx(scale, abs=0.004)
    assert camera.rotation == pytest.approx(rotation, abs=0.004)
    middle = grid_of(grid)[1:-1, 1:-1, 0]
    assert middle.max() < 0.05  # widths per second; unexplained, 12 px in 0.1 s would be 0.12


def test_a_first_frame_has_no_motion() -> None:
    grid, camera = MotionMeter(BOX).step(texture(), 0.0)
    assert grid.shape == (MOTION_GRID_SIZE,)
    assert grid.dtype == np.float32
    assert not grid.any()
    assert camera is None


def test_a_flat_picture_tells_nothing_of_the_camera() -> None:
    meter = MotionMeter(BOX)
    flat = np.full((288, 512, 3), 90, np.uint8)
    meter.step(flat, 0.0)
    grid, camera = meter.step(flat, 0.1)
    assert camera is None
    assert not grid.any()


def test_a_cut_is_no_camera_motion() -> None:
    meter = MotionMeter(BOX)
    meter.step(texture(1), 0.0)
    grid, camera = meter.step(texture(2), 0.1)
    assert camera is None
    assert grid_of(grid)[..., 1].mean() > 0.1


def test_what_moves_shows_in_its_cells_only() -> None:
    meter = MotionMeter(BOX)
    ground, patch = texture(3), texture(4)[:60, :60]
    first, second = ground.copy(), ground.copy()
    first[100:160, 200:260], second[100:160, 208:268] = patch, patch
    meter.step(first, 0.0)
    grid, camera = meter.step(second, 0.1)
    assert camera is not None
    assert abs(camera.dx) < 0.5
    cells = grid_of(grid)
    assert np.unravel_index(cells[..., 0].argmax(), (GRID_ROWS, GRID_COLUMNS)) in [(2, 3), (2, 4), (3, 3)]
    assert cells[2, 3, 0] > 20 * cells[0, 7, 0]
    assert cells[2, 3, 1] > 5 * cells[0, 7, 1]


def test_speed_is_per_second() -> None:
    ground, patch = texture(3), texture(4)[:60, :60]
    first, second = ground.copy(), ground.copy()
    first[100:160, 200:260], second[100:160, 208:268] = patch, patch
    grids = []
    for later in (0.1, 0.2):
        meter = MotionMeter(BOX)
        meter.step(first, 0.0)
        grids.append(grid_of(meter.step(second, later)[0]))
    np.testing.assert_allclose(grids[0][..., 0], 2 * grids[1][..., 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(grids[0][..., 1], grids[1][..., 1])


def test_frames_shown_at_one_time_have_no_speed() -> None:
    """It was so high that half precision, in which it is stored, could not hold it."""
    meter = MotionMeter(BOX)
    meter.step(texture(3), 0.5)
    cells = grid_of(meter.step(texture(4), 0.5)[0])
    assert not cells[..., 0].any()
    assert cells[..., 1].all()


def test_brighter_is_not_different() -> None:
    meter = MotionMeter(BOX)
    picture = (texture().astype(int) // 2 + 40).astype(np.uint8)
    meter.step(picture, 0.0)
    grid, _ = meter.step(picture + 30, 0.1)
    assert grid_of(grid)[..., 1].max() < 0.01


@pytest.mark.parametrize("display", [(1, 1), (5000, 3), (3, 5000), (320, 240)])
def test_any_shape_will_do(display: tuple[int, int]) -> None:
    box = Letterbox.fit(*display, 512, 288)
    meter = MotionMeter(box)
    for t in (0.0, 0.1):
        grid, _ = meter.step(texture(0, 512, 288)[: box.content_height, : box.content_width], t)
    assert np.isfinite(grid).all()


def test_the_same_pictures_give_the_same_numbers() -> None:
    runs = []
    for _ in range(2):
        meter = MotionMeter(BOX)
        runs.append([meter.step(moved(texture(), i, 0, 1, 0), i / 10) for i in range(4)])
    for (grid_a, camera_a), (grid_b, camera_b) in zip(*runs, strict=True):
        assert grid_a.tobytes() == grid_b.tobytes()
        assert camera_a == camera_b


def test_a_picture_at_rest_has_the_differences_of_any_and_no_motion() -> None:
    rng = np.random.default_rng(3)
    noisy = [np.clip(texture() + rng.normal(0, 3, (288, 512, 3)), 0, 255).astype(np.uint8) for _ in range(2)]
    meter = MotionMeter(BOX)
    greys = [meter.keep(noisy[0], 0.0), meter.keep(noisy[1], 0.1)]
    grid, camera = meter.at_rest(greys[0], greys[1])
    assert camera.as_tuple() == (0, 0, 1, 0)
    again = MotionMeter(BOX)
    again.step(noisy[0], 0.0)
    expected, _ = again.step(noisy[1], 0.1)
    assert not grid_of(grid)[..., 0].any()
    np.testing.assert_allclose(grid_of(grid)[..., 1], grid_of(expected)[..., 1], atol=1e-3)
    # And the next frame is compared with the one kept last.
    np.testing.assert_array_equal(again.step(noisy[0], 0.2)[0], meter.step(noisy[0], 0.2)[0])


def test_camera_motion_is_the_same_without_the_grid() -> None:
    with_grid, without = MotionMeter(BOX), MotionMeter(BOX, grid=False)
    picture = texture()
    for t, shown in enumerate((picture, moved(picture, 4, 1, 1, 0), moved(picture, 9, 1, 1.01, 0))):
        (grid, camera), (empty, same) = (meter.step(shown, t / 10) for meter in (with_grid, without))
        assert camera == same
        assert not empty.any()
    assert grid.any()
