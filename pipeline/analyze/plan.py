"""What has to be done for a source, seen from what the lake holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum

from pipeline.analyze.outcome import Options
from pipeline.analyze.probing import probe
from pipeline.analyze.tools import Ids, Tools
from pipeline.config import Config
from pipeline.errors import MareyError, SourceError, os_errors_as
from pipeline.ids import content_id, new_run_id, video_id
from pipeline.lake import Lake
from pipeline.lake.lookup import History, find_perceptions, histories, known_videos, met
from pipeline.lake.records import Analysis, VideoName
from pipeline.lake.staging import Staging
from pipeline.lake.tables import DENIED
from pipeline.lake.vectors import runs_without
from pipeline.media import Feed, VideoInfo
from pipeline.sources import Missing, Source, Spool, camera_and_time, renewed

_INFO = ("duration_s", "width_px", "height_px", "codec", "fps_mean", "rotation")
"""What a container says of a video, in the fields of its name."""


class Step(Enum):
    """Where the work begins. Later steps follow."""

    NOTHING = "current"
    OTHER_CONFIG = "other_config"  # current, of another config; left alone
    FAILED_BEFORE = "failed"  # and would again
    EVENTS = "events"
    TRACKING = "tracking"
    COPY = "copy"  # perceived under another name: its rows are taken
    PERCEPTION = "perception"


READ_OTHERWISE = "this config reads another camera or recording time from its name"
"""Note of a video that is left as it is for that."""

_LIVELY = timedelta(minutes=10)
"""An attempt younger than this may be another worker's that is alive; it does not count as dead yet."""

_NO_WORK = (Step.NOTHING, Step.OTHER_CONFIG, Step.FAILED_BEFORE)


@dataclass(frozen=True)
class VideoPlan:
    """One source, identified, and where its work begins."""

    source: Source
    name: VideoName
    ids: Ids
    step: Step
    history: History
    perceived: Analysis | None = None  # whose rows of frames and detections are taken
    error: MareyError | None = None  # the file cannot be read; to be written down
    last_error: Analysis | None = None  # FAILED_BEFORE: what it said then
    note: str = ""  # OTHER_CONFIG: what else is to be said

    @property
    def current(self) -> Analysis | None:
        return self.history.current

    def opened(self, info: VideoInfo | None, duration_s: float | None = None) -> VideoPlan:
        """With what the container says, where it could be opened; `duration_s` where it was measured."""
        return self if info is None else replace(self, name=with_info(self.name, info, duration_s))

    @property
    def frame_size(self) -> tuple[int, int]:
        """Displayed width and height in pixels."""
        return self.name.width_px or 1, self.name.height_px or 1


