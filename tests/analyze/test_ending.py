"""What the row that ends an attempt says of the process."""

from __future__ import annotations

import resource
import sys
from types import SimpleNamespace

import pytest

from pipeline.analyze.ending import _peak_memory_bytes


@pytest.mark.parametrize(("platform", "unit_bytes"), [("linux", 1024), ("darwin", 1)])
def test_memory_is_told_in_bytes(platform: str, unit_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """See getrusage(2): ru_maxrss is in KiB on Linux, in bytes on macOS."""
    largest = {
        resource.RUSAGE_SELF: (400 << 20) // unit_bytes,
        resource.RUSAGE_CHILDREN: (80 << 20) // unit_bytes,
    }
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=largest[who]))
    assert _peak_memory_bytes() == 480 << 20
