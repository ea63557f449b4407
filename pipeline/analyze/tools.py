"""The models of a run, loaded once, and the digests by which results depend on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from models.brought import brought_digest, read_spec
from models.cores import usable_cores
from models.files import CheckpointError, file_digest
from pipeline import ids
from pipeline.config import CLASSES, Config, PerceiveConfig
from pipeline.errors import ModelError, UsageError
from pipeline.events import (
    MAX_GAP_S,
    behind_another_detector,
    load_event_model,
    shown_too_few_frames,
)
from pipeline.perceive import resolved
from pipeline.weights import detector_path, weights_path

if TYPE_CHECKING:
    from models.event_network import EventNetwork
    from models.motion import MotionModel
    from pipeline.lake.records import Analysis
    from pipeline.perceive import Perceiver


_MAX_DECODERS, _MAX_BESIDE_CNN = 16, 4


@dataclass(frozen=True)
class Ids:
    """The three ids of an analysis."""

    perception: str
    tracking: str
    analysis: str


class Tools:
    """Models by role. Digests are read at once, networks when they are first needed."""

    def __init__(self, config: Config, *, perceives: bool = True) -> None:
        """Find the weights; without `perceives` those of the CNN are not asked for.

        Raises:
            ModelError: a weights file is missing, or two event models have one name.
            UsageError: a rule is for a class that the default weights do not know.
        """
        self.config = config.model_copy(update={"perceive": resolved(config.perceive)})
        self._event_paths = _by_stem(config.events.models)
        self.perception_digests = _perception_digests(config.perceive) if perceives else {}
        self.digests = {"motion": _digest("motion", config.track.weights), **self.perception_digests}
        self._classes: tuple[str, ...] | None = None  # that the detector knows, if that is known
        if config.perceive.detector:
            self._classes = tuple(read_spec(detector_path(config.perceive.detector)).classes)
        elif config.perceive.weights == "default":
            self._classes = CLASSES
        if self._classes is not None:
            _check_classes(config, self._classes)
        self.event_digests = {stem: _digest(stem, name) for stem, name in self._event_paths.items()}

    @cached_property
    def perceiver(self) -> Perceiver:
        digests = tuple(self.perception_digests.items())
        return _perceiver(self.config.perceive, self.config.run.threads, digests)

    @cached_property
    def motion(self) -> MotionModel:
        from pipeline.track.text import load_motion_weights

        return load_motion_weights(self.config.track.weights)

    @cached_property
    def event_models(self) -> Mapping[str, EventNetwork]:
        return {stem: load_event_model(name)[0] for stem, name in self._event_paths.items()}

    def load(self, *, perceiver: bool = False) -> None:
        """Load the networks now, so that wrong ones are met before an attempt begins.

        Raises:
            ModelError: weights cannot be used, or the device or runtime is not there.
            UsageError: a rule is for a class that the CNN does not know.
        """
        if perceiver and "scipy.optimize" not in sys.modules:  # for tracking, when frames are perceived
            Thread(target=import_module, args=["scipy.optimize"], daemon=True).start()
        _ = self.motion, self.event_models
        if perceiver:
            _check_classes(self.config, self.perceiver.network.classes)

    def ids(self, content_id: str, camera: str | None) -> Ids:
        """The ids that an analysis of this content by this camera would have."""
        perception = ids.perception_id(content_id, self.config, self.perception_digests)
        return self.ids_of(perception, camera)

    def ids_of(self, perception_id: str, camera: str | None) -> Ids:
        """The ids that an analysis of this perception would have."""
        tracking = ids.tracking_id(perception_id, self.config, {"motion": self.digests["motion"]})
        analysis = ids.analysis_id(tracking, self.config, self.event_digests, camera)
        return Ids(perception_id, tracking, analysis)

    def warnings(self, perceived: Analysis | None) -> list[str]:
        """What to tell the user of models and settings over this perception; None: over a new one."""
        from pipeline.track import beyond_lookahead  # a run with nothing to do spares its imports

        digests = self.perception_digests if perceived is None else json.loads(perceived.weights or "{}")
        detector = digests.get("encoder", digests.get("detector"))
        lines = [behind_another_detector(n, model, detector) for n, model in self.event_models.items()]
        sample_fps = self.config.video.sample_fps
        if not _too_sparse(sample_fps):
            lines += [shown_too_few_frames(n, model, sample_fps) for n, model in self.event_models.items()]
        lines.append(beyond_lookahead(self.config.track))
        if perceived is None:
            lines += [_finds_no_objects(n, model, self._classes) for n, model in self.event_models.items()]
            lines += [_without_embeddings(self.config), _too_sparse(sample_fps)]
        return [line for line in lines if line is not None]

    def weights_json(self, perceived: Analysis | None) -> str:
        """Digests by role as JSON; of a perception that is taken over, its own detector's."""
        old = json.loads(perceived.weights or "{}") if perceived is not None else {}
        kept = {role: old[role] for role in ("detector", "encoder") if role in old}
        events = {f"events.{stem}": digest for stem, digest in self.event_digests.items()}
        return json.dumps(self.digests | kept | events)


