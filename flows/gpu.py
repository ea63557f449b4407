"""One process per GPU, held by a lock on the device that ends with its holder, whatever ends it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from models.runtime import choose, refusal
from pipeline.config import Config


@contextmanager
def one_per_gpu(config: Config, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the GPU that the CNN would run on; on a CPU there is nothing to hold.

    Prefect's concurrency slots stay taken when their holder is killed (issue 7752 of its repository) and know
    nothing of runs outside it; a lock of the system is freed with the process.
    """
    try:
        _, device = choose(config.perceive.runtime, config.perceive.device)
    except ValueError:
        device = ""
    with device_held(device, say):
        yield


@contextmanager
def device_held(device: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a GPU by torch's name, as cuda or cuda:1; a CPU, and what is not there, is not held."""
    if device == "cpu" or refusal(device):  # the work itself will say what is not there
        yield
        return
    import torch

    with held(f"gpu-{torch.cuda.get_device_properties(device).uuid}", say):
        yield


@contextmanager
def held(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock of this machine, waiting for it if another process has it."""
    path = Path(tempfile.gettempdir()) / f"marey-{name}.lock"
    handle = _opened(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waits for another process on {name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    """A lock's file, which all users can open; another's may be neither written nor made anew."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with suppress(PermissionError):  # another user made it just now
            os.fchmod(handle, 0o644)  # whatever the umask of whoever comes first
        return handle
