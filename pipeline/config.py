"""All settings: one pydantic tree, one TOML file.

Each field says its default, its unit and its meaning, and whether it can change a *result* (then it is part
of an id, see `pipeline.ids`) or only *speed*. Unknown keys are refused.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from models.files import bare
from pipeline.config_lines import line_in, perhaps, shown
from pipeline.errors import UsageError
from pipeline.keys import compile_pattern

CLASSES = ("person", "cycle", "car", "bus", "truck")

_MAX_DAYS = 36_500
"""A century, for spans that are counted back from now: much longer ones lead out of the calendar."""

Point = Annotated[tuple[float, float], Field(description="x, y")]


def result(default: Any, doc: str, **kwargs: Any) -> Any:
    """A field whose value can change rows."""
    return Field(default, description=doc, json_schema_extra={"changes": "result"}, **kwargs)


def speed(default: Any, doc: str, **kwargs: Any) -> Any:
    """A field that changes only how fast, where or with what safety the same rows are made."""
    return Field(default, description=doc, json_schema_extra={"changes": "speed"}, **kwargs)


def section(default: BaseModel, doc: str) -> Any:
    """A group of fields, a table in the TOML file."""
    return Field(default, description=doc)


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CameraPattern(Model):
    """How camera and recording time are read from an input's path or key."""

    pattern: str = result(
        "{camera}/{recorded_at:%Y/%m/%d/%H%M%S}",
        "end of the path, with or without its suffix; {camera} and {recorded_at:strptime format}",
    )
    timezone: str = result("UTC", "IANA time zone of the times in the path")

    @model_validator(mode="after")
    def _check(self) -> CameraPattern:
        compile_pattern(self.pattern, self.timezone)
        return self


class VideoConfig(Model):
    sample_fps: float = result(10.0, "ticks per second of the time grid; 0 takes every frame", ge=0, le=240)
    reader: Literal["pyav", "decord"] = result(
        "pyav", "what decodes: decord is tried for plain H.264 and HEVC only, and PyAV reads the rest"
    )
    max_pixels: int = speed(64_000_000, "pixels of a frame; a larger picture is refused", gt=0)
    max_streams: int = speed(64, "streams of a file; more are refused", gt=0)
    stall_s: float = speed(
        60.0, "seconds without progress in its file after which a decoding process is killed", gt=0
    )
    max_memory_mb: int = speed(2048, "MB that one decoding process may use before it is killed", gt=0)


class PerceiveConfig(Model):
    weights: str = result(
        "default",
        "detector weights: `default`, a .safetensors file, or https:// or s3:// ...#sha256=<its digest>",
    )
    detector: str = result(
        "",
        "an ONNX detector with its TOML beside it, in place of marey's own: a path, or https:// or s3:// "
        "...#sha256=<its digest>; gives the input's size",
    )
    input_width: int = result(544, "pixels; width of the CNN's input, a multiple of 32", gt=0, multiple_of=32)
    input_height: int = result(
        320, "pixels; height of the CNN's input, a multiple of 32", gt=0, multiple_of=32
    )
    fit: Literal["letterbox", "stretch"] = result(
        "letterbox", "how a picture fills the input: with its aspect kept and grey beside it, or without"
    )
    min_score: float = result(0.1, "detections below this score are not kept", ge=0, le=1)
    nms_iou: float = result(
        0.5, "of two boxes of a class that overlap more, the lower-scored is dropped", gt=0, le=1
    )
    max_detections: int = result(300, "boxes kept per frame, the best-scored", gt=0)
    still_threshold: float = result(
        0.0,
        "grey levels (of 255) by which no part of the picture may differ from the frame at which the scene "
        "last changed for a frame to take over detections; 2 passes over noise, 0: all are perceived",
        ge=0,
        le=255,
    )
    embeddings: bool = result(True, "store frame embeddings and appearance vectors")
    precision: Literal["auto", "float32", "bfloat16", "int8", "int8-bfloat16"] = result(
        "auto",
        "number format of the CNN; auto takes what OpenVINO and the CPU compute fastest in, among those that "
        "keep the detector's scores: int8 with VNNI, the rest in bfloat16 where there is that too",
    )
    device: Literal["auto", "cpu", "cuda"] = speed(
        "auto", "where the CNN runs; auto takes CUDA if there is a GPU that torch was built for"
    )
    runtime: Literal["auto", "torch", "openvino"] = speed(
        "auto", "what runs the CNN on a CPU; openvino has device = auto take the CPU"
    )
    keep_compiled: bool = speed(
        True, "keep the CNN that OpenVINO compiled in marey's cache, so that the next process begins sooner"
    )
    batch_size: int = result(
        8, "frames per CNN call; another number may change the last digits", gt=0, le=256
    )


