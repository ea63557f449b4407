"""Training views that a GPU makes: beside those of the CPU, on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.detector import Detector, DetectorConfig, cell_centres, decode_boxes
from models.training.augment import AugmentSettings, draw, plan_mosaic, plan_view
from models.training.batches import targets_of
from models.training.coco import TrainingImage
from models.training.detector import train_detector
from models.training.detector_loss import _ignored, assign
from models.training.detector_settings import TrainSettings
from models.training.device_disturb import blur, disturb, jpeg
from models.training.device_views import DeviceImages

SETTINGS = AugmentSettings(size=96, reference=(128, 96))


def picture(seed: int, width: int, height: int) -> TrainingImage:
    """A smooth coloured picture with a box in it."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
    pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    none = np.zeros((0, 4), np.float32)
    return TrainingImage(
        cv2.imencode(".png", pixels)[1].tobytes(), width, height,
        np.array([[10, 12, 40, 50]], np.float32), np.array([0]), np.ones(1, np.float32),
        none, np.zeros(0, np.int64), np.zeros(2, bool),
    )  # fmt: skip


@pytest.fixture(scope="module")
def images() -> list[TrainingImage]:
    return [picture(n, *size) for n, size in enumerate(((120, 90), (200, 150), (64, 128), (900, 500)))]


def test_a_device_draws_what_the_cpu_draws(images: list[TrainingImage]) -> None:
    store = DeviceImages([*images, *images], "cpu")
    assert len(store.whole) == 4  # pictures that are seen more often are stored once
    rng = np.random.default_rng(0)
    plans = [plan_view(images[n % 4], SETTINGS, rng) for n in range(12)]
    plans += [plan_mosaic(images, SETTINGS, rng) for _ in range(4)]
    drawn = store.draw(plans, SETTINGS.size)
    assert drawn.shape == (16, 3, 96, 96)
    assert {p.mirrored for p in plans} == {True, False}
    for plan, mine in zip(plans, drawn, strict=True):
        theirs = draw(plan, SETTINGS.size).astype(np.float32)
        difference = np.abs(mine.permute(1, 2, 0).numpy() - theirs)
        assert np.median(difference) < 1.5
        assert np.quantile(difference, 0.97) < 12  # borders lie up to a pixel apart


def test_a_picture_of_another_size_than_is_said_is_named(images: list[TrainingImage]) -> None:
    """One that lies on its side, or is larger than the square that the others need."""
    for width, height in ((90, 120), (60, 45)):
        turned = replace(images[0], width=width, height=height, name="a.jpg")
        with pytest.raises(
            ValueError, match=rf"picture a\.jpg is 120x90, its COCO file says {width}x{height}"
        ):
            DeviceImages([turned], "cpu")


@pytest.mark.parametrize("quality", [25, 60])
def test_jpeg_is_near_to_what_a_real_encoder_gives_back(images: list[TrainingImage], quality: int) -> None:
    rng = np.random.default_rng(1)
    pixels = cv2.resize(images[3].pixels(), (96, 96))
    pixels = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    theirs = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)
    views = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    mine = jpeg(views, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy()
    lost = np.abs(theirs - pixels).mean()
    assert np.abs(mine - theirs).mean() < 0.3 * lost


def test_blur_is_that_of_opencv(images: list[TrainingImage]) -> None:
    pixels = cv2.resize(images[1].pixels(), (64, 64))
    pixels[20:30, 20:30] = 255
    views = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().repeat(2, 1, 1, 1)
    mine = blur(views, torch.tensor([0.7, 1.5]))
    for view, sigma in zip(mine, (0.7, 1.5), strict=True):
        theirs = cv2.GaussianBlur(pixels.astype(np.float32), (9, 9), sigma, borderType=cv2.BORDER_REPLICATE)
        assert np.abs(view.permute(1, 2, 0).numpy() - theirs).max() < 0.5


def test_disturbed_views_differ_and_depend_on_the_random_numbers_alone() -> None:
    views = torch.rand(100, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    one, two, other = (disturb(views, np.random.default_rng(n)) for n in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.min() >= 0
    assert one.max() <= 255
    changed = (one - views).abs().amax(dim=(1, 2, 3)) > 1
    assert 0.7 < changed.float().mean() < 1  # four of five in colour alone


def test_what_a_step_needs_is_made_on_the_device(images: list[TrainingImage]) -> None:
    """The device `meta` stands for a GPU: what lies elsewhere could not be reckoned with what is there."""
    rng = np.random.default_rng(0)
    plans = [*(plan_view(image, SETTINGS, rng) for image in images), plan_mosaic(images, SETTINGS, rng)]
    views = DeviceImages(images, "meta").draw(plans, SETTINGS.size)
    sigmas = torch.ones(len(plans), device="meta")
    assert {x.device.type for x in (views, blur(views, sigmas), jpeg(views, 50 * sigmas))} == {"meta"}
    net = Detector(DetectorConfig(classes=("a", "b"), channels=16, appearance=8, embedding=16)).to("meta")
    raw, target = net(views), targets_of(plans, "meta")
    centres, strides = cell_centres(*views.shape[2:], device=views.device)
    boxes = decode_boxes(raw.sides, centres, strides)
    found = assign(raw.logits.sigmoid(), boxes, target, centres, strides)
    made = (*raw, *target, *found, _ignored(target, centres, 2))
    assert {tensor.device.type for tensor in made} == {"meta"}


def test_training_on_views_of_the_device_learns(images: list[TrainingImage], tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = Detector(DetectorConfig(classes=("a", "b"), channels=16, appearance=8, embedding=16))
    settings = TrainSettings(
        steps=20, batch=4, pairs=1, learning_rate=5e-3, warmup=2, frozen_stages=0, frozen_norm=False,
        augment=replace(SETTINGS, size=64),
    )  # fmt: skip
    told: list[float] = []
    train_detector(
        images,
        net,
        tmp_path,
        settings,
        draw_on_device=True,
        on_progress=lambda p: told.append(p.losses["cls"]),
    )
    assert len(told) == 20
    assert np.mean(told[-5:]) < np.mean(told[:5])
