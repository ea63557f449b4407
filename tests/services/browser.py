"""Real Chromium (Debian's package), and axe-core from npm."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.services.packages import install

AXE = "axe-core@4.10.3"
SERIOUS = ("serious", "critical")


def missing(what: str, remedy: str) -> None:
    """Skip with a reason; in CI it is a failure."""
    reason = f"no {what}: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _install(packages: dict[str, str]) -> None:
    """Where that is not allowed, what is missing is told by the one who needs it."""
    with suppress(subprocess.CalledProcessError, OSError):
        install(packages)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser."""
    from playwright.sync_api import sync_playwright

    _install({"chromium": "chromium"})
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        missing("chromium", "apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@cache
def axe_source(folder: Path) -> str:
    """The source of axe-core, fetched by npm."""
    _install({"npm": "npm"})
    npm = shutil.which("npm")
    if npm is None:
        missing("npm", "apt install npm; axe-core comes by it")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", AXE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    if done.returncode:
        missing(AXE, " ".join(done.stderr.split())[:300])
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def open_page(browser: Any, path: Path, **context: Any) -> tuple[Any, list[str]]:
    """A page from a file, and the list to which its errors and failed requests are added."""
    page = browser.new_page(**{"viewport": {"width": 1100, "height": 900}} | context)
    errors: list[str] = []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda exc: errors.append(str(exc)))
    page.on("requestfailed", lambda request: errors.append(f"failed: {request.url}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else errors.append(f"network: {request.url}")
        ),
    )
    page.goto(path.absolute().as_uri())
    return page, errors


def faults(page: Any, source: str) -> list[str]:
    """What axe-core finds serious on the page."""
    page.evaluate(source)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {rule['help']}: {rule['nodes'][0]['html'][:120]}"
        for rule in found["violations"]
        if rule["impact"] in SERIOUS
    ]


def until(page: Any, condition: str, timeout_s: float = 20.0) -> None:
    """Wait for a condition; the page's own policy forbids `wait_for_function`, which evaluates text in it."""
    for _ in range(int(timeout_s / 0.05)):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{condition} did not come true in {timeout_s} s")
