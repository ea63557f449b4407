"""The config as a flow's parameter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pipeline import allowed
from pipeline.config import Config, load
from pipeline.errors import UsageError

_SHIPPED = re.compile(r"[\w-]+")  # names of weights that marey brings
_OPTION = re.compile("^--set:")  # what the command calls the values given by key

Settings = dict[str, Any] | str | None
"""Path of a TOML file, or values by key (`{"video.sample_fps": 5}`, or tables in tables). No secrets:
Prefect stores and shows the parameters of runs."""


def read_settings(settings: Settings) -> Config:
    """The config, checked by the command's models; files that it names are held to the allow-list.

    Raises:
        UsageError: see `pipeline.config.load` and `pipeline.allowed`.
    """
    if isinstance(settings, str):
        allowed.check(settings)
        return _allowed(load(Path(settings)))
    try:
        return _allowed(load(None, settings))
    except UsageError as exc:
        what = _OPTION.sub("parameter config:", exc.what)
        raise UsageError(what, got=exc.got, remedy=exc.remedy) from exc


def _allowed(config: Config) -> Config:
    for name in files(config):
        allowed.check(name)
    return config


def files(config: Config) -> list[str]:
    """Weights and models that a config names by path or address, not those that marey brings."""
    perceive = config.perceive
    names = (perceive.weights, perceive.detector, config.track.weights, *config.events.models)
    return [name.partition("#")[0] for name in names if name and not _SHIPPED.fullmatch(name)]