class TrackConfig(Model):
    weights: str = result(
        "default",
        "motion weights: `default`, a .safetensors file, or https:// or s3:// ...#sha256=<its digest>",
    )
    high_score: float = result(0.4, "detections at or above it may start a track", ge=0, le=1)
    low_score: float = result(0.1, "detections at or above it may continue one", ge=0, le=1)
    max_gap_s: float = result(4.0, "seconds without a detection after which a track ends", gt=0)
    max_fill_s: float = result(2.0, "gaps of a track up to so many seconds are filled with boxes", ge=0)
    min_track_s: float = result(0.5, "tracks shorter than this are dropped", ge=0)
    lookahead_s: float = result(
        5.0, "seconds of future that may correct the past; max_gap_s and min_track_s reach 1 s less", ge=0
    )


class EventsConfig(Model):
    models: tuple[str, ...] = result(
        ("fight",),
        "event models: shipped names, .safetensors files, or https:// or s3:// ...#sha256=<their digests>",
    )
    # Of the ordinary clips that `fight` was trained on, 55% reach 0.5 somewhere and 8% reach 0.9.
    min_score: float = result(0.9, "event models: score that opens an interval", ge=0, le=1)
    min_duration_s: float = result(0.5, "event models: shorter intervals are dropped", ge=0)


_IN_ZONES = ("zone_entry", "zone_exit", "dwell", "appear", "disappear", "occupancy")


class Rule(Model):
    """A rule on tracks. `kind` decides which of the other fields apply."""

    name: str = result(..., "label of the events", min_length=1)
    kind: Literal[
        "line_crossing",
        "zone_entry",
        "zone_exit",
        "dwell",
        "stopped",
        "wrong_way",
        "appear",
        "disappear",
        "occupancy",
        "crowding",
        "approach",
    ] = result(..., "what happens")
    cameras: str = result("*", "shell pattern of the cameras that the rule is for")
    classes: tuple[str, ...] = result(
        (), "only these classes, as known at each frame (tracks.class); empty: all"
    )
    line: tuple[Point, Point] | None = result(
        None, "line_crossing: from, to; wrong_way: an arrow the right way"
    )
    zone: tuple[Point, ...] | None = result(None, "polygon of three or more corners")
    units: Literal["normalised", "pixels"] = result(
        "normalised", "units of line and zone: 0..1 or displayed pixels"
    )
    direction: Literal["both", "left_to_right", "right_to_left"] = result(
        "both", "line_crossing: which way counts, seen along the line from its first to its second point"
    )
    anchor: Literal["bottom", "centre"] = result(
        "bottom", "point of the box that is compared with line and zone"
    )
    min_duration_s: float = result(
        0.0, "seconds a state must hold; must be given for dwell and stopped, line_crossing has none", ge=0
    )
    max_speed: float = result(0.1, "stopped: box heights per second below which an object stands", gt=0)
    min_speed: float = result(0.5, "wrong_way, approach: box heights per second at which it counts", gt=0)
    distance: float = result(1.5, "approach: box heights between anchors that are near", gt=0)
    min_count: int = result(1, "occupancy, crowding: objects inside at least", ge=1)
    hysteresis: float = result(0.05, "box heights by which an anchor must pass a border to count", ge=0)

    @model_validator(mode="after")
    def _check(self) -> Rule:
        from shapely import Polygon
        from shapely.validation import explain_validity

        by_line = self.kind in ("line_crossing", "wrong_way")
        if by_line and (self.line is None or self.line[0] == self.line[1]):
            raise ValueError(f"a {self.kind} needs line = [[x, y], [x, y]] with two different points")
        if self.kind in _IN_ZONES and self.zone is None:
            raise ValueError(f"{self.kind} needs zone = [[x, y], [x, y], [x, y], ...]")
        if self.kind in ("dwell", "stopped") and self.min_duration_s <= 0:
            raise ValueError(f"{self.kind} needs min_duration_s above 0")
        if self.kind == "crowding" and self.min_count < 2:
            raise ValueError("crowding needs min_count of 2 or more")
        if self.zone is not None:
            if len(self.zone) < 3:
                raise ValueError("zone needs at least three corners")
            polygon = Polygon(self.zone)
            if not polygon.is_valid or polygon.area == 0:
                raise ValueError(f"zone is not a simple polygon: {explain_validity(polygon)}")
        points = [*(self.line or ()), *(self.zone or ())]
        if self.units == "normalised" and any(not 0 <= c <= 1 for p in points for c in p):
            raise ValueError('coordinates outside 0..1: give fractions of the picture, or units = "pixels"')
        return self

    def applies_to(self, camera: str | None) -> bool:
        """Whether the rule is for this camera; one without a name matches only `*`."""
        return fnmatch.fnmatchcase(camera or "", self.cameras)


