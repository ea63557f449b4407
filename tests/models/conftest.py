"""What tests of models share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from tests.web import serving


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address it is served under."""
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(partial(SimpleHTTPRequestHandler, directory=str(folder))) as address:
        yield folder, address