class Planner:
    """Identifies sources and looks up what is known of them. Probing is done in a process of its own."""

    def __init__(self, lake: Lake, tools: Tools, options: Options, prober: Feed, spool: Spool) -> None:
        self.lake, self.tools, self.options, self.prober, self.spool = lake, tools, options, prober, spool
        self.config: Config = tools.config
        self._known: Mapping[str, VideoName] = {}
        self._denied = frozenset(lake.location.names(DENIED))
        self._bare = runs_without(lake)
        self._histories: dict[str, History] = {}  # of known videos, as they were when looked up
        self._perceptions: Mapping[str, Analysis] = {}  # likewise, of those that are wanted anew
        self._met: tuple[str, tuple[History, Analysis | None]] | None = None  # of the video being planned

    def look_up(self, sources: Sequence[Source]) -> None:
        """Read at once what the lake knows of all these, and begin to fetch those whose bytes are needed."""
        self._known = known_videos(self.lake, [source.uri for source in sources])
        self._histories = histories(self.lake, {name.video_id for name in self._known.values()})
        asked = [plan for source in sources if (plan := self._as_known(source)) is not None]
        wanted = {plan.ids.perception for plan in asked if plan.step is Step.PERCEPTION}
        self._perceptions = find_perceptions(self.lake, wanted)
        if not self.options.dry_run:
            self.spool.expect([source for source in sources if self.needs_bytes(source)])

    def needs_bytes(self, source: Source) -> bool:
        """Whether a remote source has to be read before or after it is planned, as far as is known.

        It is asked for every input, so it asks the lake for nothing.
        """
        if not source.is_remote:
            return False
        plan = self._as_known(source)
        if plan is None:
            return True
        return self._copied(plan, self._perceptions.get(plan.ids.perception)).step is Step.PERCEPTION

    def _as_known(self, source: Source) -> VideoPlan | None:
        """What is to be done for a remote source by what was looked up; None: it has to be read to tell."""
        known = self._known_as(source)
        if not source.is_remote or known is None or known.width_px is None:
            return None
        name = self._named(source, known, None)
        if (kept := self._kept(source, name)) is not None:
            return kept
        history = self._histories.get(name.video_id) or History()
        plan = VideoPlan(source, name, self.tools.ids(name.content_id, name.camera), Step.PERCEPTION, history)
        return self._reused(plan) or plan

    def is_known(self, name: VideoName) -> bool:
        """Whether the lake has this name of this version."""
        known = self._known.get(name.uri)
        return known is not None and (known.video_id, known.etag) == (name.video_id, name.etag)

    def plan(self, source: Source) -> VideoPlan | None:
        """Identify a source and say where its work begins; None: a dry run reads no bytes to tell.

        Raises:
            SourceError: the file vanished or cannot be read, or its content is refused; no row tells.
            StorageError: its bucket cannot be reached.
        """
        now = renewed(source)  # it may have been written to since it was listed
        if isinstance(now, Missing):
            raise now.error
        if self.needs_bytes(now):
            if self.options.dry_run and self._known_as(now) is None:
                return None
            if not self.options.dry_run:
                now = self.spool.get(now)
        plan = self._planned(now)
        reads = plan.step is Step.PERCEPTION and plan.error is None and not self.options.dry_run
        if reads and now.path is None:  # what its rows were to be taken from went since the look-up
            return self._planned(self.spool.get(now))
        return plan

    def _planned(self, source: Source) -> VideoPlan:
        self._met = None
        name, error = self._identify(source)
        if name.content_id in self._denied:
            raise denial(source)
        return self._decided(source, name, error)

    def _decided(self, source: Source, name: VideoName, error: MareyError | None) -> VideoPlan:
        if (kept := self._kept(source, name)) is not None:
            return kept
        ids = self.tools.ids(name.content_id, name.camera)
        history = self._histories.get(name.video_id)
        known = history or History()
        plan = VideoPlan(source, _dated(name, known), ids, Step.PERCEPTION, known, error=error)
        if history is not None and (decided := self._reused(plan)) and decided.step in _NO_WORK:
            return decided
        # What is worked on is planned on what the lake says now.
        history, other = self._met_now(name)
        plan = replace(plan, history=history, name=_dated(name, history))
        if (decided := self._reused(plan)) is not None:
            return decided
        if plan.error is None and (error := self._quarantine(plan)):
            return replace(plan, error=error)
        return self._copied(plan, other)

    def _kept(self, source: Source, name: VideoName) -> VideoPlan | None:
        """The plan of a name that was another video by an earlier config, and stays it.

        Else a single run without the lake's config would take camera, times and rules from all its videos.
        """
        known = self._known.get(source.uri)
        if known is None or known.content_id != name.content_id or known.video_id == name.video_id:
            return None
        history = self._histories.get(known.video_id)
        if history is None or history.current is None or self.options.upgrade or self.options.force:
            return None
        stays = replace(known, etag=name.etag, seen_at=name.seen_at, run_id=name.run_id)
        ids = self.tools.ids(known.content_id, known.camera)
        return VideoPlan(source, stays, ids, Step.OTHER_CONFIG, history, note=READ_OTHERWISE)

    def _met_now(self, name: VideoName) -> tuple[History, Analysis | None]:
        """The video's history and an analysis with its perception, asked for once for each plan."""
        if self._met is None or self._met[0] != name.video_id:
            perception = self.tools.ids(name.content_id, name.camera).perception
            self._met = name.video_id, met(self.lake, name.video_id, perception)
        return self._met[1]

    def _copied(self, plan: VideoPlan, other: Analysis | None) -> VideoPlan:
        """The plan, taking over the perception that another video has."""
        if other is None or other.status != "ok" or other.video_id == plan.name.video_id:
            return plan
        copied = replace(plan, step=Step.COPY, perceived=other)
        return copied if vectors_suffice(copied, self.tools, self._bare) else plan

    def _reused(self, plan: VideoPlan) -> VideoPlan | None:
        """What the video's own history leaves to do; None: it has to be perceived."""
        current, ids = plan.current, plan.ids
        if current is not None:
            whole = current.status == "ok" or not (self.options.retry_failed and _retriable(current))
            if current.analysis_id == ids.analysis and whole:
                return replace(plan, step=Step.NOTHING)
            if current.analysis_id != ids.analysis and not (self.options.upgrade or self.options.force):
                return replace(plan, step=Step.OTHER_CONFIG)
            step = Step.EVENTS if current.tracking_id == ids.tracking else Step.TRACKING
            again = replace(plan, step=step, perceived=current)
            if current.perception_id == ids.perception and whole:
                return again if vectors_suffice(again, self.tools, self._bare) else None
        elif (failed := _last_failure(plan)) and not (
            self.options.force or (self.options.retry_failed and _retriable(failed))
        ):
            return replace(plan, step=Step.FAILED_BEFORE, last_error=failed)
        return None

    def _quarantine(self, plan: VideoPlan) -> SourceError | None:
        """Refuse a video whose attempts never come to an end; each finished segment earns one more."""
        found = plan.history.dead(datetime.now(UTC) - _LIVELY)
        dead = [row for row in found if row.attempt_id != self.options.attempt_id]  # that one goes on here
        allowed = self.config.lake.max_attempts + len(Staging(self.lake, plan.ids.perception).segments())
        if len(dead) < allowed or self.options.retry_failed or self.options.force:
            return None
        return SourceError(
            f"{plan.source.uri}: {len(dead)} attempts at it were killed or met a bug",
            remedy="--retry-failed tries again",
            code="quarantined",
        )

    def _identify(self, source: Source) -> tuple[VideoName, MareyError | None]:
        """Which video the source is, and the error of one that cannot be opened."""
        known = self._known_as(source)
        # A file without a size was no video: ask again, the answer is quick.
        if source.path is not None and (known is None or known.width_px is None):
            probed = probe(self.prober, source, self.config.video)
            name = self._named(source, known, probed.info)
            return replace(name, thumbnail=probed.thumbnail), probed.error
        return self._named(source, known, None), None

    def _known_as(self, source: Source) -> VideoName | None:
        """What is known of this version of a name."""
        known = self._known.get(source.uri)
        if known is None or source.etag is None or self._asks_container(known):
            return None
        return known if (known.etag, known.size_bytes) == (source.etag, source.size_bytes) else None

    def _asks_container(self, known: VideoName) -> bool:
        """Whether the time is from a name that tells none by this config: then the container's counts."""
        anew = self.options.upgrade or self.options.force
        told_before = known.recorded_at_source == "key"
        return anew and told_before and camera_and_time(known.uri, self.config.cameras)[1] is None

    def _named(self, source: Source, known: VideoName | None, info: VideoInfo | None) -> VideoName:
        content = source.content_id or (_hash(source) if known is None else known.content_id)
        camera, recorded_at, origin = self._recording(source, known, info)
        name = VideoName(
            video_id=video_id(content, camera, recorded_at),
            camera=camera,
            date=(recorded_at or source.changed_at).astimezone(UTC).date(),
            run_id=new_run_id(),
            uri=source.uri,
            etag=source.etag,
            size_bytes=source.size_bytes,
            content_id=content,
            seen_at=source.seen_at,
            recorded_at=recorded_at,
            recorded_at_source=origin,
        )
        if info is not None:
            name = with_info(name, info)
        elif known is not None:
            name = replace(name, **{field: getattr(known, field) for field in _INFO})
        return name

    def _recording(
        self, source: Source, known: VideoName | None, info: VideoInfo | None
    ) -> tuple[str | None, datetime | None, str | None]:
        """Camera, recording time and where the time is from: the key, else the container."""
        camera, recorded_at = camera_and_time(source.uri, self.config.cameras)
        if recorded_at is not None:
            return camera, recorded_at, "key"
        if info is not None and info.creation_time is not None:
            return camera, info.creation_time.astimezone(UTC), "container"
        if info is None and known is not None and known.recorded_at_source == "container":
            return camera, known.recorded_at, "container"
        return camera, None, None


