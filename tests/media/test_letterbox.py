from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.letterbox import GREY, Letterbox


@pytest.mark.parametrize(
    ("display", "content", "corner"),
    [
        ((1920, 1080), (512, 288), (0, 0)),
        ((640, 480), (384, 288), (64, 0)),
        ((1080, 1920), (162, 288), (175, 0)),
        ((2048, 288), (512, 72), (0, 108)),
        ((1, 1), (288, 288), (112, 0)),
        ((10_000, 1), (512, 1), (0, 143)),
    ],
)
def test_fit_keeps_the_aspect_and_the_middle(
    display: tuple[int, int], content: tuple[int, int], corner: tuple[int, int]
) -> None:
    box = Letterbox.fit(*display, 512, 288)
    assert (box.content_width, box.content_height) == content
    assert (box.left, box.top) == corner


def test_paste_is_grey_outside() -> None:
    box = Letterbox.fit(640, 480, 64, 32)
    picture = box.paste(np.full((box.content_height, box.content_width, 3), 7, np.uint8))
    inside = np.zeros((32, 64), bool)
    inside[box.top : box.top + box.content_height, box.left : box.left + box.content_width] = True
    assert (picture[inside] == 7).all()
    assert (picture[~inside] == GREY).all()


def test_paste_refuses_another_size() -> None:
    with pytest.raises(ValueError, match="content has shape"):
        Letterbox.fit(640, 480, 64, 32).paste(np.zeros((5, 5, 3), np.uint8))


sides = st.integers(1, 5000)


@given(sides, sides, st.integers(32, 640), st.integers(32, 640))
def test_the_content_is_the_whole_picture(dw: int, dh: int, w: int, h: int) -> None:
    box = Letterbox.fit(dw, dh, w, h)
    corners = np.array([box.left, box.top, box.left + box.content_width, box.top + box.content_height], float)
    np.testing.assert_allclose(box.to_display(corners), [0, 0, dw, dh], atol=1e-6 * max(dw, dh))


@given(sides, sides, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_there_and_back(dw: int, dh: int, part: list[float]) -> None:
    box = Letterbox.fit(dw, dh, 512, 288)
    boxes = (np.array([part, part]) * [dw, dh, dw, dh]).astype(np.float32)
    content = [box.content_width, box.content_height] * 2
    there = np.array(part) * content + [box.left, box.top] * 2
    back = box.to_display(np.array([there, there], np.float32))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, boxes, atol=1e-3 * max(dw, dh, 1))


def test_boxes_in_the_grey_are_cut() -> None:
    box = Letterbox.fit(480, 640, 512, 288)
    np.testing.assert_allclose(
        box.to_display(np.array([0.0, 0.0, 511.0, 287.9])), [0, 0, 480, 639.8], atol=0.1
    )
