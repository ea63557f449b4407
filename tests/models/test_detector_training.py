"""Training: assignment, masks, augmentation, resume."""

from __future__ import annotations

import copy
import csv
import json
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.checkpoint import load_detector
from models.detector import Detector, DetectorConfig, RawOutput, cell_centres
from models.files import has_ranges
from models.training.augment import AugmentSettings, disturb, draw, plan_mosaic, plan_view
from models.training.batches import draw_batch, plan_batch
from models.training.coco import Teacher, TrainingImage, load_images
from models.training.detector import _made_of, _Trainer, new_detector, train_detector
from models.training.detector_loss import LossWeights, Targets, assign, detection_loss
from models.training.detector_settings import TrainSettings
from models.training.pictures import header_size

SIZE = 64
CLASSES = ("disc", "square")
CONFIG = DetectorConfig(classes=CLASSES, channels=16, appearance=8, embedding=16)


def write_shapes(folder: Path, count: int, seed: int = 0, **entry: object) -> Path:
    """Pictures with a disc and a square each, and their COCO file."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        picture = np.full((SIZE, SIZE, 3), 90, np.uint8) + rng.integers(
            0, 20, (SIZE, SIZE, 3), dtype=np.uint8
        )
        for category, (left, top) in enumerate(((4, 4), (34, 34)), 1):
            x, y = left + int(rng.integers(8)), top + int(rng.integers(8))
            if category == 1:
                cv2.circle(picture, (x + 9, y + 9), 9, (30, 30, 230), -1)
            else:
                cv2.rectangle(picture, (x, y), (x + 18, y + 18), (230, 30, 30), -1)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": category, "iscrowd": 0,
                 "bbox": [x, y, 19, 19], "area": 361}
            )  # fmt: skip
        name = f"images/{number}.png"
        cv2.imwrite(str(folder / name), picture)
        images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE, **entry})
    data = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)],
    }
    path = folder / "data.json"
    path.write_text(json.dumps(data))
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[TrainingImage]:
    folder = tmp_path_factory.mktemp("shapes")
    return load_images(write_shapes(folder, 12), folder, CLASSES)


def targets(boxes: list[list[float]], classes: list[int], **more: torch.Tensor) -> Targets:
    """Truth of one view."""
    ignored = more.get("ignore_classes", torch.zeros(0, dtype=torch.long))
    values = {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "classes": torch.tensor(classes, dtype=torch.long),
        "weights": torch.ones(len(classes)),
        "objects": torch.arange(len(classes)),
        "views": torch.zeros(len(classes), dtype=torch.long),
        "ignore_boxes": torch.zeros(0, 4),
        "ignore_classes": ignored,
        "ignore_views": torch.zeros_like(ignored),
        "masked": torch.zeros(1, 2, dtype=torch.bool),
    }
    return Targets(**{**values, **more})


def outputs(requires_grad: bool = True) -> RawOutput:
    cells = len(cell_centres(SIZE, SIZE)[0])
    torch.manual_seed(0)
    return RawOutput(
        torch.randn(1, cells, 2).requires_grad_(requires_grad),
        torch.randn(1, cells, 4, 10).requires_grad_(requires_grad),
        torch.nn.functional.normalize(torch.randn(1, cells, 8), dim=2),
        torch.nn.functional.normalize(torch.randn(1, 16), dim=1),
    )


def test_objects_get_cells_inside_them_and_no_cell_serves_two() -> None:
    centres, strides = cell_centres(SIZE, SIZE)
    truth = targets([[4, 4, 30, 30], [20, 20, 60, 60]], [0, 1])
    boxes = torch.cat([centres - 12, centres + 12], dim=1)
    found = assign(torch.rand(1, len(centres), 2), boxes[None], truth, centres, strides)
    cells = found.positive[0].nonzero()[:, 0]
    own = truth.boxes[found.truth[0, cells]]
    inside = (centres[cells] > own[:, :2]) & (centres[cells] < own[:, 2:])
    assert inside.all()
    assert set(found.truth[0, cells].tolist()) == {0, 1}
    assert found.quality[0, cells].max() <= 1


def test_an_object_smaller_than_a_cell_is_not_lost() -> None:
    centres, strides = cell_centres(SIZE, SIZE)
    truth = targets([[9, 9, 11, 11]], [1])
    boxes = torch.cat([centres - 4, centres + 4], dim=1)
    assert assign(torch.rand(1, len(centres), 2), boxes[None], truth, centres, strides).positive.any()


def test_classes_of_which_nothing_is_known_cost_nothing() -> None:
    raw = outputs()
    truth = targets([], [], masked=torch.tensor([[True, False]]))
    loss, _ = detection_loss(raw, truth, (SIZE, SIZE), [], LossWeights())
    loss.backward()  # type: ignore[no-untyped-call]
    assert raw.logits.grad is not None
    assert raw.logits.grad[..., 0].abs().max() == 0
    assert raw.logits.grad[..., 1].abs().min() > 0


def test_ignored_places_cost_nothing_for_their_class() -> None:
    raw = outputs()
    place = torch.tensor([[0.0, 0.0, 32.0, 32.0]])
    truth = targets([], [], ignore_boxes=place, ignore_classes=torch.tensor([1]))
    loss, _ = detection_loss(raw, truth, (SIZE, SIZE), [], LossWeights())
    loss.backward()  # type: ignore[no-untyped-call]
    assert raw.logits.grad is not None
    centres, _ = cell_centres(SIZE, SIZE)
    inside = (centres < 32).all(dim=1)
    assert raw.logits.grad[0, inside, 1].abs().max() == 0
    assert raw.logits.grad[0, inside, 0].abs().min() > 0
    assert raw.logits.grad[0, ~inside, 1].abs().min() > 0


def test_right_boxes_cost_less_than_wrong_ones() -> None:
    centres, strides = cell_centres(SIZE, SIZE)
    truth = targets([[8, 8, 40, 40]], [0])
    losses = []
    for box in ([8.0, 8.0, 40.0, 40.0], [0.0, 0.0, 60.0, 20.0]):
        distance = torch.cat([centres - torch.tensor(box[:2]), torch.tensor(box[2:]) - centres], dim=1)
        bins = (distance / strides[:, None]).clamp(0, 9)
        sides = -20 * (torch.arange(10) - bins[..., None]).abs()[None]
        raw = outputs(False)._replace(sides=sides)
        losses.append(detection_loss(raw, truth, (SIZE, SIZE), [], LossWeights())[1]["box"])
    assert losses[0] < 0.3 * losses[1]


def test_views_keep_boxes_on_their_objects(images: list[TrainingImage]) -> None:
    settings = AugmentSettings(size=96, reference=(96, 96), scale=(0.8, 1.4))
    checked = 0
    for number in range(30):
        rng = np.random.default_rng(number)
        view = plan_view(images[number % 12], settings, rng)
        pixels = disturb(draw(view, 96), rng)
        assert pixels.shape == (96, 96, 3)
        for box, label in zip(view.boxes, view.classes, strict=True):
            x, y = (box[:2] + box[2:]) / 2
            red, _, blue = (int(v) for v in pixels[min(95, int(y)), min(95, int(x))])
            if abs(red - blue) > 60:  # not grey, night or noise: then the colour tells which it is
                checked += 1
                assert (red > blue) == (label == 0)
    assert checked > 20


def test_a_mosaic_holds_objects_of_its_four_images(images: list[TrainingImage]) -> None:
    settings = AugmentSettings(size=128, reference=(128, 128))
    counts = [len(plan_mosaic(images[:4], settings, np.random.default_rng(n)).boxes) for n in range(10)]
    assert max(counts) > 2


def test_objects_that_are_not_sure_ask_for_a_lower_score() -> None:
    centres, strides = cell_centres(SIZE, SIZE)
    boxes = torch.cat([centres - 12, centres + 12], dim=1)[None]
    scores = torch.rand(1, len(centres), 2)
    sure, unsure = (
        assign(scores, boxes, targets([[4, 4, 30, 30]], [0], weights=torch.tensor([w])), centres, strides)
        for w in (1.0, 0.5)
    )
    assert torch.equal(sure.positive, unsure.positive)
    assert torch.allclose(unsure.quality, sure.quality / 2)


def test_the_teacher_fills_what_nobody_drew(tmp_path: Path) -> None:
    path = write_shapes(tmp_path, 1, complete_for=[1])
    data = json.loads(path.read_text())
    data["annotations"] = [a for a in data["annotations"] if a["category_id"] == 1]
    path.write_text(json.dumps(data))
    sure, likely, unsure, low = [[40, 40, 15, 15, 2, s] for s in (0.8, 0.3, 0.2, 0.05)]
    other = [0, 40, 15, 15, 1, 0.9]  # of a complete class: never an object
    for hint, weights, num_ignored in (
        (sure, [1, 1], 1),
        (likely, [1, 0.5], 1),
        (unsure, [1], 2),
        (low, [1], 1),
    ):
        [image] = load_images(path, tmp_path, CLASSES, teacher={"1": [hint, other]}, trust=Teacher())
        assert (image.weights.tolist(), len(image.ignore_boxes)) == (weights, num_ignored)
        assert len(image.boxes) == len(weights)
        assert not image.masked.any()
    [alone] = load_images(path, tmp_path, CLASSES)
    assert alone.masked.tolist() == [False, True]


def encoded_jpeg(width: int, height: int, orientation: int = 1, order: str = ">") -> bytes:
    """A grey picture that its EXIF orientation turns when it is displayed, from 5 on on its side."""
    _, coded = cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))
    head = b"MM\0*" if order == ">" else b"II*\0"
    tags = [struct.pack(f"{order}HHIHxx", tag, 3, 1, value) for tag, value in ((1, 9), (0x112, orientation))]
    exif = b"Exif\0\0" + head + struct.pack(f"{order}IH", 8, len(tags)) + b"".join(tags) + bytes(4)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    return coded[:2].tobytes() + segment + coded[2:].tobytes()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(10))
def test_a_jpeg_is_as_large_as_its_header_and_orientation_say(orientation: int, order: str) -> None:
    coded = encoded_jpeg(50, 30, orientation, order)
    height, width = cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert header_size(coded) == (width, height) == ((30, 50) if 5 <= orientation <= 8 else (50, 30))


def test_headers_tell_the_size_that_decoding_gives() -> None:
    """And one that is cut short raises nothing."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
    for ending, how in (
        (".png", []),
        (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 60]),
        (".webp", lossless),
        (".bmp", []),
    ):
        coded = cv2.imencode(ending, pixels, how)[1].tobytes()
        assert header_size(coded) == (50, 30)
        assert {header_size(coded[:length]) for length in range(len(coded))} <= {(50, 30), None}
    assert header_size(b"no picture") is None


