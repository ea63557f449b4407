"""Classes of a user's own, from data to figures: train from the shipped weights, go on, measure, run."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.checkpoint import load_detector
from models.detector import DetectorConfig
from pipeline.cli import run
from pipeline.config import PerceiveConfig, load
from pipeline.errors import UsageError
from pipeline.evaluate.appearance import retrieval
from pipeline.evaluate.detector import detect_images, read_truth, score, settings_for
from pipeline.perceive import Perceiver
from pipeline.training_detector import DetectorJob, train
from tests.models.test_detector_training import CLASSES, write_shapes


def test_own_classes_are_trained_resumed_and_measured(tmp_path: Path) -> None:
    data, out, said = write_shapes(tmp_path, 8), tmp_path / "out", list[str]()
    settings = {"data": ((data, tmp_path),), "out": out, "batch": 4, "size": 64, "threads": 1}
    weights = train(DetectorJob(**settings, steps=12), said.append)  # type: ignore[arg-type]
    assert "classes disc, square, from default" in said[0]
    with (out / "losses.csv").open(newline="") as handle:
        assert [row["step"] for row in csv.DictReader(handle)] == ["10"]
    assert cv2.imread(str(out / "losses.png")) is not None
    before = weights.read_bytes()
    train(DetectorJob(**settings, steps=12), said.append)  # type: ignore[arg-type]
    assert weights.read_bytes() == before  # nothing was left to do
    with pytest.raises(UsageError, match=r"other settings \(steps"):
        train(DetectorJob(**settings, steps=13), said.append)  # type: ignore[arg-type]

    truth = read_truth(data)
    perceiver = Perceiver(load(None, settings_for(str(weights), 64, 64)).perceive, threads=1)
    figures = score(truth, detect_images(perceiver, truth, tmp_path))
    assert set(figures["classes"]) == set(CLASSES)
    told = retrieval(str(weights), data, tmp_path)
    assert told["frames"] == 8
    assert 0 <= told["frames_right"] <= 1


def test_the_same_training_on_changed_data_is_refused(tmp_path: Path) -> None:
    data, said = write_shapes(tmp_path, 4), list[str]()
    job = DetectorJob(((data, tmp_path),), tmp_path / "out", steps=1, batch=2, size=64, threads=1)
    weights = train(job, said.append).read_bytes()
    whole = json.loads(data.read_text())
    moved = [{**a, "bbox": [a["bbox"][0] + 5, *a["bbox"][1:]]} for a in whole["annotations"]]
    third = {**whole, "categories": [*whole["categories"], {"id": 9, "name": "ring"}]}
    others = {"images or boxes": ({**whole, "annotations": moved}, job), "classes": (third, job)}
    others["starting weights"] = (whole, replace(job, start="imagenet"))
    for name, (changed, other) in others.items():
        data.write_text(json.dumps(changed))
        with pytest.raises(UsageError, match=f"was made with other {name}: choose another --out"):
            train(other, said.append)
    with pytest.raises(UsageError, match="other images or boxes"):
        train(replace(job, repeat_classes=(("disc", 2),)), said.append)
    data.write_text(json.dumps(whole))
    assert train(job, said.append).read_bytes() == weights


def test_a_device_without_memory_is_told_with_the_remedy_and_checkpoints_stay(tmp_path: Path) -> None:
    """A CPU never says so: here the error comes from the caller's own function."""
    data, out = write_shapes(tmp_path, 4), tmp_path / "out"
    job = DetectorJob(((data, tmp_path),), out, steps=1, batch=2, size=64, threads=1)
    train(job, list[str]().append)
    kept = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(line: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    said = r"^cpu has too little memory for this training; checkpoints in .*out stay: .* a smaller --batch "
    with pytest.raises(UsageError, match=said):
        train(job, full)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept
    train(job, list[str]().append)


def test_new_names_beside_known_ones_are_learned_too(tmp_path: Path) -> None:
    data, said = write_shapes(tmp_path, 4), list[str]()
    whole = json.loads(data.read_text())
    for category, name in zip(whole["categories"], ("person", "forklift"), strict=True):
        category["name"] = name
    data.write_text(json.dumps(whole))
    job = DetectorJob(((data, tmp_path),), tmp_path / "out", steps=1, batch=2, size=64, threads=1)
    known, all_of_them = DetectorConfig().classes, "person, cycle, car, bus, truck, forklift"
    assert load_detector(train(job, said.append)).config.classes == (*known, "forklift")
    assert f"classes {all_of_them}, from default; the data says nothing of cycle, car, bus, truck" in said[0]
    job = replace(job, out=tmp_path / "anew", start="imagenet")
    train(job, said.append)
    assert "4 images, classes person, forklift, from imagenet" in said


def test_without_matplotlib_a_training_says_so_and_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    data, out = write_shapes(tmp_path, 2), tmp_path / "out"
    command = ["train", "detector", "--data", str(data), "--images", str(tmp_path), "--out", str(out)]
    assert run([*command, "--steps", "1", "--batch", "2", "--size", "64", "--threads", "1"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == [
        "picture of the losses: none, pip install 'marey[train]'",
        f"weights: {out / 'detector.safetensors'}",
    ]
    assert not (out / "losses.png").exists()


@pytest.fixture(scope="module")
def shipped() -> Perceiver:
    return Perceiver(PerceiveConfig(batch_size=1, min_score=0.3), threads=1)


def test_data_with_nothing_of_the_classes_is_refused(shipped: Perceiver, tmp_path: Path) -> None:
    truth = read_truth(write_shapes(tmp_path, 1))
    with pytest.raises(UsageError, match="no category of the data is a class of the detector"):
        detect_images(shipped, truth, tmp_path)


def test_pictures_of_another_size_than_their_boxes_are_refused(shipped: Perceiver, tmp_path: Path) -> None:
    truth = read_truth(write_shapes(tmp_path, 1))
    truth["categories"][0]["name"] = "person"
    [entry] = truth["images"]
    said = (
        r"picture .*images/1\.png is 64x64, its COCO file says 64x128: give the pictures that were annotated"
    )
    with pytest.raises(UsageError, match=said):
        detect_images(shipped, {**truth, "images": [{**entry, "height": 128}]}, tmp_path)
    del entry["width"], entry["height"]  # COCO that says nothing of them can be measured with
    detect_images(shipped, truth, tmp_path)


def test_a_picture_that_is_cut_short_is_named(tmp_path: Path) -> None:
    """Its header is whole, so it is met when it is drawn."""
    data = write_shapes(tmp_path, 1)
    truth = json.loads(data.read_text())
    truth["categories"][0]["name"] = "person"
    data.write_text(json.dumps(truth))
    picture = tmp_path / truth["images"][0]["file_name"]
    encoded = cv2.imencode(".jpg", cv2.imread(str(picture)))[1].tobytes()
    picture.write_bytes(encoded[: encoded.index(b"\xff\xda")])
    with pytest.raises(UsageError, match=r"the data cannot be read .*1\.png cannot be decoded"):
        retrieval("default", data, tmp_path)


@pytest.mark.parametrize("what", ["black", "white", "noise", "enlarged 16x16"])
def test_there_is_nothing_where_nothing_is(shipped: Perceiver, what: str) -> None:
    rng = np.random.default_rng(0)
    pictures = {
        "black": np.zeros((320, 544, 3), np.uint8),
        "white": np.full((320, 544, 3), 255, np.uint8),
        "noise": rng.integers(0, 256, (320, 544, 3), dtype=np.uint8),
        "enlarged 16x16": cv2.resize(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), (544, 320)),
    }
    [found] = shipped(pictures[what][None])
    assert len(found.scores) <= 2
