"""Checkpoints: read back, refused, never unpickled."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch

from models.checkpoint import (
    CheckpointError,
    file_digest,
    load,
    load_detector,
    save,
    save_detector,
    weights_path,
)
from models.detector import Detector, DetectorConfig
from tests.s3 import Server

SMALL = DetectorConfig(classes=("cat", "dog"), channels=16)


def test_a_detector_is_read_back_with_its_config(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    before = Detector(SMALL).eval()
    save_detector(path, before, half=False)
    after = load_detector(path)
    assert after.config == SMALL
    for mine, theirs in zip(before.state_dict().values(), after.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    detector = Detector(SMALL)
    save_detector(tmp_path / "full.safetensors", detector, half=False)
    save_detector(tmp_path / "half.safetensors", detector)
    sizes = [(tmp_path / name).stat().st_size for name in ("half.safetensors", "full.safetensors")]
    assert sizes[0] < 0.55 * sizes[1]


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("exploded"),))  # type: ignore[return-value]


def test_a_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bomb.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match=r"bomb\.safetensors"):
        load_detector(path)
    assert not (tmp_path / "exploded").exists()


def test_missing_cut_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    save_detector(good, Detector(SMALL))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-100])
    other = tmp_path / "other.safetensors"
    save(other, {"a": torch.zeros(2)}, {"kind": "motion"})
    for path, said in (
        (tmp_path / "gone.safetensors", "not there"),
        (cut, "cut"),
        (other, "'motion' weights"),
    ):
        with pytest.raises(CheckpointError, match=said):
            load_detector(path)


def test_tensors_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    save_detector(path, Detector(SMALL))
    tensors, config = load(path, "detector")
    save(path, tensors, {**config, "channels": 32})
    with pytest.raises(CheckpointError, match="do not fit"):
        load_detector(path)


def test_the_digest_follows_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"one")
    before = file_digest(path)
    path.write_bytes(b"two")
    assert file_digest(path) != before
    assert len(before) == 32


@pytest.mark.parametrize("name", ["detector", "motion", "fight"])
def test_shipped_weights_are_there_and_small(name: str) -> None:
    path = weights_path(name)
    assert path.is_file()
    assert path.with_suffix(".md").is_file()  # its model card
    assert path.stat().st_size <= 12_000_000


def test_the_shipped_detector_has_its_classes() -> None:
    assert load_detector(weights_path("detector")).config.classes == (
        "person",
        "cycle",
        "car",
        "bus",
        "truck",
    )


def test_weights_come_from_an_address_once(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAREY_CACHE", str(tmp_path / "cache"))
    folder, address = served
    save(folder / "w.safetensors", {"a": torch.ones(2)}, {"kind": "x"})
    digest = hashlib.sha256((folder / "w.safetensors").read_bytes()).hexdigest()
    name = f"{address}/w.safetensors?key=secret#sha256={digest}"
    assert load(weights_path(name), "x")[0]["a"].tolist() == [1, 1]
    (folder / "w.safetensors").unlink()
    kept = weights_path(name)
    kept.write_bytes(b"spoilt")
    with pytest.raises(CheckpointError, match="404") as refused:
        weights_path(name)
    assert "secret" not in str(refused.value)


def test_other_bytes_than_the_digest_says_are_refused(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAREY_CACHE", str(tmp_path / "cache"))
    folder, address = served
    (folder / "w.safetensors").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="expected 0000"):
        weights_path(f"{address}/w.safetensors#sha256={64 * '0'}")
    assert list((tmp_path / "cache" / "weights").iterdir()) == []
    with pytest.raises(CheckpointError, match="another SHA-256"):
        weights_path(f"{folder}/w.safetensors#sha256={64 * '0'}")
    with pytest.raises(CheckpointError, match="need #sha256="):
        weights_path(f"{address}/w.safetensors")
    with pytest.raises(CheckpointError, match="64 hex digits"):
        weights_path(f"{address}/w.safetensors#sha256=12")


def test_a_cache_that_cannot_be_written_is_named(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MAREY_CACHE", str(tmp_path / "file"))
    refused = r"the cache \S+/file/weights cannot be written \(Not a directory\): set MAREY_CACHE"
    with pytest.raises(CheckpointError, match=refused):
        weights_path(f"{served[1]}/w.safetensors#sha256={64 * '0'}")


def test_weights_come_from_a_bucket_once(
    s3_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAREY_CACHE", str(tmp_path / "cache"))
    bucket, made = s3_server.bucket(), tmp_path / "w.safetensors"
    save(made, {"a": torch.ones(2)}, {"kind": "x"})
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    s3_server.client().upload_file(str(made), bucket, "a b/w+1.safetensors")
    place = f"s3://{bucket}/a b/w+1.safetensors"
    assert load(weights_path(f"{place}#sha256={digest}"), "x")[0]["a"].tolist() == [1, 1]
    s3_server.client().delete_object(Bucket=bucket, Key="a b/w+1.safetensors")
    assert weights_path(f"{place}#sha256={digest}").read_bytes() == made.read_bytes()
    with pytest.raises(CheckpointError, match=r"cannot be fetched.*NoSuchKey"):
        weights_path(f"{place}#sha256={64 * '0'}")
    with pytest.raises(CheckpointError, match="need #sha256="):
        weights_path(place)
