"""The lock that keeps a GPU for one process."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest

from flows.gpu import held, one_per_gpu
from pipeline.config import load


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


def test_a_cpu_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with one_per_gpu(load(None, {"perceive.device": "cpu"}), print):
        assert list(tmp_path.iterdir()) == []