def _without_embeddings(config: Config) -> str | None:
    if config.perceive.embeddings or not config.events.models:
        return None
    return (
        f"event models ({', '.join(config.events.models)}) find nothing without embeddings: "
        "set perceive.embeddings = true for them, or events.models = [] to go without"
    )


def _finds_no_objects(name: str, model: EventNetwork, known: Sequence[str] | None) -> str | None:
    """A line for the user where the detector knows none of the classes that the model needs; else None.

    `known` are the detector's classes, None where they are not known.
    """
    needed = model.config.classes
    if not needed or known is None or set(needed) & set(known):
        return None
    return (
        f"event model {name!r} takes events in which a {' or '.join(needed)} is seen, and the detector finds "
        "none: there will be no such events"
    )


def _too_sparse(sample_fps: float) -> str | None:
    if not sample_fps or 1 / sample_fps <= MAX_GAP_S:
        return None
    return (
        f"video.sample_fps = {sample_fps:g}: frames more than {MAX_GAP_S:g} s apart tell too little of each "
        "other to follow objects or score events; there will be detections, but no tracks, objects or events"
    )


def num_decoders(config: Config) -> int:
    """How many processes decode.

    Beside a CNN that takes all cores several get their share of them, where a single one would fall behind.
    A GPU leaves all cores to them.
    """
    if config.run.decoders:
        return config.run.decoders
    from models.runtime import choose

    cores = usable_cores()
    with suppress(ValueError):  # said when the network is opened
        if choose(config.perceive.runtime, config.perceive.device)[1] == "cuda":
            return min(cores, _MAX_DECODERS)
    return min(cores, _MAX_BESIDE_CNN)


@lru_cache(maxsize=1)
def _perceiver(settings: PerceiveConfig, threads: int, digests: tuple[tuple[str, str], ...]) -> Perceiver:
    """The CNN, kept by the process for its next run: loading takes as long as a minute of video.

    `digests` are there to tell whether the files are still those that were loaded.
    """
    from pipeline.perceive import Perceiver

    return Perceiver(settings, threads=threads)


def _perception_digests(settings: PerceiveConfig) -> dict[str, str]:
    """By role: `detector`, and `encoder` for the weights that give the vectors beside a brought detector."""
    if not settings.detector:
        return {"detector": _digest("detector", settings.weights)}
    try:
        brought = {"detector": brought_digest(detector_path(settings.detector))}
    except CheckpointError as exc:
        raise ModelError(str(exc), remedy="give a path that exists") from exc
    return brought | ({"encoder": _digest("detector", settings.weights)} if settings.embeddings else {})


def _check_classes(config: Config, known: Sequence[str]) -> None:
    for rule in config.rules:
        if unknown := sorted(set(rule.classes) - set(known)):
            raise UsageError(
                f"rule {rule.name!r}: unknown class {unknown[0]!r}",
                remedy=f"the detector knows {', '.join(known)}",
            )


def _by_stem(names: Sequence[str]) -> dict[str, str]:
    """Event models by the name that goes into ids and rows."""
    found: dict[str, str] = {}
    for name in names:
        if (stem := Path(name).stem) in found:
            raise ModelError(f"two event models are named {stem!r}", remedy="rename one of the files")
        found[stem] = name
    return found


def _digest(role: str, weights: str) -> str:
    try:
        return file_digest(weights_path(role if weights == "default" else weights))
    except CheckpointError as exc:
        raise ModelError(str(exc), remedy="give a path that exists, or `default`") from exc
