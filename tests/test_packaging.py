"""What pip installs for marey: pyproject.toml, its dependencies' own, and constraints.txt."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers import ROOT


def needed() -> Iterator[Requirement]:
    """What pip would install for all extras; of packages that are not installed here not what they need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    todo, seen = [Requirement(text) for text in texts], set()
    while todo:
        one = todo.pop()
        yield one
        if (key := (one.name, frozenset(one.extras))) in seen:
            continue
        seen.add(key)
        try:
            inner = [Requirement(text) for text in requires(one.name) or ()]
        except PackageNotFoundError:
            continue
        extras = [{"extra": extra} for extra in (one.extras or {""})]
        todo += [r for r in inner if r.marker is None or any(map(r.marker.evaluate, extras))]


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_no_second_opencv_is_installed_over_the_one_without_a_display() -> None:
    names = {canonicalize_name(one.name) for one in needed()}
    assert {name for name in names if name.startswith("opencv")} == {"opencv-python-headless"}


def test_the_constraints_fit_what_is_needed() -> None:
    versions = pinned()
    wrong = {
        str(one): version
        for one in needed()
        if (version := versions.get(canonicalize_name(one.name))) and version not in one.specifier
    }
    assert not wrong


def test_make_refuses_a_python_that_is_too_old_before_it_makes_an_environment_with_it(tmp_path: Path) -> None:
    """An environment keeps the Python that it was made with, whichever makes it again."""
    old = "import sys; sys.version_info = (3, 9, 6); exec(sys.argv[1])"
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-c", old])} "$2"\n')
    python.chmod(0o755)
    command = ["make", "install", f"PYTHON={python}", f"VENV={tmp_path}/venv"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    said = f"marey needs Python 3.11 or later, {python} is 3.9: make PYTHON=python3.12"
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, said)
    assert not (tmp_path / "venv").exists()
