"""The detector's arithmetic: boxes, suppression, batches, runtimes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoint import save_detector
from models.detector import (
    Detector,
    DetectorConfig,
    cell_centres,
    decode_boxes,
    iou_matrix,
    select,
    suppress,
)
from models.encoder import Backbone, load_imagenet
from models.runtime import open_network

SMALL = DetectorConfig(channels=16, appearance=8, embedding=16)
WIDTH, HEIGHT = 96, 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_detector(path, Detector(SMALL).eval())
    return path


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (5, HEIGHT, WIDTH, 3), dtype=np.uint8)


def test_cells_cover_the_input_once_per_stride() -> None:
    centres, strides = cell_centres(HEIGHT, WIDTH)
    assert [(strides == s).sum().item() for s in (8, 16, 32)] == [96, 24, 6]
    assert centres[0].tolist() == [4, 4]
    assert centres[1].tolist() == [12, 4]  # row by row
    assert centres[-1].tolist() == [80, 48]


def test_a_sharp_distribution_decodes_to_its_box() -> None:
    centres, strides = torch.tensor([[40.0, 20.0]]), torch.tensor([8.0])
    sides = torch.full((1, 1, 4, 10), -50.0)
    for side, bin_ in enumerate((1, 2, 3, 0)):
        sides[0, 0, side, bin_] = 50.0
    assert decode_boxes(sides, centres, strides)[0, 0].tolist() == pytest.approx([32, 4, 64, 20])


boxes_strategy = st.lists(
    st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2, st.integers(0, 1)), max_size=12
)


@given(boxes_strategy, st.sampled_from([0.3, 0.5, 0.7]))
def test_suppression_equals_the_plain_loop(items: list[tuple[int, ...]], limit: float) -> None:
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in items], np.float32).reshape(-1, 4)
    classes = np.array([c for *_, c in items], np.int64)
    kept: list[int] = []
    for i in range(len(boxes)):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if all(iou_matrix(boxes[[i]], boxes[[j]])[0, 0] <= limit for j in rivals):
            kept.append(i)
    assert suppress(boxes, classes, limit).tolist() == kept


def test_select_drops_low_scores_clips_and_keeps_the_best() -> None:
    scores = np.array([[0.9, 0.0], [0.05, 0.0], [0.0, 0.6]], np.float32)
    boxes = np.array([[-5, 2, 20, 30], [0, 0, 9, 9], [1, 2, 20, 30]], np.float32)
    looks = np.eye(3, 4, dtype=np.float32)
    found = select(scores, boxes, looks, min_score=0.1, nms_iou=0.5, max_detections=5, size=(WIDTH, HEIGHT))
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.classes.tolist() == [0, 1]
    assert found.boxes[0].tolist() == [0, 2, 20, 30]
    assert found.appearance[1].tolist() == looks[2].tolist()


def test_a_frame_gives_the_same_numbers_in_any_company(weights: Path, pictures: np.ndarray) -> None:
    network = open_network(
        weights, width=WIDTH, height=HEIGHT, batch=4, runtime="torch", device="cpu", threads=1
    )
    together = network.run(pictures[:4])
    for number in range(4):
        alone = network.run(pictures[number : number + 1])
        for whole, part in zip(together, alone, strict=True):
            np.testing.assert_array_equal(whole[number], part[0])


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_agrees_with_torch(weights: Path, pictures: np.ndarray) -> None:
    size = {"width": WIDTH, "height": HEIGHT, "batch": 2, "device": "cpu", "threads": 1}
    ours = open_network(weights, runtime="torch", **size).run(pictures[:2])  # type: ignore[arg-type]
    theirs = open_network(weights, runtime="openvino", **size).run(pictures[:2])  # type: ignore[arg-type]
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.02)
    np.testing.assert_allclose(ours.appearance, theirs.appearance, atol=1e-3)
    np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=1e-3)


def test_vectors_have_unit_length(weights: Path, pictures: np.ndarray) -> None:
    out = open_network(weights, width=WIDTH, height=HEIGHT, batch=2, runtime="torch", device="cpu").run(
        pictures[:2]
    )
    np.testing.assert_allclose(np.linalg.norm(out.appearance, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(out.embedding, axis=-1), 1, atol=1e-5)


def test_the_backbone_has_the_published_size() -> None:
    # EfficientNet-Lite0 has 4,652,008 parameters, of which its head convolution, that one's norm and the
    # classifier make 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000.
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(p.numel() for p in Backbone().parameters()) == 4_652_008 - head


def test_weights_of_another_network_are_refused() -> None:
    backbone = Backbone()
    with pytest.raises(ValueError, match="tensors"):
        load_imagenet(backbone, {"a": torch.zeros(3)})
    wrong = {k: torch.zeros_like(v) for k, v in backbone.state_dict().items()}
    first = next(iter(wrong))
    wrong[first] = torch.zeros(1)
    with pytest.raises(ValueError, match="shape"):
        load_imagenet(backbone, wrong)


@pytest.mark.parametrize("values", [{"classes": ()}, {"input_width": 100}])
def test_configs_that_cannot_be_built_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        DetectorConfig(**values)  # type: ignore[arg-type]
