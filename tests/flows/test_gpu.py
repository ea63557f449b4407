"""The lock that keeps a GPU for one process."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import flows.train
from flows.gpu import device_held, held, one_per_gpu
from flows.train import _one_at_a_time, train_detector
from pipeline.config import load
from pipeline.errors import UsageError
from pipeline.event_data import Embedded
from tests.models.helpers import see_gpus


def test_the_second_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        with held("gpu-x", lambda text: (order.append(text), waits.set())):
            order.append("second")

    with held("gpu-x", order.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(30)
        order.append("first ends")
    thread.join()
    assert order == ["waits for another process on gpu-x", "first ends", "second"]


def test_a_lock_is_for_all_users_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the first of them is a service that keeps its files to itself."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = os.umask(0o077)
    try:
        with held("gpu-x", print):
            assert (tmp_path / "marey-gpu-x.lock").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_a_cpu_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with one_per_gpu(load(None, {"perceive.device": "cpu"}), print):
        assert list(tmp_path.iterdir()) == []


def test_a_training_waits_for_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    see_gpus(monkeypatch, (8, 0), (9, 0))
    order: list[str] = []
    waits = threading.Event()
    logger = SimpleNamespace(info=lambda text: (order.append(text), waits.set()))
    monkeypatch.setattr(flows.train, "get_run_logger", lambda: logger)
    gone = str(tmp_path / "gone")

    def training() -> None:
        with pytest.raises(UsageError, match="gone"):
            train_detector.fn(gone, gone, str(tmp_path / "out"), start="imagenet", device="cuda:1")
        order.append("trained")

    with device_held("cuda:1", print), device_held("cpu", print), device_held("cuda:7", print):
        thread = threading.Thread(target=training)
        thread.start()
        assert waits.wait(30)
        order.append("first ends")
    thread.join()
    assert order == ["waits for another process on gpu-uuid-1", "first ends", "trained"]
    assert [path.name for path in tmp_path.glob("*.lock")] == ["marey-gpu-uuid-1.lock"]


def test_embedding_for_an_event_model_holds_the_gpu_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    see_gpus(monkeypatch, (8, 0))
    lock, busy = tmp_path / "marey-gpu-uuid-0.lock", list[bool]()

    def is_held() -> bool:
        with lock.open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def embed(path: Path) -> Embedded:
        busy.append(is_held())
        return np.zeros(0), np.zeros((0, 3), np.float32)

    _one_at_a_time(embed, print)(tmp_path / "a.mp4")
    assert busy == [True]
    assert not is_held()
