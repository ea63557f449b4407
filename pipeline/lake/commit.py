"""How a result becomes visible: rows first, then one row of `analyses` by compare-and-set.

The big tables are only appended to, under run_ids that nobody knows yet. The row of `analyses` that names
these runs is the commit. It carries `revision` = the video's last revision + 1 and the same as a Delta
application transaction on the snapshot that was read, so that of two writers who read the same state one
fails, reads again and decides again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.config import Config
from pipeline.ids import config_id
from pipeline.lake.lookup import History, histories, known_pictures, known_videos, quoted, run_sql
from pipeline.lake.records import (
    DROPPED,
    ENDED,
    Analysis,
    VideoName,
    analyses_table,
    names_table,
    stamped,
)
from pipeline.lake.schema import CONFIGS, PARTITIONED
from pipeline.lake.tables import Lake, revision_key
from pipeline.retry import contended


class Decision(Enum):
    """What becomes of an ending."""

    COMMITTED = "committed"  # its row is written; now, or before an answer was lost
    DUPLICATE = "duplicate"  # an analysis with the same id that is as good is current; ours is not needed
    OVERTAKEN = "overtaken"  # another analysis became current since ours was planned; plan again
    ABANDONED = "abandoned"  # our rows were given up for dead, may be gone: append them in a new attempt


@dataclass(frozen=True, kw_only=True)
class Ending:
    """An attempt that has come to its end, and what is still to be written of it.

    `basis` is the revision of the analysis that was current when the work was planned, 0 if none was. A
    success, or a note that rows are dropped, is committed only if that is still current; a failure always.
    `rows` are those of the big tables not yet appended, with their place; `names` those of `videos`.
    """

    analysis: Analysis
    basis: int = 0
    rows: Mapping[str, pa.Table] = field(default_factory=dict)
    names: tuple[VideoName, ...] = ()

    def __post_init__(self) -> None:
        if self.analysis.status == "running":
            raise ValueError("an ending has another status than running")
        if unknown := set(self.rows) - set(PARTITIONED):
            raise ValueError(f"rows are for {PARTITIONED}, got {sorted(unknown)}")


@dataclass(frozen=True)
class Outcome:
    """`revision` is that of the row written, of what is current instead, or of the abandonment.

    `analysis` is the row as it stands in the lake, if it was committed: after an answer that was lost another
    end of the attempt may be there than the one that was asked for.
    """

    analysis: Analysis
    decision: Decision
    revision: int


def decide(ending: Ending, history: History) -> tuple[Decision, int] | None:
    """What becomes of an ending in view of the video's history; None: it is to be committed now."""
    ours = ending.analysis
    own = {row.status: row for row in history.of_attempt(ours.attempt_id)}
    for status in (*ENDED, DROPPED):
        if status in own:
            return Decision.COMMITTED, own[status].revision
    current = history.current
    if ours.status == DROPPED and (current is None or current.revision != ending.basis):
        return Decision.OVERTAKEN, history.last_revision
    if not ours.succeeded:
        return None
    for status in ("abandoned", "crashed"):
        if status in own:
            return Decision.ABANDONED, own[status].revision
    if current is None:
        # What was planned on may be gone: its rows were dropped, and ours may lean on them.
        return (Decision.OVERTAKEN, history.last_revision) if ending.basis else None
    if current.analysis_id == ours.analysis_id:
        return (Decision.DUPLICATE, current.revision) if current.as_good_as(ours) else None
    return None if current.revision == ending.basis else (Decision.OVERTAKEN, current.revision)


def start_attempts(lake: Lake, attempts: Sequence[Analysis]) -> list[Analysis]:
    """Write the running rows of attempts that begin, all in one commit, and give them back as written.

    Raises:
        ConflictError: others kept writing to these videos for a minute; nothing is written.
        StorageError: the lake cannot be written.
    """
    if wrong := [row.status for row in attempts if row.status != "running"]:
        raise ValueError(f"an attempt begins as running, got {wrong[0]!r}")
    there: dict[str, Analysis] = {}

    def choose(found: Mapping[str, History]) -> list[Analysis]:
        # A row whose answer was lost is there already.
        there.update({row.attempt_id: row for history in found.values() for row in history.rows})
        return [row for row in attempts if row.attempt_id not in there]

    written = _compare_and_set(lake, attempts, choose)
    return [written.get(row.attempt_id) or there[row.attempt_id] for row in attempts]


def commit(lake: Lake, endings: Sequence[Ending]) -> list[Outcome]:
    """Make finished attempts visible: names, then rows, one append per table, then all in one commit.

    What is a duplicate or overtaken already is not appended. A kill at any moment leaves each video's old
    state or its new one.

    Raises:
        ConflictError: others kept writing to these videos for a minute. Nothing is visible.
        StorageError: the lake cannot be written. Nothing is visible.
    """
    put_names(lake, [name for ending in endings for name in ending.names])
    plan = _plan(endings, histories(lake, [ending.analysis.video_id for ending in endings]))
    for name in PARTITIONED:
        parts = [ending.rows[name] for ending in plan.wanted if name in ending.rows]
        if parts:
            lake.append(name, pa.concat_tables(parts))
    decided: dict[str, Outcome] = {}

    def choose(found: Mapping[str, History]) -> list[Analysis]:
        plan = _plan(endings, found)
        decided.clear()
        decided.update(plan.decided)
        return [ending.analysis for ending in plan.wanted]

    written = _compare_and_set(lake, [ending.analysis for ending in endings], choose)
    for attempt, row in written.items():
        decided[attempt] = Outcome(row, Decision.COMMITTED, row.revision)
    return [decided[ending.analysis.attempt_id] for ending in endings]