class LakeConfig(Model):
    commit_interval_s: float = speed(5.0, "seconds between group commits of finished videos", ge=0)
    commit_videos: int = speed(64, "finished videos after which a group commit is made at once", gt=0)
    conditional_put: bool = speed(
        True, "refuse a server that ignores If-None-Match; off, only one writer at a time is safe"
    )
    grace_h: float = speed(
        24.0, "hours after which an attempt without an end is given up for dead", ge=0, le=24 * _MAX_DAYS
    )
    history_days: float = speed(
        7.0, "days for which `marey compact` keeps what is no longer current, for --as-of", ge=0, le=_MAX_DAYS
    )
    keep_vectors_days: float = speed(
        0.0,
        "days after which `marey compact` drops the vectors of frames and detections; 0: never",
        ge=0,
        le=_MAX_DAYS,
    )
    max_attempts: int = speed(10, "attempts without an end after which a video is left alone", gt=0)


class RunConfig(Model):
    segment_s: float = speed(60.0, "seconds of video per segment, the unit of resume and scale-out", gt=0)
    max_spool_gb: float = speed(
        20.0, "GB of local disk for copies of inputs from s3:// and https://, in TMPDIR", gt=0
    )
    decoders: int = speed(
        0, "decoding processes; 0: one per usable core, 4 at most without a GPU", ge=0, le=64
    )
    threads: int = speed(0, "CPU threads of the CNN; 0 takes all usable cores", ge=0)


class NotifyConfig(Model):
    """Addresses may be secrets: this section is never stored. MAREY_NOTIFY__WEBHOOK sets one, too."""

    webhook: str = speed("", "address that gets a POST per message; empty: none")
    queue: str = speed("", "URL of an SQS queue that gets each message; empty: none")
    events: tuple[str, ...] = speed((), "shell patterns of labels; events that match one get a message each")
    cameras: str = speed("*", "shell pattern of the cameras of these events")
    min_score: float = speed(0.0, "score of these events at least", ge=0, le=1)


