"""Detectors that somebody brings: what they say arrives as boxes of our classes, or is refused."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.brought import LAYOUTS, Spec, brought_digest, open_brought, read_spec
from models.files import CheckpointError
from pipeline.analyze import analyze, reinterpret, run
from pipeline.analyze.perception import decode_job
from pipeline.analyze.tools import Tools
from pipeline.config import PerceiveConfig, load
from pipeline.errors import ModelError
from pipeline.event_data import perceived_by
from pipeline.lake.query import query
from pipeline.media import DecodeJob, Fault
from pipeline.perceive import Perceiver
from tests.helpers import ROOT, shared_path
from tests.media.make import write_video

needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")),
    reason="onnx and onnxruntime are not installed",
)
TEXT = 'layout = "boxes_scores_labels"\ninput = [64, 32]\n[classes]\nperson = [0]\ncycle = [1, 3]\n'


def spec(**more: object) -> Spec:
    values = {"layout": "yolox", "input": (32, 32), "classes": {"person": (0,), "cycle": (1, 3)}, **more}
    return Spec(**values)  # type: ignore[arg-type]


def write_constant(
    folder: Path,
    text: str = TEXT,
    scores: tuple[float, float, float] = (0.9, 0.8, 0.3),
    shape: tuple[int, ...] = (1, 3),
) -> Path:
    """An ONNX file that finds the same three boxes in every picture; `shape` is that of scores and labels."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    boxes = np.array([[[4, 4, 20, 28], [30, 8, 60, 30], [5, 4, 20, 28]]], np.float32)
    outputs = {
        "boxes": boxes,
        "scores": np.array(scores, np.float32).reshape(shape),
        "labels": np.array([0, 3, 0]).reshape(shape),
    }
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))
        for name, value in outputs.items()
    ]
    nodes.append(helper.make_node("ReduceMax", ["image"], ["top"], keepdims=0))
    kinds = {"boxes": TensorProto.FLOAT, "scores": TensorProto.FLOAT, "labels": TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 64])],
        [helper.make_tensor_value_info(name, kinds[name], value.shape) for name, value in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    path = folder / "three.onnx"
    save(model, path)
    path.with_suffix(".toml").write_text(text)
    return path


def write_choosy(folder: Path, batched: bool, batch: int | str = 1) -> Path:
    """An ONNX file that finds a box in white pictures and none in black ones."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    lead, axis = ((1,), 1) if batched else ((), 0)
    known = {
        "one": np.array([1]),
        "grey": np.array([100], np.float32),
        "all boxes": np.array([4, 4, 20, 28], np.float32).reshape(*lead, 1, 4),
        "all scores": np.full((*lead, 1), 0.9, np.float32),
        "all labels": np.zeros((*lead, 1), np.int64),
    }
    kinds = {"boxes": TensorProto.FLOAT, "scores": TensorProto.FLOAT, "labels": TensorProto.INT64}
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["top"], keepdims=0),
        helper.make_node("Reshape", ["top", "one"], ["top of all"]),
        helper.make_node("Greater", ["top of all", "grey"], ["white"]),
        *(helper.make_node("Compress", [f"all {name}", "white"], [name], axis=axis) for name in kinds),
    ]
    graph = helper.make_graph(
        nodes,
        "choosy",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 32, 64])],
        [
            helper.make_tensor_value_info(name, kind, [*lead, "n", *([4] if name == "boxes" else [])])
            for name, kind in kinds.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in known.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    path = folder / "choosy.onnx"
    save(model, path)
    path.with_suffix(".toml").write_text(TEXT)
    return path


def write_averages(folder: Path, half: bool = False) -> Path:
    """An ONNX file that finds three boxes; the score of each is what it sees of a colour, averaged.

    One of `half` precision takes its pictures in float16, too.
    """
    from onnx import TensorProto, checker, helper, numpy_helper, save

    known = {
        "boxes": np.tile(np.array([4, 4, 20, 28], np.float32), (1, 3, 1)),
        "labels": np.array([[0, 1, 2]]),
        "flat": np.array([1, 3]),
        "same": np.eye(3, dtype=np.float16 if half else np.float32).reshape(3, 3, 1, 1),
    }
    nodes = [
        helper.make_node("Conv", ["image", "same"], ["seen"]),
        helper.make_node("GlobalAveragePool", ["seen"], ["colours"]),
        helper.make_node("Reshape", ["colours", "flat"], ["flat scores"]),
        helper.make_node("Cast", ["flat scores"], ["scores"], to=TensorProto.FLOAT),
    ]
    outputs = {"boxes": (TensorProto.FLOAT, [1, 3, 4]), "scores": (TensorProto.FLOAT, [1, 3])}
    outputs["labels"] = (TensorProto.INT64, [1, 3])
    given = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "averages",
        [helper.make_tensor_value_info("image", given, [1, 3, 32, 64])],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in known.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    path = folder / "averages.onnx"
    save(model, path)
    return path


def test_yolox_cells_become_boxes_of_our_classes() -> None:
    out = np.zeros((1, 21, 5 + 4), np.float32)  # 16 + 4 + 1 cells
    out[0, 6] = [0.5, 0.25, np.log(2), np.log(1), 0.8, 0.1, 0.3, 0.9, 0.5]  # column 2, row 1 of stride 8
    boxes, scores = LAYOUTS["yolox"]([out], spec())
    assert boxes[0, 6].tolist() == pytest.approx([12, 6, 28, 14])
    assert scores[0, 6].tolist() == pytest.approx([0.08, 0.4])  # the best of bicycle and motorcycle
    assert scores.shape == (1, 21, 2)


def test_picodet_distances_become_boxes() -> None:
    scores = [np.zeros((1, n, 4), np.float32) for n in (16, 4, 1)]
    sides = [np.zeros((1, n, 32), np.float32) for n in (16, 4, 1)]
    scores[1][0, 3, 1] = 0.7
    sides[1][0, 3] = np.where(np.arange(8) == np.array([1, 0, 0, 2])[:, None], 40, 0).reshape(32)
    boxes, found = LAYOUTS["picodet"]([*scores, *sides], spec())
    assert boxes[0, 19].tolist() == pytest.approx([8, 24, 24, 56], abs=1e-3)
    assert found[0, 19].tolist() == pytest.approx([0, 0.7])


def test_fastestdet_cells_become_boxes() -> None:
    out = np.zeros((1, 5 + 4, 2, 2), np.float32)
    out[0, :, 1, 0] = [0.5, np.arctanh(0.25), np.arctanh(-0.5), 0, np.log(1 / 3), 0.1, 0.2, 0.9, 0.4]
    boxes, scores = LAYOUTS["fastestdet"]([out], spec(strides=(16,)))
    assert boxes.shape == (1, 4, 4)
    assert boxes[0, 2].tolist() == pytest.approx([4 - 8, 8 - 4, 4 + 8, 8 + 4])  # half and a quarter of 32 px
    assert scores[0, 2].tolist() == pytest.approx([0.5**0.6 * 0.1**0.4, 0.5**0.6 * 0.4**0.4])


@needs_onnx
@pytest.mark.parametrize("embeddings", [True, False])
def test_a_brought_detector_takes_the_place_of_ours(tmp_path: Path, embeddings: bool) -> None:
    path = write_constant(tmp_path)
    settings = PerceiveConfig(detector=str(path), embeddings=embeddings, batch_size=4)
    perceiver = Perceiver(settings, threads=1)
    assert (perceiver.settings.input_width, perceiver.settings.input_height) == (64, 32)
    pictures = np.random.default_rng(0).integers(0, 255, (3, 32, 64, 3), dtype=np.uint8)
    found = perceiver(pictures)
    assert len(found) == 3
    for one in found:
        assert one.classes == ("person", "cycle")
        assert one.boxes.tolist() == [[4, 4, 20, 28], [30, 8, 60, 30]]
        assert one.scores.tolist() == pytest.approx([0.9, 0.8])
        assert one.appearance.shape == (2, 32 if embeddings else 0)
        assert len(one.embedding) == (64 if embeddings else 0)
        if embeddings:
            np.testing.assert_allclose(np.linalg.norm(one.appearance, axis=1), 1, atol=1e-5)


@needs_onnx
@pytest.mark.parametrize("runtime", ["openvino", "torch"])
@pytest.mark.parametrize(("colour", "seen"), [("rgb", [0.3, 0.325, 0.34]), ("bgr", [190 / 300, 0.325, 0.14])])
def test_networks_see_colours_in_their_order_and_scale(
    tmp_path: Path, runtime: str, colour: str, seen: list[float]
) -> None:
    path = write_averages(tmp_path)
    colours = f'colour = "{colour}"\nmean = [10, 20, 30]\nscale = [300, 400, 500]\n'
    path.with_suffix(".toml").write_text(colours + TEXT.replace("[1, 3]", "[1]") + "car = [2]\n")
    picture = np.full((1, 32, 64, 3), [100, 150, 200], np.uint8)
    [(_, scores)] = open_brought(path, runtime, threads=1).find(picture)
    assert scores.max(axis=0) == pytest.approx(seen, abs=1e-5)


@needs_onnx
def test_networks_of_half_precision_are_read(tmp_path: Path) -> None:
    path = write_averages(tmp_path, half=True)
    path.with_suffix(".toml").write_text(
        "scale = [255, 255, 255]\n" + TEXT.replace("[1, 3]", "[1]") + "car = [2]\n"
    )
    [(_, scores)] = open_brought(path, "openvino", threads=1).find(np.full((1, 32, 64, 3), 51, np.uint8))
    assert scores.max(axis=0) == pytest.approx([0.2, 0.2, 0.2], abs=1e-3)


@needs_onnx
@pytest.mark.parametrize(
    ("runtime", "runs"), [("auto", "openvino"), ("openvino", "openvino"), ("torch", "onnxruntime")]
)
def test_yolox_nano_finds_nothing_in_grey(tmp_path: Path, runtime: str, runs: str) -> None:
    model = shared_path("peers", "yolox-nano-416-coco.onnx")
    shutil.copy(model, tmp_path)
    shutil.copy(ROOT / "docs" / "recipes" / f"{model.stem}.toml", tmp_path)
    brought = open_brought(tmp_path / model.name, runtime, threads=1)
    assert brought.runtime.startswith(runs)
    found = brought.find(np.full((2, 416, 416, 3), 114, np.uint8))
    assert [boxes.shape for boxes, _ in found] == [(3549, 4)] * 2
    assert max(scores.max() for _, scores in found) < 0.1  # there is nothing in grey


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layout = ", "toml"),
        ('layout = "ssd"\ninput = [8, 8]\n[classes]\na = [0]', "layout 'ssd': one of"),
        ('layout = "yolox"\ninput = [8]\n[classes]\na = [0]', "width and height"),
        ('layout = "yolox"\ninput = [8, 8]\n[classes]\na = []', "numbers of each"),
        ('layout = "yolox"\ninput = [8, 8]', "classes"),
        ('layout = "yolox"\ninput = [8, 8]\nsize = 3\n[classes]\na = [0]', "unknown: size"),
        ('layout = "yolox"\ninput = [8, 8]\nscale = [0, 1, 1]\n[classes]\na = [0]', "other than 0"),
        ('layout = "yolox"\ninput = [8, 8]\nfit = "crop"\n[classes]\na = [0]', "letterbox or stretch"),
        ('layout = "yolox"\ninput = [8.0, 8.0]\n[classes]\na = [0]', "width and height"),
        ('layout = "yolox"\ninput = [8, 8]\nstrides = [0]\n[classes]\na = [0]', "from cell to cell"),
        ('layout = "yolox"\ninput = [8, 8]\n[classes]\na = [-1]', "begin at 0"),
    ],
)
def test_descriptions_that_say_nothing_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.toml").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_spec(tmp_path / "d.onnx")


@needs_onnx
@pytest.mark.parametrize("runtime", ["auto", "torch"])
def test_what_is_no_detector_is_refused_by_name(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "d.onnx"
    with pytest.raises(ModelError, match=r"d\.toml, which says how to read d\.onnx, is not there"):
        Perceiver(PerceiveConfig(detector=str(path)))
    path.with_suffix(".toml").write_text(TEXT)
    with pytest.raises(ModelError, match="is not there"):
        Perceiver(PerceiveConfig(detector=str(path), embeddings=False, runtime=runtime))
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"not a model that (ONNX Runtime|OpenVINO) reads"):
        Perceiver(PerceiveConfig(detector=str(path), embeddings=False, runtime=runtime))
    other = write_constant(tmp_path, TEXT.replace("boxes_scores_labels", "yolox"))
    perceiver = Perceiver(PerceiveConfig(detector=str(other), embeddings=False, runtime=runtime))
    with pytest.raises(ModelError, match="not of layout yolox"):
        perceiver(np.zeros((8, 32, 64, 3), np.uint8))  # each of which says so


@needs_onnx
def test_a_picture_of_another_size_than_the_network_takes_is_refused(tmp_path: Path) -> None:
    path = write_constant(tmp_path, TEXT.replace("[64, 32]", "[32, 32]"))
    perceiver = Perceiver(PerceiveConfig(detector=str(path), embeddings=False, runtime="torch"))
    with pytest.raises(ModelError, match=r"^\S+three.onnx does not run on pictures of \(32, 32\)"):
        perceiver(np.zeros((1, 32, 32, 3), np.uint8))


@needs_onnx
@pytest.mark.parametrize("runtime", ["auto", "torch"])
@pytest.mark.parametrize("batched", [True, False])
def test_networks_that_give_only_what_they_found_may_find_nothing(
    tmp_path: Path, runtime: str, batched: bool
) -> None:
    perceiver = Perceiver(
        PerceiveConfig(detector=str(write_choosy(tmp_path, batched)), embeddings=False, runtime=runtime)
    )
    pictures = np.zeros((3, 32, 64, 3), np.uint8)
    pictures[1] = 255
    assert [one.boxes.tolist() for one in perceiver(pictures)] == [[], [[4, 4, 20, 28]], []]


@needs_onnx
def test_boxes_of_fewer_pictures_than_were_given_are_refused(tmp_path: Path) -> None:
    path = write_choosy(tmp_path, batched=False, batch="N")
    perceiver = Perceiver(PerceiveConfig(detector=str(path), embeddings=False, runtime="torch"))
    with pytest.raises(ModelError, match="3 pictures gave boxes of 1"):
        perceiver(np.zeros((3, 32, 64, 3), np.uint8))


@needs_onnx
def test_outputs_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = write_constant(tmp_path, shape=(1, 3, 1))
    perceiver = Perceiver(PerceiveConfig(detector=str(path), embeddings=False, runtime="torch"))
    with pytest.raises(ModelError, match=r"boxes of shape \(3, 1, 4\) and scores of shape \(3, 1, 2\)"):
        perceiver(np.zeros((1, 32, 64, 3), np.uint8))


@needs_onnx
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_scores_that_are_no_probabilities_are_refused(tmp_path: Path, runtime: str) -> None:
    """Logits went into the tracker, which ended the run as a bug after the whole video was perceived."""
    path = write_constant(tmp_path, scores=(3.25, 2.5, -1.0))
    perceiver = Perceiver(PerceiveConfig(detector=str(path), embeddings=False, runtime=runtime))
    with pytest.raises(
        ModelError, match=r"a score of 3\.25, where 0 to 1 is expected: do they lack a sigmoid"
    ):
        perceiver(np.zeros((1, 32, 64, 3), np.uint8))


@needs_onnx
def test_another_description_is_another_detector(tmp_path: Path) -> None:
    path = write_constant(tmp_path)
    first = brought_digest(path)
    assert brought_digest(path) == first
    path.with_suffix(".toml").write_text(TEXT + "car = [2]\n")
    assert brought_digest(path) != first


@needs_onnx
def test_what_is_perceived_depends_on_file_description_and_encoder(tmp_path: Path) -> None:
    path = write_constant(tmp_path)
    changes: list[dict[str, object]] = [{}, {"perceive.embeddings": False}]
    tools = [Tools(load(None, {"perceive.detector": str(path), **more})) for more in changes]
    assert [set(t.perception_digests) for t in tools] == [{"detector", "encoder"}, {"detector"}]
    before = tools[0].ids("c" * 32, None).perception
    path.with_suffix(".toml").write_text(TEXT + "car = [2]\n")
    assert Tools(tools[0].config).ids("c" * 32, None).perception != before


@needs_onnx
def test_it_comes_from_an_address_with_its_description(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAREY_CACHE", str(tmp_path / "cache"))
    folder, address = served
    path = write_constant(folder)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"{address}/three.onnx?key=secret#sha256={digest}"
    config = load(None, {"perceive.detector": name, "perceive.embeddings": False})
    local = load(None, {"perceive.detector": str(path), "perceive.embeddings": False})
    assert Tools(config).perception_digests == Tools(local).perception_digests
    [found] = Perceiver(config.perceive, threads=1)(np.zeros((1, 32, 64, 3), np.uint8))
    assert found.classes == ("person", "cycle")
    path.with_suffix(".toml").unlink()
    with pytest.raises(ModelError, match=r"three\.toml cannot be fetched: HTTP Error 404") as refused:
        Tools(load(None, {"perceive.detector": f"{address}/./three.onnx?key=secret#sha256={digest}"}))
    assert "secret" not in str(refused.value)
    with pytest.raises(ModelError, match="need #sha256="):
        Tools(load(None, {"perceive.detector": f"{address}/three.onnx"}))


@needs_onnx
def test_a_video_is_analysed_with_it(tmp_path: Path) -> None:
    """The picture is as wide as the input and as high, so boxes are those that the network says, doubled."""
    clip = write_video(tmp_path / "a.mp4", range(0, 3000, 100), size=(128, 64))
    path = write_constant(tmp_path)
    config = load(None, {"perceive.detector": str(path), "events.models": []})
    lake = str(tmp_path / "lake")
    analyze([str(clip)], lake, config)
    rows = query(
        lake, "SELECT class, x1, y1, x2, y2, count(*) AS n FROM detections GROUP BY 1,2,3,4,5 ORDER BY 1"
    )
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        ("cycle", 60, 16, 120, 60, 30),
        ("person", 8, 8, 40, 56, 30),
    ]
    objects = query(lake, "SELECT class FROM objects ORDER BY class").to_pylist()
    assert [row["class"] for row in objects] == ["cycle", "person"]


@needs_onnx
@pytest.mark.parametrize(("known", "wanted"), [("person", 0), ("ball", 1)])
def test_an_event_model_whose_classes_it_does_not_know_is_told(
    tmp_path: Path, known: str, wanted: int
) -> None:
    path = write_constant(tmp_path, TEXT.replace("person", known))
    lines = Tools(load(None, {"perceive.detector": str(path)})).warnings(None)
    told = "event model 'fight' takes events in which a person is seen, and the detector finds none: "
    assert [line.startswith(told) for line in lines] == [True] * wanted


@needs_onnx
def test_event_models_learn_from_pictures_as_an_analysis_sees_them(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "a.mp4", range(0, 500, 100), size=(64, 64))
    path = write_constant(tmp_path, TEXT.replace("[classes]", 'fit = "stretch"\n[classes]'))
    config = load(None, {"perceive.detector": str(path), "events.models": []})
    lake = str(tmp_path / "lake")
    analyze([str(clip)], lake, config)
    stored = query(lake, "SELECT embedding FROM frames ORDER BY sample")["embedding"].to_pylist()
    _, vectors = perceived_by(config.perceive, config.video)(clip)
    np.testing.assert_array_equal(np.array(vectors, np.float32), np.array(stored, np.float32))


@needs_onnx
@pytest.mark.parametrize(
    ("sample_fps", "last_t"), [(10.0, 72.5), (0.0, 73.75)]
)  # no tick shows the last frame
def test_who_stays_in_a_slow_video_stays(tmp_path: Path, sample_fps: float, last_t: float) -> None:
    """Of a stream slower than the grid rules are told the way between its frames, not between ticks."""
    clip = write_video(tmp_path / "a.mp4", range(0, 75_000, 1250), size=(128, 64))
    path = write_constant(tmp_path)
    rules = [
        {"name": "both", "kind": "occupancy", "min_count": 2, "zone": [[0, 0], [1, 0], [1, 1], [0, 1]]},
        {"name": "crowd", "kind": "crowding", "min_count": 2, "min_duration_s": 30},
    ]
    given = {"perceive.detector": str(path), "events.models": [], "video.sample_fps": sample_fps}
    lake = str(tmp_path / "lake")
    analyze([str(clip)], lake, load(None, {**given, "rules": rules}))
    events = query(lake, "SELECT label, t_start, t_end FROM events ORDER BY label").to_pylist()
    assert [tuple(event.values()) for event in events] == [("both", 0.0, last_t), ("crowd", 0.0, last_t)]


@needs_onnx
def test_who_stands_over_a_lost_stretch_neither_goes_nor_comes(tmp_path: Path) -> None:
    """60 s of the video are missing; rules that are applied later say the same."""
    times = [*range(0, 5000, 100), *range(65_000, 70_000, 100)]
    clip = write_video(tmp_path / "a.mp4", times, size=(128, 64))
    all_over = [[0, 0], [1, 0], [1, 1], [0, 1]]
    rules = [{"name": kind, "kind": kind, "zone": all_over} for kind in ("appear", "disappear")]
    given = {"perceive.detector": str(write_constant(tmp_path)), "events.models": []}
    with_rules, without = load(None, {**given, "rules": rules}), load(None, given)
    at_once, later = str(tmp_path / "at-once"), str(tmp_path / "later")
    analyze([str(clip)], at_once, with_rules)
    analyze([str(clip)], later, without)
    reinterpret(later, with_rules)
    for lake in (at_once, later):
        assert query(lake, "SELECT count(*) AS n FROM objects")["n"].to_pylist() == [4]
        assert query(lake, "SELECT label, t_start FROM events").to_pylist() == []


@needs_onnx
def test_who_stands_behind_a_lost_beginning_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(work: Any, first: int, end: int, settings: Any) -> DecodeJob:
        made = decode_job(work, first, end, settings)
        return made if first else replace(made, fault=Fault("crash", 0, attempts=2))

    clip = write_video(tmp_path / "a.mp4", range(0, 6000, 100), size=(128, 64))
    rule = {"name": "new", "kind": "appear", "zone": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    given = {"perceive.detector": str(write_constant(tmp_path)), "events.models": [], "run.segment_s": 3}
    monkeypatch.setattr(run, "decode_job", faulty)
    [result] = analyze([str(clip)], str(tmp_path / "lake"), load(None, {**given, "rules": [rule]})).results
    assert [(gap["t_start"], gap["cause"]) for gap in result.gaps] == [(0.0, "crash")]
    found = query(str(tmp_path / "lake"), "SELECT min(t_start) AS t FROM objects")["t"].to_pylist()
    assert found == [3.0]
    assert query(str(tmp_path / "lake"), "SELECT label, t_start FROM events").to_pylist() == []


@needs_onnx
def test_onnx_runtime_reports_to_nobody(tmp_path: Path) -> None:
    """Nothing is kept to be sent, nor a name for this machine, in its home."""
    model, home = write_constant(tmp_path), tmp_path / "home"
    home.mkdir()
    program = (
        f"import models.brought, pathlib; models.brought.open_brought(pathlib.Path({str(model)!r}), 'torch')"
    )
    unwanted = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    subprocess.run([sys.executable, "-c", program], env=kept | {"HOME": str(home)}, cwd=ROOT, check=True)
    assert not list(home.iterdir())
