"""Rounding to 8 bits: near the network that it is made of, in torch and in OpenVINO's integers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models import precision, runtime
from models.boxes import Detections, Selection, iou_matrix
from models.checkpoint import CheckpointError, load_detector, load_ranges, save_detector, weights_path
from models.compiled import open_compiled
from models.detector import Detector, DetectorConfig, Exported
from models.files import has_ranges
from models.quantize import measured_ranges, rounded
from models.runtime import choose, open_network
from pipeline.analyze.tools import num_decoders
from pipeline.config import load
from pipeline.perceive import Perceiver, resolved
from tests.helpers import shared_path
from tests.models.helpers import outputs_of, see_gpus

SMALL = DetectorConfig(channels=16, appearance=8, embedding=16)
PICTURES = np.random.default_rng(2).integers(0, 256, (4, 64, 96, 3), dtype=np.uint8)

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Random weights whose batch norms have seen pictures, so that folding them in matters."""
    torch.manual_seed(1)
    made = Detector(SMALL).train()
    with torch.no_grad():
        for _ in range(40):
            made(as_batch())
    return made.eval()


def as_batch() -> torch.Tensor:
    return torch.from_numpy(PICTURES).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def weights(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_detector(path, detector, ranges=measured_ranges(detector, [as_batch()]), half=False)
    return path


def outputs(detector: Detector) -> list[np.ndarray]:
    with torch.inference_mode():
        return [output.numpy() for output in Exported(detector)(torch.from_numpy(PICTURES))]


def off(found: np.ndarray, expected: np.ndarray) -> float:
    """Difference as a share of how much the expected values vary."""
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())


def test_rounding_changes_little_but_something(detector: Detector) -> None:
    ranges = measured_ranges(detector, [as_batch()[:2], as_batch()[2:]])
    before = outputs(detector)
    for found, expected in zip(outputs(rounded(detector, ranges)), before, strict=True):
        assert 0 < off(found, expected) < 0.1
    for found, expected in zip(outputs(detector), before, strict=True):
        np.testing.assert_array_equal(found, expected)  # the detector itself is as it was


def test_ranges_are_the_mean_over_pictures_whatever_the_batches(detector: Detector) -> None:
    whole = measured_ranges(detector, [as_batch()])
    single = measured_ranges(detector, [picture[None] for picture in as_batch()])
    torch.testing.assert_close(whole, single, rtol=1e-4, atol=1e-4)
    assert (whole[:, 0] <= whole[:, 1]).all()
    assert whole[:, 0].min() < 0  # some follow layers without a ReLU6
    with pytest.raises(ValueError, match="ranges of shape"):
        rounded(detector, whole[1:])


def test_weights_keep_their_ranges(weights: Path, detector: Detector, tmp_path: Path) -> None:
    ranges = load_ranges(weights)
    assert ranges is not None
    torch.testing.assert_close(ranges, measured_ranges(detector, [as_batch()]), rtol=1e-4, atol=1e-4)
    assert has_ranges(weights)
    assert load_detector(weights).state_dict().keys() == detector.state_dict().keys()
    without = tmp_path / "without.safetensors"
    save_detector(without, detector)
    assert load_ranges(without) is None
    assert not has_ranges(without)
    assert not has_ranges(tmp_path / "missing.safetensors")


@needs_openvino
def test_openvino_computes_what_torch_simulates(weights: Path) -> None:
    run, _ = open_compiled(weights, (96, 64), 4, "int8", 1, keep=False)
    ranges = load_ranges(weights)
    assert ranges is not None
    simulated, plain = outputs(rounded(load_detector(weights), ranges)), outputs(load_detector(weights))
    for found, expected, exact in zip(outputs_of(run, PICTURES), simulated, plain, strict=True):
        # Not equal: a value at the border of two steps may be rounded either way, and what follows differs.
        assert off(found, expected) < 0.85 * off(found, exact)
        assert off(found, exact) < 0.1