class Config(Model):
    """The whole configuration, as `load` resolves it."""

    cameras: tuple[CameraPattern, ...] = result(
        (CameraPattern(),), "patterns tried in order; the first match wins"
    )
    video: VideoConfig = section(VideoConfig(), "which frames are taken, and what decoding may cost")
    perceive: PerceiveConfig = section(PerceiveConfig(), "the CNN")
    track: TrackConfig = section(TrackConfig(), "detections to tracks")
    events: EventsConfig = section(EventsConfig(), "event models; rules are in [[rules]]")
    rules: tuple[Rule, ...] = result((), "rules on tracks")
    lake: LakeConfig = section(LakeConfig(), "commits")
    run: RunConfig = section(RunConfig(), "how the work is cut and spread")
    notify: NotifyConfig = Field(
        NotifyConfig(), description="messages after a commit; see pipeline/notify.py", exclude=True
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Config:
        names = [rule.name for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rules are named {twice[0]!r}; events are told apart by these names")
        return self

    @model_validator(mode="after")
    def _still_scenes_are_on_a_grid(self) -> Config:
        if self.perceive.still_threshold and not self.video.sample_fps:
            raise ValueError("perceive.still_threshold needs video.sample_fps above 0")
        return self

    def bare(self) -> Config:
        """As it may be stored: addresses of weights without what may be secret."""
        perceive, track, events = self.perceive, self.track, self.events
        return self.model_copy(
            update={
                "perceive": perceive.model_copy(
                    update={"weights": bare(perceive.weights), "detector": bare(perceive.detector)}
                ),
                "track": track.model_copy(update={"weights": bare(track.weights)}),
                "events": events.model_copy(update={"models": tuple(map(bare, events.models))}),
            }
        )

    def rules_for(self, camera: str | None) -> tuple[Rule, ...]:
        """The rules that match a camera, in the order of the file."""
        return tuple(rule for rule in self.rules if rule.applies_to(camera))


class _Environment(Config, BaseSettings):
    """Names the `MAREY_*` variables: MAREY_VIDEO__SAMPLE_FPS is video.sample_fps; lists are JSON."""

    model_config = SettingsConfigDict(env_prefix="MAREY_", env_nested_delimiter="__")


_Loc = tuple[str | int, ...]
_Places = dict[str, dict[str, Any]]
"""What stands at each layer, the last one deciding."""


def load(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read the config: defaults, then `path`, then `MAREY_*`, then `overrides` (dotted keys).

    Raises:
        UsageError: the file is missing or not TOML, a key is unknown or has a wrong value, or a rule is for a
            class that marey's own detector does not know.
    """
    places: _Places = {
        f"config {path}": _read_file(path) if path is not None else {},
        "MAREY_* environment": _read_environment(),
        "--set": _nested(overrides or {}),
    }
    values: dict[str, Any] = {}
    for layer in places.values():
        values = _merged(values, layer)
    try:
        config = Config.model_validate(values)
    except ValidationError as exc:
        raise UsageError(
            _explain(exc, places, path), remedy="`marey config --schema` lists every key"
        ) from exc
    if config.perceive.weights == "default" and not config.perceive.detector:
        _check_classes(config, places, path)
    return config


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a mark in front
    except OSError as exc:
        raise UsageError(f"config {path} cannot be read", remedy=exc.strerror or str(exc)) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"config {path} is not TOML", remedy=str(exc)) from exc


def _read_environment() -> dict[str, Any]:
    try:
        return EnvSettingsSource(_Environment)()
    except SettingsError as exc:
        raise UsageError("MAREY_* environment", remedy=f"{exc}; lists and sections are JSON") from exc


def _nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in dotted.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        values = _merged(values, value)
    return values


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """`high` over `low`, key by key; lists are replaced."""
    values = dict(low)
    for key, value in high.items():
        inner = values.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        values[key] = _merged(inner, value) if both else value  # type: ignore[arg-type]
    return values


def _check_classes(config: Config, places: _Places, path: Path | None) -> None:
    for number, rule in enumerate(config.rules):
        if unknown := sorted(set(rule.classes) - set(CLASSES)):
            loc = ("rules", number, "classes")
            raise UsageError(
                f"{_where(loc, places, path)}: rule {rule.name!r}: unknown class {unknown[0]!r}",
                remedy=f"the detector knows {', '.join(CLASSES)}",
            )


def _explain(exc: ValidationError, places: _Places, path: Path | None) -> str:
    """The first error in one line: file and line, its key, the value met and what is allowed."""
    first = exc.errors()[0]
    loc, value = first["loc"], first["input"]
    where = _where(loc, places, path)
    layer = _layer(loc, places)
    in_rule = layer is not None and loc[:1] == ("rules",) and len(loc) > 1
    key = _rule_key(places[layer]["rules"], loc) if layer and in_rule else ".".join(map(str, loc))
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {key!r}{perhaps(key, Config)}"
    message = first["msg"].removeprefix("Value error, ")
    if not loc:
        return f"config: {message}"
    # Of a whole section the message names what is wrong in it; addresses in [notify] may be secrets.
    if isinstance(value, Mapping) or loc[0] == "notify":
        return f"{where}: {key}: {message}"
    return f"{where}: {key} = {shown(value)}: {message}"


def _layer(loc: _Loc, places: _Places) -> str | None:
    """The name of the last layer that has something at a place."""
    return next((place for place in reversed(places) if _holds(places[place], loc[:2])), None)


def _where(loc: _Loc, places: _Places, path: Path | None) -> str:
    """What holds a place of the config, and the line if it is the file."""
    layer = _layer(loc, places)
    if path is None or layer != f"config {path}":
        return layer or "config"
    line = line_in(path.read_text(encoding="utf-8-sig"), loc)
    return f"{layer}, line {line}" if line is not None else layer


def _rule_key(rules: Any, loc: _Loc) -> str:
    """A place in a rule, by the rule's name if it has one."""
    rule = rules[loc[1]]
    name = rule.get("name") if isinstance(rule, Mapping) else None
    return ".".join(map(str, [f"rule {name!r}" if name else f"rules.{loc[1]}", *loc[2:]]))


def _holds(values: Any, loc: _Loc) -> bool:
    """Whether a layer has something at a place."""
    for part in loc:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True