class GroupCommit:
    """A buffer of endings, committed together when it is full, old or large.

    Not for several threads. What is still in it when the program dies was never visible.
    """

    MAX_BYTES = 256_000_000

    def __init__(self, lake: Lake, interval_s: float, max_videos: int) -> None:
        self._lake = lake
        self._interval_s = interval_s
        self._max_videos = max_videos
        self._endings: list[Ending] = []
        self._names: list[VideoName] = []
        self._num_bytes = 0
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._endings)

    def add(self, ending: Ending) -> list[Outcome]:
        """Take an ending; returns the outcomes of a commit if one was due."""
        self._begin()
        self._endings.append(ending)
        self._num_bytes += sum(rows.nbytes for rows in ending.rows.values())
        return self.flush() if self.due() else []

    def add_name(self, name: VideoName) -> None:
        """Take a name of a video that has its result; who asks next whether a commit is due makes it."""
        self._begin()
        self._names.append(name)

    def _begin(self) -> None:
        if not self._endings and not self._names:
            self._since = time.monotonic()

    def due(self) -> bool:
        """Whether to commit now: enough videos, seconds or bytes have come together."""
        held = len(self._endings) + len(self._names)
        if not held:
            return False
        full = held >= self._max_videos or self._num_bytes >= self.MAX_BYTES
        return full or time.monotonic() - self._since >= self._interval_s

    def flush(self) -> list[Outcome]:
        """Commit all that is buffered. After an error it is still there."""
        put_names(self._lake, self._names)
        self._names = []
        outcomes = commit(self._lake, self._endings) if self._endings else []
        self._endings, self._num_bytes = [], 0
        return outcomes


def put_config(lake: Lake, config: Config) -> str:
    """Store the resolved config, without secrets, unless an equal one is there; returns its config_id."""
    config = config.bare()
    key = config_id(config)
    row = {"config_id": key, "config": config.model_dump_json(), "seen_at": datetime.now(UTC)}
    sql = f"SELECT config_id FROM configs WHERE config_id = {quoted(key)}"

    def unless_there(snapshot: DeltaTable) -> None:
        if not run_sql(snapshot, "configs", sql).num_rows:
            lake.append_if_unchanged(snapshot, "configs", pa.Table.from_pylist([row], CONFIGS), [(key, 1)])

    contended(lake.named("configs"), lambda: lake.ask("configs", unless_there))
    return key


def put_names(lake: Lake, names: Sequence[VideoName]) -> None:
    """Write names whose newest version is another or none; what is older than the newest is left out.

    A video that was met before under another camera or time was not opened again: its picture is taken over.
    """
    known = known_videos(lake, [name.uri for name in names])
    new: list[VideoName] = []
    for name in names:
        last = known.get(name.uri)
        same = last is not None and (last.video_id, last.etag) == (name.video_id, name.etag)
        if not same and (last is None or last.seen_at < name.seen_at):
            new.append(name)
            known[name.uri] = name
    pictures = known_pictures(
        lake, (name for name in new if name.thumbnail is None and name.width_px is not None)
    )
    new = [replace(name, thumbnail=name.thumbnail or pictures.get(name.content_id)) for name in new]
    lake.append("videos", names_table(new))


@dataclass
class _Plan:
    wanted: list[Ending] = field(default_factory=list)
    decided: dict[str, Outcome] = field(default_factory=dict)


def _plan(endings: Sequence[Ending], found: Mapping[str, History]) -> _Plan:
    """Which endings are to be committed now. Of two of one video the second meets the first as committed."""
    plan = _Plan()
    meanwhile = dict(found)
    for ending in endings:
        row = ending.analysis
        history = meanwhile[row.video_id]
        if (decided := decide(ending, history)) is not None:
            decision, revision = decided
            own = {other.revision: other for other in history.of_attempt(row.attempt_id)}
            stands = own[revision] if decision is Decision.COMMITTED else row
            plan.decided[row.attempt_id] = Outcome(stands, decision, revision)
            continue
        plan.wanted.append(ending)
        after = stamped(row, history.last_revision + 1)
        meanwhile[row.video_id] = History((*history.rows, after))
    return plan


def _compare_and_set(
    lake: Lake, attempts: Sequence[Analysis], choose: Callable[[Mapping[str, History]], list[Analysis]]
) -> dict[str, Analysis]:
    """Append the rows that `choose` takes in view of all histories; by attempt_id, as written.

    Raises:
        ConflictError: not within the time for retries.
    """
    video_ids = [attempt.video_id for attempt in attempts]

    def on(snapshot: DeltaTable) -> dict[str, Analysis]:
        found = histories(lake, video_ids, snapshot)
        rows = _numbered(snapshot, found, choose(found))
        if rows:
            last = {row.video_id: row.revision for row in rows}
            lake.append_if_unchanged(snapshot, "analyses", analyses_table(rows), last.items())
        return {row.attempt_id: row for row in rows}

    return contended(lake.named("analyses"), lambda: lake.ask("analyses", on))


def _numbered(snapshot: DeltaTable, found: Mapping[str, History], rows: Sequence[Analysis]) -> list[Analysis]:
    """Rows with their revisions: above the video's rows or, of one that was forgotten lately, above those."""
    seen: Counter[str] = Counter()
    numbered = []
    for row in rows:
        base = found[row.video_id].last_revision
        if not base:  # asking costs the whole log
            base = snapshot.transaction_version(revision_key(row.video_id)) or 0
        seen[row.video_id] += 1
        numbered.append(stamped(row, base + seen[row.video_id]))
    return numbered
