"""The config as a flow's parameter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import Config, load

Settings = dict[str, Any] | str | None
"""Path of a TOML file, or values by key (`{"video.sample_fps": 5}`, or tables in tables). No secrets:
Prefect stores and shows the parameters of runs."""


def read_settings(settings: Settings) -> Config:
    """The config, checked by the same models as the command's.

    Raises:
        UsageError: see `pipeline.config.load`.
    """
    if isinstance(settings, str):
        return load(Path(settings))
    return load(None, _whole_tables(settings)) if settings else load()


def _whole_tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """Each table that is named, whole: the defaults with the given values in their places."""
    defaults = load().model_dump()
    tables: dict[str, Any] = {}
    for key, value in values.items():
        table, dot, leaf = key.partition(".")
        new = {leaf: value} if dot else value
        old = tables.get(table, defaults.get(table))
        tables[table] = old | new if isinstance(old, dict) and isinstance(new, dict) else new
    return tables
