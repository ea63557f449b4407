"""What the CNN says, as rows: boxes in displayed pixels, vectors as stored, nothing in the grey bars."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoint import save_detector
from models.detector import Detector, DetectorConfig
from pipeline.config import PerceiveConfig
from pipeline.errors import ModelError
from pipeline.lake.schema import STAGED
from pipeline.lake.staging import unstage
from pipeline.media import Letterbox
from pipeline.perceive import Perceived, Perceiver, displayed, half, to_rows


@dataclass(frozen=True)
class Frame:
    sample: int = 3
    pts: int | None = 300
    t: float = 0.3
    motion_grid: np.ndarray = field(default_factory=lambda: np.full(96, 0.25, np.float32))
    camera_motion: tuple[float, float, float, float] | None = None
    still: bool = False


def seen(boxes: list[list[float]]) -> Perceived:
    count = len(boxes)
    return Perceived(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        ("car",) * count,
        np.full((count, 4), 0.1, np.float32),
        np.full(8, 1 / 3, np.float32),
    )


# 320x160 in 64x64: content 64x32 with 16 rows of grey above and below, a fifth of the size.
BOX = Letterbox.fit(320, 160, 64, 64)


def test_boxes_in_displayed_pixels() -> None:
    rows = to_rows([Frame()], [seen([[0, 16, 64, 48], [10, 20, 20, 30]])], BOX, embeddings=True)
    frames, detections = unstage(rows)
    assert rows.schema == STAGED
    assert frames.to_pylist()[0] | {"embedding": None} == {
        "sample": 3, "pts": 300, "t": 0.3, "embedding": None, "camera_motion": None, "reused": False,
    }  # fmt: skip
    found = detections.to_pylist()
    assert [[row[k] for k in ("x1", "y1", "x2", "y2")] for row in found] == [
        [0, 0, 320, 160],
        [50, 20, 100, 70],
    ]
    assert [(row["sample"], row["t"], row["class"]) for row in found] == [(3, 0.3, "car")] * 2
    assert [row["score"] for row in found] == pytest.approx([0.9, 0.5])


def test_what_lies_in_the_grey_bars_is_gone() -> None:
    rows = to_rows(
        [Frame()], [seen([[10, 0, 20, 15], [10, 0, 20, 20], [5, 50, 9, 60]])], BOX, embeddings=True
    )
    [row] = unstage(rows)[1].to_pylist()
    assert [row[k] for k in ("x1", "y1", "x2", "y2")] == [50, 0, 100, 20]
    assert row["score"] == pytest.approx(0.7)


def test_vectors_are_rounded_to_half_precision_and_may_be_left_out() -> None:
    frame = Frame(camera_motion=(1.0, 2.0, 1.5, 0.25), pts=None)
    for embeddings in (True, False):
        rows = to_rows([frame], [seen([[10, 20, 20, 30]])], BOX, embeddings=embeddings)
        [row], [detection] = (table.to_pylist() for table in unstage(rows))
        assert row["camera_motion"] == {"dx": 1.0, "dy": 2.0, "scale": 1.5, "rotation": 0.25}
        if embeddings:
            assert row["embedding"] == [float(np.float16(1 / 3))] * 8 + [0.25] * 96
            assert detection["appearance"] == [float(np.float16(0.1))] * 4
        else:
            assert (row["embedding"], detection["appearance"]) == (None, None)


def test_a_frame_without_objects() -> None:
    rows = to_rows([Frame(1), Frame(2)], [seen([]), seen([])], BOX, embeddings=True)
    frames, detections = unstage(rows)
    assert (frames.num_rows, detections.num_rows) == (2, 0)
    assert displayed(np.zeros((0, 4), np.float32), BOX).shape == (0, 4)


def test_half_is_exact_on_what_it_gives() -> None:
    values = np.random.default_rng(0).normal(size=100).astype(np.float32)
    once = half(values)
    assert once.dtype == np.float32
    assert (half(once) == once).all()
    assert np.abs(once - values).max() < 2e-3


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "d.safetensors"
    save_detector(path, Detector(DetectorConfig(("a", "b"), channels=16, appearance=8, embedding=16)))
    return path


def settings(path: Path, **more: object) -> PerceiveConfig:
    values = {
        "weights": str(path),
        "input_width": 64,
        "input_height": 64,
        "runtime": "torch",
        "device": "cpu",
    }
    return PerceiveConfig(**values | more)  # type: ignore[arg-type]


def test_perceiver_keeps_to_its_settings(weights: Path) -> None:
    """Scores, number of boxes, borders of the picture; a picture's answer does not depend on its company."""
    pictures = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    perceiver = Perceiver(
        settings(weights, min_score=0.005, max_detections=7, nms_iou=0.5, batch_size=3), threads=1
    )
    assert (perceiver.batch_size, perceiver.network.classes) == (3, ("a", "b"))
    found = [*perceiver(pictures[:3]), *perceiver(pictures[3:])]
    assert len(found) == 5
    for one in found:
        assert 0 < len(one.scores) <= 7
        assert (np.diff(one.scores) <= 0).all()
        assert one.scores.min() >= 0.005
        assert one.boxes.min() >= 0
        assert one.boxes.max() <= 64
        assert set(one.classes) <= {"a", "b"}
        assert (one.appearance.shape, one.embedding.shape) == ((len(one.scores), 8), (16,))
    for picture, one in zip(pictures, found, strict=True):
        [alone] = perceiver(picture[None])
        for name in ("boxes", "scores", "appearance", "embedding"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(one, name))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"weights": "no.safetensors"}, "are not there"),
        ({"weights": "nothing-of-this-name"}, r"nothing-of-this-name\.safetensors are not there"),
        ({"device": "cuda"}, "torch sees no CUDA device"),
    ],
)
def test_refused(
    weights: Path, more: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=message):
        Perceiver(settings(weights, **more))
