"""The page of a video in real Chromium: what it draws, where it seeks, who can use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.report.gather import find, gather
from pipeline.report.show import write_show
from tests.report.scenes import (
    FPS,
    HEIGHT,
    HOSTILE,
    WIDTH,
    event_id,
    shown_at,
    square,
    square_lake,
    square_video,
)
from tests.services.browser import faults, open_page, until

FRAME_S = 1 / FPS
TOLERANCE_PX = 3


def page_of(folder: Path, video: Path | str, **scene: Any) -> Path:
    """The page of a lake of the square alone."""
    lake = folder / "lake"
    video_id = square_lake(lake, video, **scene)
    return write_show(gather(str(lake), video_id), folder / "page")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    return page_of(folder, square_video(folder / "square.mp4"))


def settle(page: Any) -> float:
    """Wait until the frame that was sought stands still and its boxes are drawn; the time of the page."""
    until(page, "marey.overlay.drawn?.ready && !document.getElementById('video')?.seeking")
    page.wait_for_timeout(250)
    return float(page.evaluate("marey.overlay.drawn.t"))


def seek(page: Any, t: float) -> float:
    page.evaluate(f"marey.clock.seek({t})")
    return settle(page)


def only_boxes(page: Any) -> None:
    for switch in ("trails", "names", "places"):
        page.uncheck(f"#{switch}")


def drawn_box(page: Any) -> list[float]:
    """Bounds of what is painted on the overlay's canvas, xyxy in pixels of the video."""
    return page.evaluate(
        """() => {
          const canvas = document.getElementById('overlay'), {width, height} = canvas;
          const pixels = canvas.getContext('2d').getImageData(0, 0, width, height).data;
          let box = [width, height, 0, 0];
          for (let at = 0; at < width * height; at++) if (pixels[4 * at + 3] > 100) {
            const x = at % width, y = (at - x) / width, [x1, y1, x2, y2] = box;
            box = [Math.min(x1, x), Math.min(y1, y), Math.max(x2, x + 1), Math.max(y2, y + 1)];
          }
          return box.map((v) => v * marey.data.width / width);
        }"""
    )


def seen_square(page: Any) -> np.ndarray:
    """Bounds of the white square in the picture of the video itself, xyxy in pixels of the video."""
    page.evaluate("document.getElementById('overlay').style.visibility = 'hidden'")
    png = np.frombuffer(page.locator("#stage").screenshot(), np.uint8)
    page.evaluate("document.getElementById('overlay').style.visibility = ''")
    grey = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE)
    rows, columns = np.nonzero(grey[4:-4, 4:-4] > 150)
    scale = WIDTH / grey.shape[1]
    return scale * (4 + np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]))


@pytest.mark.parametrize("start_s", [0.0, 1.0])
def test_boxes_lie_where_the_table_has_them_and_the_picture_shows_the_object(
    browser: Any, tmp_path: Path, start_s: float
) -> None:
    video = square_video(tmp_path / "square.mp4", start_s)
    page, errors = open_page(browser, page_of(tmp_path, video))
    settle(page)
    only_boxes(page)
    # Chromium plays a file to the length that its header says, which counts from the first picture
    for tick in (0, 13, 41, 77, 117 if start_s == 0 else 100):
        t = shown_at(tick)
        assert seek(page, t) == pytest.approx(t, abs=1e-3)
        np.testing.assert_allclose(drawn_box(page), square(t), atol=TOLERANCE_PX)
        np.testing.assert_allclose(seen_square(page), square(t), atol=TOLERANCE_PX)
    assert errors == []


def test_a_click_on_an_event_seeks_to_its_start(browser: Any, shown: Path) -> None:
    page, errors = open_page(browser, shown)
    settle(page)
    page.click("#events li:nth-child(3) button")
    assert abs(settle(page) - 5.0) <= FRAME_S + 1e-6
    assert page.get_attribute("#events li:nth-child(3) button", "aria-current") == "true"
    canvas = page.locator("#timeline canvas")
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 0.5, "y": 5})
    assert abs(settle(page) - 6.0) <= FRAME_S + 12 / box["width"]
    canvas.hover(position={"x": box["width"] * 0.5, "y": box["height"] - 8})
    assert page.text_content("#timeline .tip") == "person 7, 0.0 to 11.9 s"
    assert errors == []


def test_the_keyboard_plays_steps_and_goes_from_event_to_event(browser: Any, shown: Path) -> None:
    page, errors = open_page(browser, shown)
    settle(page)
    for key, t in [
        ("n", 1.0),
        ("n", 3.0),
        ("p", 1.0),
        ("ArrowRight", 2.0),
        (".", 2.04),
        (",", 2.0),
        ("ArrowLeft", 1.0),
    ]:
        page.keyboard.press(key)
        assert settle(page) == pytest.approx(t, abs=FRAME_S + 1e-3), key
    page.keyboard.press("Space")
    until(page, "marey.clock.playing && marey.clock.now > 1.5")
    page.keyboard.press("Space")
    until(page, "!marey.clock.playing")
    assert page.text_content("#play") == "Play"
    assert errors == []


