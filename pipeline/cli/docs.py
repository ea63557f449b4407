"""docs/commands.md, from the commands' own help: `python -m pipeline.cli.docs > docs/commands.md`."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

import typer

from pipeline.cli.commands import app

_HEAD = """\
# Commands

Data goes to stdout, everything else to stderr.

| exit | when |
|---|---|
| 0 | all ok or partial (`--strict` makes partial 1); nothing to do |
| 1 | some input failed: unreadable, undecodable, or missing beside ones that exist; the others are done |
| 2 | wrong use or config; no input exists at all; a directory without videos. Nothing was begun |
| 3 | lake or bucket cannot be reached or written; no input can be had since a server is away |
| 130, 143 | interrupted; terminated, or its terminal was closed: children ended, what is done stays done |
"""


def commands_page() -> str:
    """The page that lists all commands, as Markdown."""
    parts = [_HEAD]
    for path in command_paths():
        parts.append(f"## {' '.join(['marey', *path])}\n\n```text\n{help_text(path).rstrip()}\n```\n")
    return "\n".join(parts)


def command_paths(parent: typer.Typer = app, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The names that lead to every command, groups left out."""
    for item in parent.registered_commands:
        if item.name is not None:
            yield (*prefix, item.name)
    for group in parent.registered_groups:
        if group.typer_instance is not None and isinstance(group.name, str):
            yield from command_paths(group.typer_instance, (*prefix, group.name))


def help_text(path: tuple[str, ...]) -> str:
    """What `marey PATH --help` prints on a terminal of 100 columns."""
    out = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(out):
            app([*path, "--help"], prog_name="marey", standalone_mode=False)
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return out.getvalue()


if __name__ == "__main__":
    sys.stdout.write(commands_page())