@pytest.mark.parametrize(
    ("stored", "stated", "said"),
    [
        ((60, 40, 6), (60, 40), r"is 40x60, its COCO file says 60x40, as where an EXIF orientation turns it"),
        ((60, 40, 1), (40, 60), r"is 60x40, its COCO file says 40x60, as where an EXIF orientation turns it"),
        ((60, 40, 1), (120, 80), r"is 60x40, its COCO file says 120x80: give the pictures that were annot"),
        ((60, 40, 1), (61, 40), r"is 60x40, its COCO file says 61x40: "),
        ((60, 40, 1), ("60", "40"), r"is 60x40, its COCO file says '60'x'40': "),
        ((60, 40, 1), (None, 40), r"is 60x40, its COCO file says Nonex40: "),
        (None, (60, 40), "cannot be decoded"),
    ],
)
def test_pictures_of_another_size_than_their_boxes_are_refused(
    stored: tuple[int, int, int] | None, stated: tuple[object, object], said: str, tmp_path: Path
) -> None:
    path = write_shapes(tmp_path, 1)
    data = json.loads(path.read_text())
    data["images"][0] |= {"width": stated[0], "height": stated[1]}
    path.write_text(json.dumps(data))
    (tmp_path / "images" / "1.png").write_bytes(encoded_jpeg(*stored) if stored else b"no picture")
    with pytest.raises(ValueError, match=rf"^picture {tmp_path}/images/1\.png {said}"):
        load_images(path, tmp_path, CLASSES)


