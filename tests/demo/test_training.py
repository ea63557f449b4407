"""Rendered training pictures: files, description, determinism, boxes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.demo import render_training_images
from pipeline.demo.training import training_scene


def test_description_matches_the_files(tmp_path: Path) -> None:
    coco = render_training_images(tmp_path, 4, seed=3)
    assert [c["name"] for c in coco["categories"]] == ["person", "cycle", "car", "bus", "truck"]
    sizes = {}
    for image in coco["images"]:
        picture = cv2.imread(str(tmp_path / image["file_name"]))
        assert picture.shape[:2] == (image["height"], image["width"])
        assert max(picture.shape[:2]) == 384
        assert image["complete_for"] == [1, 2, 3, 4, 5]
        assert (image["kind"], image["license"]) == ("rendered", "Apache-2.0 (rendered by marey)")
        sizes[image["id"]] = (image["width"], image["height"])
    assert len(sizes) == 4 and coco["annotations"]
    for box in coco["annotations"]:
        x, y, w, h = box["bbox"]
        width, height = sizes[box["image_id"]]
        assert w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= width and y + h <= height
        assert box["ignore"] or min(w, h) >= 7


def test_a_picture_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    few, more = render_training_images(tmp_path / "a", 1, 9), render_training_images(tmp_path / "b", 2, 9)
    first = [(tmp_path / name / "images/00000.webp").read_bytes() for name in "ab"]
    assert first[0] == first[1]
    assert few["annotations"] == [a for a in more["annotations"] if a["image_id"] == 1]


def test_scenes_show_every_class_and_every_light() -> None:
    scenes = [training_scene(np.random.default_rng([1, k])) for k in range(8)]
    labels = {item.label for _, found in scenes for item in found}
    assert {"person", "car"} <= labels
    levels = [float(picture.mean()) for picture, _ in scenes]
    assert max(levels) > min(levels) + 40
