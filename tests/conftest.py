"""Fixtures of all tests: random state is restored after each."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """A shell that starts us in the background has SIGINT ignored, and Python keeps it so."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _random_state() -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()
    yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)
