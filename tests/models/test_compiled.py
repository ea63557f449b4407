"""The compiled detector in the cache: the same numbers, no torch, and made anew where it cannot be used."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models import compiled
from models.boxes import CellOutputs
from models.checkpoint import save_detector
from models.compiled import open_compiled
from models.detector import Detector, DetectorConfig
from tests.helpers import ROOT
from tests.models.helpers import outputs_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)

SMALL = DetectorConfig(channels=16, appearance=8, embedding=16, classes=("person", "car"))
PICTURES = np.random.default_rng(2).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAREY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_detector(path, Detector(SMALL).eval())
    return path


def opened(weights: Path, *, keep: bool = True, threads: int = 1) -> CellOutputs:
    run, classes = open_compiled(weights, (96, 64), 2, "float32", threads, keep=keep)
    assert classes == SMALL.classes
    return outputs_of(run, PICTURES)


def assert_equal(a: CellOutputs, b: CellOutputs) -> None:
    for ours, theirs in zip(a, b, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def the_only(cache: Path) -> Path:
    [path] = cache.iterdir()
    return path


def test_made_and_kept_networks_give_the_same_numbers_to_the_last_bit(weights: Path, cache: Path) -> None:
    without = opened(weights, keep=False)
    assert not cache.exists()
    made = opened(weights)
    before = the_only(cache).read_bytes()
    kept = opened(weights)
    assert the_only(cache).read_bytes() == before
    assert_equal(without, made)
    assert_equal(made, kept)


def test_a_kept_network_needs_no_torch(weights: Path, cache: Path) -> None:
    opened(weights, threads=1)
    code = (  # bound to one core of 64, as a container may be, it asks for a network of one thread
        "import os; os.cpu_count = lambda: 64; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "import sys; from pathlib import Path; from models.runtime import open_network; "
        f"size = dict(width=96, height=64, batch=2); path = Path({str(weights)!r}); "
        "open_network(path, **size, runtime='openvino', device='cpu'); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "foreign"])
def test_a_file_that_cannot_be_used_is_made_anew(weights: Path, cache: Path, damage: str) -> None:
    good = opened(weights)
    path = the_only(cache)
    whole = path.read_bytes()
    blob = whole.partition(b"\n")[2]
    flipped = bytearray(whole)
    flipped[-1000] ^= 1
    foreign = hashlib.sha256(b"not a network").hexdigest()
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "flipped": bytes(flipped),
            "empty": b"",
            "text": b"[1]\n" + blob,
            "foreign": b'{"classes": ["person", "car"], "sha256": "%s"}\nnot a network' % foreign.encode(),
        }[damage]
    )
    assert_equal(opened(weights), good)
    assert the_only(cache) == path
    assert_equal(opened(weights), good)
    assert compiled._read(path) is not None


def test_what_changes_the_network_changes_its_name(weights: Path, cache: Path, tmp_path: Path) -> None:
    opened(weights)
    opened(weights, threads=2)
    assert len(list(cache.iterdir())) == 2
    torch.manual_seed(2)
    other = tmp_path / "other.safetensors"
    save_detector(other, Detector(SMALL).eval())
    assert not np.array_equal(opened(other).scores, opened(weights).scores)
    assert len(list(cache.iterdir())) == 3


def test_the_cache_holds_a_few_networks_those_used_last(
    weights: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_KEPT", 1)
    opened(weights)
    first = the_only(cache)
    opened(weights, threads=2)
    assert the_only(cache) != first


def test_a_cache_that_cannot_be_written_is_done_without(weights: Path, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder would be")
    assert_equal(opened(weights), opened(weights, keep=False))


def test_pictures_are_read_where_they_lie_however_they_lie(weights: Path, cache: Path) -> None:
    run, _ = open_compiled(weights, (96, 64), 2, "float32", 1)
    turned = PICTURES[:, :, ::-1]
    turned.setflags(write=False)
    assert_equal(outputs_of(run, turned), outputs_of(run, turned.copy()))
    given = PICTURES.copy()
    before = outputs_of(run, given)
    given[:] = turned  # as the next batch comes into the place of one before
    assert_equal(outputs_of(run, given), outputs_of(run, turned.copy()))
    assert not np.array_equal(outputs_of(run, given).scores, before.scores)


def test_openvino_reports_to_nobody(tmp_path: Path) -> None:
    """What would send is not loaded, and leaves no name for this machine in its home."""
    program = (
        "import sys, models, openvino;"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry') and sys.modules[name]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert not list(tmp_path.iterdir())
