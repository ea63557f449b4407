"""The detector's arithmetic: boxes, suppression, batches, runtimes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.boxes import Grid, Selection, iou_matrix, select, suppress, vote
from models.checkpoint import save_detector
from models.detector import Detector, DetectorConfig, cell_centres, decode_boxes
from models.encoder import LITE0_BLOCKS, Backbone, load_imagenet
from models.runtime import open_network
from tests.models.helpers import outputs_of

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


def test_boxes_of_single_cells_equal_those_of_all() -> None:
    grid = Grid.of(WIDTH, HEIGHT)
    sides = torch.randn(1, len(grid.strides), 4, 10)
    whole = decode_boxes(sides, *cell_centres(HEIGHT, WIDTH))[0].numpy()
    cells = np.array([3, 100, 125])
    np.testing.assert_allclose(grid.boxes(cells, sides[0, cells].flatten(1).numpy()), whole[cells], atol=1e-3)
    assert grid.boxes(np.zeros(0, np.int64), np.zeros((0, 40), np.float32)).shape == (0, 4)


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
    scores = np.array([[0.9, 0.0], [0.05, 0.0], [0.0, 0.6], [0.8, 0.0]], np.float32)
    steps = np.array(
        [[2, 1, 3, 4], [1, 1, 1, 1], [1, 1, 3, 4], [2, 1, 3, 4]]
    )  # of 8 px from centres 4, 12...
    sides = np.where(np.arange(10) == steps[..., None], 0, -50).reshape(4, 40).astype(np.float32)
    looks = 3 * np.eye(4, dtype=np.float32)
    found = select(scores, sides, looks, Grid.of(WIDTH, HEIGHT), Selection(0.1, 0.5, 5))
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.6])
    assert found.classes.tolist() == [0, 0, 1]
    assert found.boxes.tolist() == [[0, 0, 28, 36], [12, 0, 52, 36], [12, 0, 44, 36]]
    assert found.appearance.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert select(scores, sides, looks, Grid.of(WIDTH, HEIGHT), Selection(0.95, 0.5, 5)).boxes.shape == (0, 4)


def test_boxes_that_overlap_much_vote_by_their_scores() -> None:
    boxes = np.array([[0, 0, 20, 20], [2, 0, 22, 20], [0, 0, 20, 20], [12, 0, 32, 20]], np.float32)
    scores, classes = np.array([0.6, 0.3, 0.3, 0.3], np.float32), np.array([0, 0, 1, 0])
    voted = vote(boxes, scores, classes, np.array([0, 2, 3]))
    wanted = [[2 / 3, 0, 20 + 2 / 3, 20], [0, 0, 20, 20], [12, 0, 32, 20]]
    np.testing.assert_allclose(voted, wanted, atol=1e-5)
    assert vote(boxes, scores, classes, np.zeros(0, np.int64)).shape == (0, 4)


def test_a_frame_gives_the_same_numbers_in_any_company(weights: Path, pictures: np.ndarray) -> None:
    network = open_network(
        weights, width=WIDTH, height=HEIGHT, batch=4, runtime="torch", device="cpu", threads=1
    )
    together = outputs_of(network.run, pictures[:4])
    for number in range(4):
        alone = outputs_of(network.run, pictures[number : number + 1])
        for whole, part in zip(together, alone, strict=True):
            np.testing.assert_array_equal(whole[number], part[0])


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_agrees_with_torch(weights: Path, pictures: np.ndarray) -> None:
    size = {"width": WIDTH, "height": HEIGHT, "batch": 2, "device": "cpu", "threads": 1}
    ours = outputs_of(open_network(weights, runtime="torch", **size).run, pictures[:2])  # type: ignore[arg-type]
    theirs = outputs_of(open_network(weights, runtime="openvino", **size).run, pictures[:2])  # type: ignore[arg-type]
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(ours.sides, theirs.sides, atol=1e-3)
    np.testing.assert_allclose(ours.appearance, theirs.appearance, atol=1e-3)
    np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=1e-3)


def test_vectors_have_unit_length(weights: Path, pictures: np.ndarray) -> None:
    network = open_network(weights, width=WIDTH, height=HEIGHT, batch=2, runtime="torch", device="cpu")
    out = outputs_of(network.run, pictures[:2])
    for found, _ in network.detect(pictures[:2], Selection(0.001, 0.5, 20)):
        assert len(found.scores) == 20
        np.testing.assert_allclose(np.linalg.norm(found.appearance, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(out.embedding, axis=-1), 1, atol=1e-5)


def test_the_backbone_has_the_published_size() -> None:
    # EfficientNet-Lite0 has 4,652,008 parameters, of which its head convolution, that one's norm and the
    # classifier make 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000.
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(p.numel() for p in Backbone(LITE0_BLOCKS).parameters()) == 4_652_008 - head
    assert Backbone(LITE0_BLOCKS).channels == (40, 112, 320)
    assert Backbone().channels == (40, 112, 192)


def test_a_shorter_backbone_takes_the_published_weights_of_its_blocks() -> None:
    whole, short = Backbone(LITE0_BLOCKS).state_dict(), Backbone()
    load_imagenet(short, whole)
    assert len(whole) > len(short.state_dict())
    assert all(torch.equal(value, whole[name]) for name, value in short.state_dict().items())


def test_others_do_not_change_how_many_threads_compute(weights: Path, pictures: np.ndarray) -> None:
    """The number is the process's, and last digits depend on it."""
    size = {"width": WIDTH, "height": HEIGHT, "batch": 5}
    network = open_network(weights, runtime="torch", device="cpu", threads=1, **size)  # type: ignore[arg-type]
    before = outputs_of(network.run, pictures)
    torch.set_num_threads(2)
    for found, expected in zip(outputs_of(network.run, pictures), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert torch.get_num_threads() == 1


def test_weights_of_another_network_are_refused() -> None:
    backbone = Backbone()
    with pytest.raises(ValueError, match="tensors"):
        load_imagenet(backbone, {"a": torch.zeros(3)})
    wrong = {k: torch.zeros_like(v) for k, v in Backbone(LITE0_BLOCKS).state_dict().items()}
    first = next(iter(wrong))
    wrong[first] = torch.zeros(1)
    with pytest.raises(ValueError, match="shape"):
        load_imagenet(backbone, wrong)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"classes": ()}, "at least one class"),
        ({"input_width": 100}, "100x288: not multiples of 32"),
        ({"input_height": 100}, "512x100: not multiples of 32"),
        ({"towers": (1, 2)}, "one depth for each"),
    ],
)
def test_configs_that_cannot_be_built_are_refused(values: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        DetectorConfig(**values)  # type: ignore[arg-type]
