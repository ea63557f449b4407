"""Which device and runtime the CNN gets, on machines with GPUs of several kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from models.precision import best_for_training
from models.runtime import choose, refusal
from pipeline.config import load
from pipeline.doctor import machine
from pipeline.errors import UsageError
from pipeline.training_detector import DetectorJob, train
from tests.models.helpers import ARCHES, see_gpus
from tests.models.test_detector_training import write_shapes


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((7, 5), ARCHES, True),
        ((8, 6), ARCHES, True),
        ((9, 0), ARCHES, True),
        ((12, 1), ARCHES, True),
        ((13, 0), ARCHES, True),  # by PTX
        ((6, 1), ARCHES, False),
        ((7, 0), ARCHES, False),
        ((10, 0), ARCHES, False),
        ((6, 1), [], True),  # torch does not say
    ],
)
def test_a_gpu_that_torch_was_not_built_for_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], built: Sequence[str], runs: bool
) -> None:
    """CUDA is available, says torch of it, and fails with the first picture."""
    see_gpus(monkeypatch, capability, built=built)
    assert choose("auto", "auto")[1] == ("cuda" if runs else "cpu")
    if runs:
        assert choose("auto", "cuda") == ("torch", "cuda")
        return
    why = rf"torch 2\.13\.0 was not built for this GPU \(GPU 0, sm_{capability[0]}{capability[1]}\)"
    with pytest.raises(ValueError, match=rf'^device = "cuda", but {why}$'):
        choose("auto", "cuda")
    found = machine(load(None, {"events.models": []}))
    assert found["cuda"] == refusal("cuda")
    assert found["cnn_runs_on"].endswith(" on cpu")


def test_the_device_of_a_training_is_judged_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    see_gpus(monkeypatch, (8, 0), (6, 1))
    data = write_shapes(tmp_path, 2)
    for device, why in (
        ("gpu", "a device is cpu or cuda"),
        ("cuda:x", "a device is cpu or cuda"),
        ("cuda:2", "torch sees 2 CUDA devices, the first of which is cuda:0"),
        ("cuda:1", r"torch 2\.13\.0 was not built for this GPU \(GPU 1, sm_61\)"),
    ):
        job = DetectorJob(((data, tmp_path),), tmp_path / "out", steps=1, batch=2, size=64, device=device)
        with pytest.raises(UsageError, match=f"--device {device}: {why}"):
            train(job, print)
    assert not (tmp_path / "out").exists()
    see_gpus(monkeypatch)
    assert refusal("cuda") == refusal("cuda:1") == "torch sees no CUDA device"
    assert refusal("cpu") == ""


def test_a_gpu_that_only_converts_bfloat16_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turing and Volta: torch says that they support it, and does without cuDNN's convolutions."""
    see_gpus(monkeypatch, (8, 6), (7, 5))
    assert best_for_training("cuda") == best_for_training("cuda:0") == "bfloat16"
    assert best_for_training("cuda:1") == "float32"
