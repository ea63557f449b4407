"""The rules of a config over pictures of the cameras."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.config import Config, Rule
from pipeline.report.palette import RULE_COLOUR, text_size
from pipeline.report.trial import counted, draw_rules, rules_picture
from tests.report.scenes import HEIGHT, HOSTILE, WIDTH, square_lake

LINE = Rule(name="gate", kind="line_crossing", line=((0.5, 0.2), (0.5, 0.9)))
ZONE = Rule(
    name="yard",
    kind="occupancy",
    zone=((64, 36), (320, 36), (320, 180), (64, 180)),
    units="pixels",
    min_count=2,
)
CROWD = Rule(name="crowd", kind="crowding", min_count=5)


def test_numbers_are_told_by_direction() -> None:
    counts = {"gate": {"left_to_right": 7, "right_to_left": 5}, "yard": {"": 3}}
    assert counted("gate", counts) == "gate: 12 (left to right 7, right to left 5)"
    assert counted("yard", counts) == "yard: 3"
    assert counted("other", counts) == "other: 0"


def test_places_are_drawn_where_the_rules_have_them() -> None:
    white = np.full((90, 160, 3), 255, np.uint8)
    picture = rules_picture(white, (LINE, ZONE, CROWD), {}, (WIDTH, HEIGHT))
    assert picture.shape == (540, 960, 3)

    def is_rule(x: float, y: float) -> bool:
        return bool(np.abs(picture[round(y * 540), round(x * 960)].astype(int) - RULE_COLOUR).max() < 30)

    assert is_rule(0.5, 0.8)
    assert is_rule(0.3, 0.1)  # the upper side of the zone
    assert is_rule(0.1, 0.4)
    assert not is_rule(0.8, 0.8)
    inside = picture[round(0.3 * 540), round(0.3 * 960)]
    assert inside[0] < 250  # tinted
    assert (rules_picture(None, (), {}, (WIDTH, HEIGHT)) == 24).all()


def test_a_strip_has_a_picture_of_bounded_height() -> None:
    scene = np.full((4000, 17, 3), 255, np.uint8)
    assert rules_picture(scene, (LINE,), {}, (17, 4000)).shape == (1920, 8, 3)


def test_tags_of_one_place_do_not_hide_each_other() -> None:
    rules = tuple(LINE.model_copy(update={"name": f"line {n}"}) for n in range(4))
    picture = rules_picture(None, rules, {}, (WIDTH, HEIGHT))
    width, height = text_size("line 0: 0", 0.5)
    right = 480 + width + max(2, height // 3) + 1  # within the plates, behind the letters
    plate = (picture[:, right] == RULE_COLOUR).all(axis=1)
    assert int((np.diff(plate.astype(int)) == 1).sum()) == 4


def test_each_camera_has_a_picture(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    cameras = ("a b", "a_b", HOSTILE[0], None)
    for number, camera in enumerate(cameras, 1):
        square_lake(lake, f"/gone/{number}.mp4", number=number, camera=camera)
    counts = {f"{number:032x}": {"gate": {"left_to_right": 5}} for number in range(1, 5)}
    paths = draw_rules(str(lake), Config(rules=(LINE,)), counts, tmp_path / "out")
    assert len(set(paths)) == 4
    assert {path.parent for path in paths} == {tmp_path / "out"}
    assert all(cv2.imread(str(path)).shape == (540, 960, 3) for path in paths)
