"""The real command, in a process of its own or within this one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from pipeline.cli import run
from pipeline.config import Config
from pipeline.config_text import to_toml
from tests.helpers import ROOT

COMMAND = [sys.executable, "-m", "pipeline.cli"]


def environment(**more: str) -> dict[str, str]:
    """Ours without `MAREY_*`, such that the package is found from any folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAREY_")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | more


def marey(*arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def within(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command within this process, which loads what it needs once for many."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        code = run([*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def start(
    *arguments: object, cwd: Path, module: tuple[object, ...] = ("pipeline.cli",)
) -> subprocess.Popen[str]:
    """Start the command, or a module around it, as the leader of a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, (*module, *arguments))],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def write_config(path: Path, config: Config) -> Path:
    path.write_text(to_toml(config), encoding="utf-8")
    return path


def is_one_line(done: subprocess.CompletedProcess[Any]) -> bool:
    """Whether the command said one thing, on stderr, and no traceback."""
    return done.stdout == "" and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