def test_what_a_turned_picture_shows_is_learned_where_it_is_displayed(tmp_path: Path) -> None:
    path = write_shapes(tmp_path, 1)
    data = json.loads(path.read_text())
    data["images"][0] |= {"width": 40, "height": 60}
    path.write_text(json.dumps(data))
    (tmp_path / "images" / "1.png").write_bytes(encoded_jpeg(60, 40, 6))
    [image] = load_images(path, tmp_path, CLASSES)
    assert image.pixels().shape == (60, 40, 3)


def test_images_of_a_kind_are_seen_as_often_as_is_said(tmp_path: Path) -> None:
    path = write_shapes(tmp_path, 2, kind="street")
    assert len(load_images(path, tmp_path, CLASSES, repeat_kinds={"street": 3, "room": 9})) == 6
    assert load_images(path, tmp_path, CLASSES, skip_kinds=["street"]) == []


def test_images_of_a_rare_class_are_seen_more_often(tmp_path: Path) -> None:
    path = write_shapes(tmp_path, 2, kind="street")
    data = json.loads(path.read_text())
    first = data["images"][0]["id"]
    data["annotations"] = [
        {**a, "category_id": 1 if a["image_id"] == first else 2} for a in data["annotations"]
    ]
    path.write_text(json.dumps(data))
    rare = {CLASSES[0]: 3}
    assert len(load_images(path, tmp_path, CLASSES, repeat_classes=rare)) == 4
    assert len(load_images(path, tmp_path, CLASSES, repeat_classes=rare, repeat_kinds={"street": 2})) == 8
    for flag in ("ignore", "iscrowd"):
        ignored = [{**a, flag: 1} for a in data["annotations"]]
        path.write_text(json.dumps({**data, "annotations": ignored}))
        assert len(load_images(path, tmp_path, CLASSES, repeat_classes=rare)) == 2