@pytest.mark.parametrize("width", [360, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_accessibility_checker_finds_no_serious_fault(
    browser: Any, axe: str, shown: Path, width: int, scheme: str
) -> None:
    viewport = {"width": width, "height": 800}
    page, errors = open_page(browser, shown, viewport=viewport, color_scheme=scheme)
    settle(page)
    assert faults(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert errors == []


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_text(browser: Any, tmp_path: Path, name: str) -> None:
    uri = "/archive/" + name.replace("/", "\u2215") + ".mp4"
    path = page_of(tmp_path, uri, label=name, kind=name, camera=name)
    page, errors = open_page(browser, path)
    settle(page)
    assert page.title() == uri.rsplit("/", 1)[-1] + " · marey"
    assert page.evaluate("document.querySelectorAll('svg, img, #events script').length") == 0
    assert name in page.text_content("#events li")
    assert name in page.text_content("#key")
    assert name in page.text_content("dl")
    assert errors == []


@pytest.mark.parametrize("sample_fps", [1.0, 0.4])
def test_boxes_stay_between_samples_that_are_far_apart(
    browser: Any, tmp_path: Path, sample_fps: float
) -> None:
    page, errors = open_page(browser, page_of(tmp_path, "s3://bucket/square.mp4", sample_fps=sample_fps))
    settle(page)
    only_boxes(page)
    for t in (0.6, 4.4, 6.9):
        seek(page, t)
        np.testing.assert_allclose(drawn_box(page), square(t), atol=TOLERANCE_PX)
    assert errors == []


def test_without_the_video_the_tracks_play_alone(browser: Any, tmp_path: Path) -> None:
    page, errors = open_page(browser, page_of(tmp_path, "s3://bucket/square.mp4"))
    assert settle(page) == 0
    assert "not at hand" in page.text_content("#notice")
    assert page.locator("#stage img").count() == 0
    only_boxes(page)
    seek(page, 4.0)
    np.testing.assert_allclose(drawn_box(page), square(4.0), atol=TOLERANCE_PX)
    page.click("#play")
    until(page, "marey.clock.now > 4.5")
    assert errors == []


def test_without_the_video_the_tracks_are_drawn_on_its_thumbnail(browser: Any, tmp_path: Path) -> None:
    grey = np.full((180, 320, 3), 40, np.uint8)
    grey[30:70, 10:50] = 255  # the square at 0 s, half as large
    thumbnail = cv2.imencode(".jpg", grey)[1].tobytes()
    page, errors = open_page(browser, page_of(tmp_path, "s3://bucket/square.mp4", thumbnail=thumbnail))
    assert settle(page) == 0
    assert "not at hand" in page.text_content("#notice")
    only_boxes(page)
    np.testing.assert_allclose(drawn_box(page), square(0), atol=TOLERANCE_PX)
    np.testing.assert_allclose(seen_square(page), square(0), atol=2 * TOLERANCE_PX)
    assert errors == []


def test_a_codec_that_browsers_cannot_play_is_named(browser: Any, tmp_path: Path) -> None:
    video = square_video(tmp_path / "square.mp4", codec="mpeg4")
    page, _ = open_page(browser, page_of(tmp_path, video, codec="mpeg4"))
    until(page, "marey.clock.own")
    assert "mpeg4" in page.text_content("#notice")
    only_boxes(page)
    seek(page, 4.0)
    np.testing.assert_allclose(drawn_box(page), square(4.0), atol=TOLERANCE_PX)


def test_boxes_of_long_videos_come_from_files_beside_the_page(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.show.INLINE_CHARACTERS", 0)
    page, errors = open_page(browser, page_of(tmp_path, square_video(tmp_path / "square.mp4")))
    settle(page)
    only_boxes(page)
    seek(page, 4.0)
    np.testing.assert_allclose(drawn_box(page), square(4.0), atol=TOLERANCE_PX)
    assert sorted(path.name for path in (tmp_path / "page/boxes").iterdir()) == ["0.js"]
    assert errors == []


def test_a_page_of_an_event_begins_before_it(browser: Any, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    square_lake(lake, square_video(tmp_path / "square.mp4"))
    video_id, event = find(str(lake), event_id(1, 2))
    path = write_show(gather(str(lake), video_id), tmp_path / "page", event=event)
    page, errors = open_page(browser, path)
    until(page, "marey.clock.now > 0")
    assert settle(page) == pytest.approx(3.0, abs=FRAME_S + 1e-3)
    assert page.get_attribute("#events li:nth-child(3) button", "aria-current") == "true"
    assert HEIGHT * page.evaluate("marey.data.width") == WIDTH * page.evaluate("marey.data.height")
    assert errors == []


def test_who_seeks_before_the_first_picture_is_shown_gets_there(browser: Any, shown: Path) -> None:
    """As on phones, which load nothing before they are asked: the first picture gives the origin of times."""
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.add_init_script("addEventListener('DOMContentLoaded', () => marey.clock.seek(5))")
    page.goto(shown.absolute().as_uri())
    until(page, "marey.clock.now > 0")
    assert settle(page) == pytest.approx(5.0, abs=FRAME_S + 1e-3)
    only_boxes(page)
    np.testing.assert_allclose(seen_square(page), square(5.0), atol=TOLERANCE_PX)
    np.testing.assert_allclose(drawn_box(page), square(5.0), atol=TOLERANCE_PX)
