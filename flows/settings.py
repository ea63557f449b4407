"""The config as a flow's parameter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pipeline.config import Config, load
from pipeline.errors import UsageError

_OPTION = re.compile("^--set:")  # what the command calls the values given by key

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
    try:
        return load(None, settings)
    except UsageError as exc:
        what = _OPTION.sub("parameter config:", exc.what)
        raise UsageError(what, got=exc.got, remedy=exc.remedy) from exc