def test_bfloat16_trains_towards_the_same_losses() -> None:
    images = torch.rand(2, 3, SIZE, SIZE) * 255
    net = Detector(DetectorConfig(classes=CLASSES)).eval()
    with torch.no_grad():
        exact = net(images)
        with torch.autocast("cpu", torch.bfloat16):
            near = net(images)
    assert near.logits.dtype == torch.bfloat16
    assert (exact.logits - near.logits.float()).abs().max() < 0.05


def test_batches_depend_on_seed_and_step_alone(images: list[TrainingImage]) -> None:
    settings = TrainSettings(steps=1, batch=4, pairs=1, augment=AugmentSettings(size=64, reference=(64, 64)))
    one, two, other = (draw_batch(plan_batch(images, settings, n), settings, n) for n in (7, 7, 8))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def losses_of(folder: Path) -> list[float]:
    with (folder / "losses.csv").open(newline="") as handle:
        return [float(row["loss"]) for row in csv.DictReader(handle)]


class Killed(Exception):
    pass


def test_training_learns_and_goes_on_after_a_kill_as_if_undisturbed(
    images: list[TrainingImage], tmp_path: Path
) -> None:
    augment = AugmentSettings(size=64, reference=(64, 64), mosaic=0.0)
    settings = TrainSettings(
        steps=40,
        batch=6,
        pairs=2,
        learning_rate=5e-3,
        backbone_rate=1.0,
        warmup=5,
        checkpoint_every=10,
        frozen_stages=0,
        frozen_norm=False,
        augment=augment,
    )

    def fresh() -> Detector:
        torch.manual_seed(3)
        return Detector(CONFIG)

    torch.set_num_threads(1)
    train_detector(images, fresh(), tmp_path / "whole", settings)

    def kill(progress: object) -> None:
        if progress.step == 17:  # type: ignore[attr-defined]
            raise Killed

    with pytest.raises(Killed):
        train_detector(images, fresh(), tmp_path / "killed", settings, on_progress=kill)
    weights = train_detector(images, fresh(), tmp_path / "killed", settings)
    whole, killed = losses_of(tmp_path / "whole"), losses_of(tmp_path / "killed")
    assert killed == pytest.approx(whole, rel=1e-3)
    assert whole[-1] < 0.8 * whole[0]
    assert load_detector(weights).config.classes == CLASSES
    assert has_ranges(weights)
    with pytest.raises(ValueError, match="seed"):
        train_detector(images, fresh(), tmp_path / "killed", replace(settings, seed=9))