@needs_openvino
def test_openvino_counts_in_integers(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino as ov

    found = []
    compile_model = ov.Core.compile_model

    def compiled(core: ov.Core, *given: object) -> ov.CompiledModel:
        found.append(compile_model(core, *given))
        return found[-1]

    monkeypatch.setattr(ov.Core, "compile_model", compiled)
    open_compiled(weights, (96, 64), 1, "int8", 1, keep=False)
    layers = [op.get_rt_info() for op in found[0].get_runtime_model().get_ops()]
    kinds = [str(layer["runtimePrecision"].astype(str)) for layer in layers if _is(layer, "Convolution")]
    ranges = load_ranges(weights)
    assert ranges is not None
    assert kinds.count("i8") + kinds.count("u8") == len(ranges)  # every layer that is rounded, and no other


def _is(layer: object, kind: str) -> bool:
    return str(layer["layerType"].astype(str)) == kind  # type: ignore[index]


@needs_openvino
def test_weights_without_ranges_are_refused(tmp_path: Path, detector: Detector) -> None:
    path = tmp_path / "without.safetensors"
    save_detector(path, detector)
    with pytest.raises(CheckpointError, match="no ranges for int8"):
        open_compiled(path, (96, 64), 4, "int8", 1, keep=False)
    with pytest.raises(ValueError, match="openvino"):
        open_network(path, width=96, height=64, batch=4, runtime="torch", device="cpu", precision="int8")


@needs_openvino
@pytest.mark.parametrize(
    ("flags", "ranges", "expected"),
    [
        ("avx2", True, "float32"),
        ("avx2 amx_bf16", True, "bfloat16"),
        ("avx2 avx_vnni", True, "int8"),
        ("avx2 avx_vnni", False, "float32"),
        ("avx512_vnni avx512_bf16", True, "int8-bfloat16"),
        ("avx512_vnni avx512_bf16", False, "bfloat16"),
    ],
)
def test_auto_takes_what_the_cpu_has_instructions_for(
    flags: str, ranges: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: f"flags : fpu {flags}")
    assert precision.resolve("auto", "auto", "cpu", ranges=ranges) == expected
    assert precision.resolve("auto", "torch", "cpu", ranges=ranges) == "float32"
    assert precision.resolve("auto", "auto", "cuda", ranges=ranges) == "float32"
    for named in ("float32", "bfloat16", "int8"):
        assert precision.resolve(named, "auto", "cpu") == named


@needs_openvino
def test_the_weights_decide_too(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: "flags : avx_vnni")
    settings = load(None, {"perceive.weights": str(weights), "perceive.device": "cpu"}).perceive
    assert resolved(settings).precision == "int8"
    save_detector(tmp_path / "old.safetensors", load_detector(weights))
    old = settings.model_copy(update={"weights": str(tmp_path / "old.safetensors")})
    assert resolved(old).precision == "float32"
    gone = settings.model_copy(update={"weights": str(tmp_path / "gone.safetensors")})
    assert resolved(gone).precision == "float32"


@needs_openvino
@pytest.mark.parametrize("brought", [False, True])
def test_a_gpu_that_is_taken_by_itself_does_not_get_the_cpus_format(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brought: bool
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: "flags : avx512_vnni avx512_bf16")
    monkeypatch.setattr(runtime, "refusal", lambda device: "")
    settings = load(None, {"perceive.weights": str(weights)}).perceive
    if brought:
        text = 'layout = "yolox"\ninput = [64, 32]\n[classes]\nperson = [0]\n'
        (tmp_path / "d.toml").write_text(text)
        settings = settings.model_copy(update={"detector": str(tmp_path / "d.onnx")})
    assert settings.device == "auto"
    assert resolved(settings).precision == "float32"
    on_cpu = settings.model_copy(update={"device": "cpu"})
    assert resolved(on_cpu).precision == ("bfloat16" if brought else "int8-bfloat16")


@needs_openvino
def test_who_asks_for_openvino_gets_the_cpu_beside_a_gpu(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_gpus(monkeypatch, (8, 0))
    more = {"perceive.runtime": "openvino", "perceive.precision": "float32"}
    config = load(None, more | {"perceive.weights": str(weights)})
    assert num_decoders(config) == num_decoders(load(None, more | {"perceive.device": "cpu"}))
    perceiver = Perceiver(config.perceive, threads=1)
    assert (perceiver.network.device, perceiver.network.runtime[:8]) == ("cpu", "openvino")
    with pytest.raises(ValueError, match='needs device = "cpu"'):
        choose("openvino", "cuda")


@needs_openvino
def test_the_shipped_detector_finds_the_same_boxes_in_8_bits() -> None:
    folder = shared_path("data", "detection", "val")
    read = [cv2.imread(str(path)) for path in sorted(folder.iterdir())[:24]]
    pictures = np.stack([cv2.resize(picture, (544, 320))[..., ::-1] for picture in read])
    path, selection = weights_path("detector"), Selection(0.3, 0.5, 100)

    def boxes(runtime: str, number: precision.Precision) -> list[Detections]:
        network = open_network(
            path,
            width=544,
            height=320,
            batch=24,
            runtime=runtime,
            device="cpu",
            precision=number,
            threads=1,
            keep=False,
        )
        return [found for found, _ in network.detect(pictures, selection)]

    best: list[float] = []
    for exact, found in zip(boxes("torch", "float32"), boxes("openvino", "int8"), strict=True):
        overlaps = iou_matrix(exact.boxes, found.boxes) * (exact.classes[:, None] == found.classes)
        best += overlaps.max(axis=1, initial=0.0).tolist()
    assert len(best) > 40
    assert np.mean(np.array(best) > 0.5) > 0.9
    assert np.median(best) > 0.97