def denial(source: Source) -> SourceError:
    """The error of a source whose content was forgotten and may not come back."""
    what = f"{source.uri}: this content was forgotten and is refused"
    return SourceError(what, remedy="leave it out", code="denied")


def vectors_suffice(plan: VideoPlan, tools: Tools, bare: str) -> bool:
    """Whether the perception that a plan takes has the vectors that its step needs.

    Args:
        plan: One that reuses a perception.
        tools: Of its config.
        bare: Runs whose ids sort below it have lost their vectors.
    """
    needed = tools.config.perceive.embeddings and (plan.step is not Step.EVENTS or tools.event_digests)
    run = plan.perceived.perception_run_id if plan.perceived else None
    return not needed or (run or "") >= bare


def with_info(name: VideoName, info: VideoInfo, duration_s: float | None = None) -> VideoName:
    """A name with what its container says; `duration_s` where it was measured."""
    said = {field: getattr(info, field) for field in _INFO}
    return replace(name, **said | ({} if duration_s is None else {"duration_s": duration_s}))


def _dated(name: VideoName, history: History) -> VideoName:
    """The name with the date under which the video's rows lie.

    Without a recording time it is of the file that was analysed first. Of two workers that began at copies of
    different age that is the one whose result is current.
    """
    if name.recorded_at is not None or not history.rows:
        return name
    return replace(name, date=(history.current or history.rows[0]).date)


def _hash(source: Source) -> str:
    if source.path is None:
        raise ValueError(f"{source.uri} is not spooled")
    with os_errors_as(SourceError, f"{source.uri} cannot be read"):
        return content_id(source.path)


def _last_failure(plan: VideoPlan) -> Analysis | None:
    ended = [row for row in plan.history.rows if row.perception_id == plan.ids.perception]
    return ended[-1] if ended and ended[-1].failed else None


def _retriable(row: Analysis) -> bool:
    """Whether what is lost may be got by trying again: anything but damaged bytes."""
    causes = {gap["cause"] for gap in row.gaps}
    return bool(causes - {"media"}) or (row.status == "failed" and not final(row.error_code))


def final(error_code: str | None) -> bool:
    """Whether the same bytes will fail again."""
    return (error_code or "").startswith("media")
