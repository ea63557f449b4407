"""The root of the command line, and what all commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.text import put, say
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.config import Config

__all__ = [
    "Cameras", "ConfigFile", "DryRun", "Json", "Lake", "Settings", "app", "command", "evaluate_app", "put",
    "read_config", "say", "train_app",
]  # fmt: skip

app = typer.Typer(
    name="marey",
    help="Batch video analysis: camera footage in, tracks and events as Parquet tables out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
train_app = typer.Typer(help="Train models on your own data.", no_args_is_help=True, rich_markup_mode=None)
evaluate_app = typer.Typer(help="Measure models against truth.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")

Lake = Annotated[
    str, typer.Option("--lake", "-l", help="The lake: a directory or s3://bucket/prefix.", show_default=True)
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file; see `marey config --show`.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A config value, as key=value; may be repeated. perceive.min_score=0.3"),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Cameras = Annotated[
    str, typer.Option("--camera", help="Shell pattern of cameras; * takes also videos without one.")
]


def example(*lines: str) -> str:
    """The end of a command's help: what one would type."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def command(
    parent: typer.Typer, name: str, *examples: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a command with its examples."""
    return parent.command(name, epilog=example(*examples))


def read_config(path: Path | None, settings: Sequence[str] | None) -> Config:
    """The config of a command: file, environment, then `--set key=value`.

    Raises:
        UsageError: see `pipeline.config.load`.
    """
    from pipeline.config import load  # slow to load, and `query` needs none

    overrides: dict[str, Any] = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}", remedy="write key=value, as in perceive.min_score=0.3")
        overrides[key.strip()] = _value(value.strip())
    return load(path, overrides)


def _value(text: str) -> Any:
    """A TOML value, or the text itself where it is none (names and paths need no quotes)."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        put(version("marey"))
        raise typer.Exit()


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """What stands before the name of a command."""