def test_a_training_of_anything_else_is_not_gone_on_with(images: list[TrainingImage], tmp_path: Path) -> None:
    settings = TrainSettings(steps=1, batch=2, pairs=0, augment=AugmentSettings(size=64, reference=(64, 64)))
    detector, third = Detector(CONFIG), Detector(replace(CONFIG, classes=(*CLASSES, "ring")))
    start = copy.deepcopy(detector)
    weights = train_detector(images, detector, tmp_path, settings).read_bytes()
    moved = [replace(images[0], boxes=images[0].boxes + 1), *images[1:]]
    repainted = [replace(images[0], encoded=images[1].encoded), *images[1:]]
    for seen, other, name in (
        (moved, start, "images or boxes"),
        (repainted, start, "images or boxes"),
        ([*images, images[0]], start, "images or boxes"),
        (images, Detector(CONFIG), "starting weights"),
        (images, third, "classes"),
    ):
        with pytest.raises(ValueError, match=f"was made with other {name}: choose another --out"):
            train_detector(seen, copy.deepcopy(other), tmp_path, settings)
    assert train_detector(images, start, tmp_path, settings).read_bytes() == weights


@pytest.mark.filterwarnings("ignore:.*which is a no-op")
def test_a_training_goes_on_on_the_device_it_is_on(images: list[TrainingImage], tmp_path: Path) -> None:
    """The device `meta` stands for a GPU: what lies elsewhere could not be added to what is there."""
    settings = TrainSettings(steps=1, batch=2, pairs=0, augment=AugmentSettings(size=64, reference=(64, 64)))
    detector = Detector(CONFIG)
    made_of = _made_of(images, detector)
    train_detector(images, detector, tmp_path, settings)
    trainer = _Trainer(Detector(CONFIG).to("meta"), settings, made_of)
    assert trainer.resume(tmp_path / "state.safetensors") == 1
    for state in trainer.optimizer.state.values():
        places = {name: value.device.type for name, value in state.items()}
        assert places == {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"}
    assert {value.device.type for value in trainer.average.state_dict().values()} == {"meta"}


def test_weights_of_other_classes_give_all_but_the_class_layer(tmp_path: Path) -> None:
    from models.checkpoint import save_detector

    torch.manual_seed(0)
    old = Detector(replace(CONFIG, classes=("a", "b", "c")))
    save_detector(tmp_path / "old.safetensors", old, half=False)
    new = new_detector(CONFIG, tmp_path / "old.safetensors")
    assert torch.equal(new.encoder.project.weight, old.encoder.project.weight)
    assert new.heads[0].logits.weight.shape[0] == 2


def test_classes_keep_what_is_known_of_them_by_name(tmp_path: Path) -> None:
    from models.checkpoint import save_detector

    torch.manual_seed(0)
    old = Detector(replace(CONFIG, classes=("a", "b")))
    save_detector(tmp_path / "old.safetensors", old, half=False)
    for classes in (("a", "b", "c"), ("c", "b")):
        new = new_detector(replace(CONFIG, classes=classes), tmp_path / "old.safetensors")
        for before, after in zip(old.heads, new.heads, strict=True):
            for part in ("weight", "bias"):
                rows, known = getattr(after.logits, part), getattr(before.logits, part)
                assert torch.equal(rows[classes.index("b")], known[1])
            assert not torch.equal(after.logits.weight[classes.index("c")], before.logits.weight[0])
