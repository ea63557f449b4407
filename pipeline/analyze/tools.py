"""The models of a run, loaded once, and the digests by which results depend on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

from pipeline import ids
from pipeline.config import Config
from pipeline.errors import ModelError

if TYPE_CHECKING:
    from models.motion import MotionModel
    from models.temporal import EventModel
    from pipeline.perceive import Perceiver


@dataclass(frozen=True)
class Ids:
    """The three ids of an analysis."""

    perception: str
    tracking: str
    analysis: str


class Tools:
    """Models by role. Digests are read at once, networks when they are first needed."""

    def __init__(self, config: Config) -> None:
        """Find the weights.

        Raises:
            ModelError: a weights file is missing.
        """
        from models.checkpoint import weights_path

        self.config = config
        self._paths = {
            "detector": weights_path(_named(config.perceive.weights, "detector")),
            "motion": weights_path(_named(config.track.weights, "motion")),
        }
        self._event_paths = {name: weights_path(name) for name in config.events.models}
        self.digests = {role: _digest(path) for role, path in self._paths.items()}
        self.event_digests = {path.stem: _digest(path) for path in self._event_paths.values()}

    @cached_property
    def perceiver(self) -> Perceiver:
        from pipeline.perceive import Perceiver

        return Perceiver(self.config.perceive, threads=self.config.run.threads)

    @cached_property
    def motion(self) -> MotionModel:
        from pipeline.track.text import load_motion_weights

        return load_motion_weights(self.config.track.weights)

    @cached_property
    def event_models(self) -> Mapping[str, EventModel]:
        from pipeline.events import load_event_model

        return {path.stem: load_event_model(str(path))[0] for path in self._event_paths.values()}

    def ids(self, content_id: str, camera: str | None) -> Ids:
        """The ids that an analysis of this content by this camera would have."""
        perception = ids.perception_id(content_id, self.config, {"detector": self.digests["detector"]})
        tracking = ids.tracking_id(perception, self.config, {"motion": self.digests["motion"]})
        return Ids(perception, tracking, ids.analysis_id(tracking, self.config, self.event_digests, camera))

    @cached_property
    def weights_json(self) -> str:
        return json.dumps(self.digests | {f"events.{k}": v for k, v in self.event_digests.items()})


def video_id(content_id: str, camera: str | None, recorded_at: datetime | None) -> str:
    """Id of a video; see `pipeline.ids`."""
    return ids.video_id(content_id, camera, recorded_at)


def program_version() -> str:
    """Version of marey."""
    return version("marey")


def _named(value: str, default: str) -> str:
    return default if value == "default" else value


def _digest(path: object) -> str:
    from pathlib import Path

    from models.checkpoint import file_digest

    try:
        return file_digest(Path(str(path)))
    except ValueError as exc:
        raise ModelError(str(exc), remedy="give a path that exists, or `default`") from exc
