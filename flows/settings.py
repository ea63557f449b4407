"""The config as a flow's parameter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from models.files import description_of
from pipeline import allowed
from pipeline.config import Config, load
from pipeline.errors import UsageError

_SHIPPED = re.compile(r"[\w-]+")  # names of weights that marey brings
_OPTION = re.compile("^--set:")  # what the command calls the values given by key

Settings = dict[str, Any] | str | None
"""Path of a TOML file, or values by key (`{"video.sample_fps": 5}`, or tables in tables). No secrets:
Prefect stores and shows the parameters of runs."""


def read_settings(settings: Settings) -> Config:
    """The config, checked by the command's models; what it names outside is held to the allow-list.

    What defaults and the worker's own environment name is not the choice of who submits a run, and passes.

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
    if allowed.prefixes() is None:
        return config
    own = load()
    for name in set(files(config)) - set(files(own)):
        allowed.check(name)
    for key, address in receivers(config).items():
        if address != receivers(own).get(key) and allowed.refusal(address) is not None:
            # What stands behind the host is often a secret.
            place = f"{key} at {urlsplit(address).hostname}"
            raise UsageError(f"{place} may not be used here", remedy=f"{allowed.VARIABLE} lists what may")
    return config


def files(config: Config) -> list[str]:
    """Weights and models that a config names by path or address, not those that marey brings."""
    perceive = config.perceive
    names = [perceive.weights, perceive.detector, config.track.weights, *config.events.models]
    if "://" in perceive.detector:  # its description is fetched, too
        names.append(description_of(perceive.detector))
    return outside(*names)


def outside(*names: str) -> list[str]:
    """Of names of weights, the paths and addresses, without the digests behind them."""
    return [name.partition("#")[0] for name in names if name and not _SHIPPED.fullmatch(name)]


def receivers(config: Config) -> dict[str, str]:
    """Where a config sends messages, by key."""
    named = {"notify.webhook": config.notify.webhook, "notify.queue": config.notify.queue}
    return {key: address for key, address in named.items() if address}
