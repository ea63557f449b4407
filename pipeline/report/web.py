"""Pages: templates, scripts and styles of `web/` made into one HTML file that needs no network.

Whatever comes from a lake is data: templates escape it, JSON in a script tag has `<`, `>`, `&` and `'`
escaped (Jinja2's `tojson`), the scripts write text nodes only, and a content security policy lets nothing run
but the scripts whose hashes it names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.errors import StorageError, os_errors_as
from pipeline.outputs import whole
from pipeline.report.palette import TALLEST, Picture, fitted, jpeg

PICTURE_WIDTH_PX = 960
_JPEG_QUALITY = 80


@cache
def _environment() -> Environment:
    loader = PackageLoader("pipeline.report", "web")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def _source(name: str) -> str:
    return (files("pipeline.report") / "web" / name).read_text(encoding="utf-8")


def render(template: str, scripts: Sequence[str], *, side_files: bool = False, **values: Any) -> str:
    """An HTML page.

    Args:
        template: name of a template of `web/`.
        scripts: names of its scripts, in the order in which they run.
        side_files: whether the page loads scripts that lie beside it.
        values: what the template shows.
    """
    sources = [_source(name) for name in scripts]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in sources]
    allowed = " ".join([*(f"'sha256-{text}'" for text in hashes), *(["file:", "'self'"] * side_files)])
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "media-src file: 'self' blob:; base-uri 'none'; form-action 'none'"
    )
    page = _environment().get_template(template)
    return page.render(policy=policy, style=_source("page.css"), scripts=sources, **values)


def write(path: Path, text: str) -> None:
    """Write a file of a page, in UTF-8 and whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    with os_errors_as(StorageError, f"{path} cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8", errors="replace")


def data_uri(picture: Picture, width_px: int = PICTURE_WIDTH_PX) -> str:
    """A picture as a JPEG in a data: address, at most so wide and TALLEST times as tall."""
    height, width = picture.shape[:2]
    if width > width_px or height > TALLEST * width_px:
        picture = cv2.resize(picture, fitted(width, height, width_px), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(picture, _JPEG_QUALITY)).decode("ascii")
