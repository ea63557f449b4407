"""`marey compact`: what nobody needs goes, what stays lies in order in files of a good size.

Safe beside writers, readers and another compaction. A partition is replaced in one commit, which fails if it
was written since it was read. Rows go only if no success that is current, or was within the history, names
their run, and no attempt that may still come to name it is under way: such attempts, if they are older than
the grace, are first marked as abandoned by a row of their own, so that a worker that wakes up late loses its
compare-and-set and appends its rows again. Old files stay for a day for those who read them.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import chain, islice

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from pipeline.config import LakeConfig
from pipeline.errors import ConflictError, StorageError, TransientError
from pipeline.ids import new_run_id
from pipeline.lake.commit import Ending, commit
from pipeline.lake.current import RUN, newest_results, timestamp
from pipeline.lake.layout import writer_properties
from pipeline.lake.lookup import LOST, current_analyses, histories
from pipeline.lake.query import query
from pipeline.lake.reach import note_whole_since
from pipeline.lake.records import DROPPED
from pipeline.lake.rewrite import FILE_BYTES, RunRows, adds, rewrite, runs_in
from pipeline.lake.schema import PARTITIONED, TABLES
from pipeline.lake.staging import FOLDER
from pipeline.lake.tables import Lake
from pipeline.lake.vectors import note_runs_without, runs_before, vector_bytes
from pipeline.retry import again, contended

SMALL_BYTES = 64 << 20
"""Two files of a partition below this are put together."""

_VACUUM_H = 24
_CLOCKS = timedelta(seconds=1)  # between a run's number and its attempt's start, one rounded
_SMALL_FILES = 20  # of a table without partitions, before they are put together
_RUNS = ("perception_run_id", "tracking_run_id", "events_run_id")


@dataclass(frozen=True)
class PartitionResult:
    """What became, or with a dry run would become, of one partition."""

    table: str
    date: date
    rows: int
    rows_dropped: int
    files: int
    size_bytes: int
    vector_bytes_dropped: int  # about, of rows that stay
    state: str  # kept, rewritten, busy


def compact(lake_uri: str, settings: LakeConfig, *, dry_run: bool = False) -> list[PartitionResult]:
    """Compact a lake.

    Args:
        lake_uri: the lake.
        settings: `grace_h`, `history_days` and `keep_vectors_days`.
        dry_run: say what would be done.

    Raises:
        UsageError: there is no lake.
        StorageError: it cannot be read or written; each partition is in its old or its new state.
    """
    lake = Lake.open(lake_uri, create=False, extend=not dry_run)
    now = datetime.now(UTC)
    grace, since = now - timedelta(hours=settings.grace_h), now - timedelta(days=settings.history_days)
    bound = (
        runs_before(now - timedelta(days=settings.keep_vectors_days)) if settings.keep_vectors_days else ""
    )
    if not dry_run:
        _abandon(lake, grace)
        note_whole_since(lake, since)
        if bound:
            note_runs_without(lake, bound)
    # Whatever begins after this look has runs younger than `grace`, and those stay.
    needed = _needed(lake, grace, since, bound, dry_run)
    if not dry_run:
        _say_dropped(lake, needed)
    results = [result for name in PARTITIONED for result in _compact_table(lake, name, needed, dry_run)]
    if not dry_run:
        _clear_staging(lake, min(grace, since))
        for name in TABLES:
            again(partial(_tidy, lake, name))
    return results


@dataclass(frozen=True)
class _Needed:
    """Which runs are needed, by what `analyses` says."""

    kept: dict[str, frozenset[str]]  # by column of `analyses`: current, or so within the history
    named: dict[str, frozenset[str]]  # likewise, by any success
    at_work: dict[str, datetime]  # video_id to the start of its oldest attempt that is under way
    grace: datetime
    vectors_from: str  # runs whose ids sort below it lose their vectors

    def needs(self, table: str, run: RunRows) -> bool:
        if run.run_id in self.kept[RUN[table]]:
            return True
        if run.run_id in self.named[RUN[table]]:
            return run.video_id in self.at_work  # whoever is at work may have planned on it
        # Not named yet: whoever is at work may come to name it. An attempt is older than its runs.
        begun, oldest = _time_of(run.run_id), self.at_work.get(run.video_id)
        return begun >= self.grace or (oldest is not None and oldest <= begun + _CLOCKS)


def _needed(lake: Lake, grace: datetime, since: datetime, vectors_from: str, dry_run: bool) -> _Needed:
    uri, columns = str(lake.location), ", ".join(_RUNS)
    named = query(uri, f"SELECT committed_at, {columns} FROM analyses WHERE status IN ('ok', 'partial')")
    current = query(uri, f"SELECT {columns} FROM analyses_current")
    before = query(uri, f"SELECT {columns} FROM analyses_current", since, whole=False)
    named_since = query(uri, _NAMED_SINCE.format(columns=columns, since=timestamp(since)))
    later = named.filter(pc.greater(named["committed_at"], since))
    open_ones = query(uri, _UNENDED).to_pylist()
    alive = [row for row in open_ones if not dry_run or row["started_at"] >= grace]
    starts: dict[str, datetime] = {}
    for row in alive:
        starts[row["video_id"]] = min(row["started_at"], starts.get(row["video_id"], row["started_at"]))
    return _Needed(
        {run: _values(run, current, before, named_since, later) for run in _RUNS},
        {run: _values(run, named) for run in _RUNS},
        starts,
        grace,
        vectors_from,
    )


# By a name that came later what no name led to, such as a file that was written over, was current again.
_NAMED_SINCE = (
    "SELECT {columns} FROM analyses AS a "
    f"JOIN ({newest_results(' AND committed_at <= {since}')}) AS newest "
    "ON a.video_id = newest.video_id AND a.revision = newest.revision "
    "WHERE a.video_id IN (SELECT video_id FROM videos_all WHERE seen_at > {since})"
)


def _values(column: str, *tables: pa.Table) -> frozenset[str]:
    return frozenset(chain.from_iterable(table[column].unique().to_pylist() for table in tables))


_UNENDED = (
    "SELECT video_id, attempt_id, max(started_at) AS started_at FROM analyses "
    "GROUP BY video_id, attempt_id HAVING max(CASE WHEN status = 'running' THEN 0 ELSE 1 END) = 0"
)


def _abandon(lake: Lake, grace: datetime) -> None:
    """Mark the attempts that are older than the grace and have come to no end."""
    rows = query(str(lake.location), f"{_UNENDED} AND max(started_at) < {timestamp(grace)}").to_pylist()
    attempts = iter(rows)
    while block := list(islice(attempts, 500)):
        found = histories(lake, [row["video_id"] for row in block])
        endings = []
        for row in block:
            own = found[row["video_id"]].of_attempt(row["attempt_id"])
            if [attempt.status for attempt in own] == ["running"]:
                error = "given up for dead: no end after lake.grace_h"
                lost = own[0].ended(status="abandoned", error_code=LOST, error=error)
                endings.append(Ending(analysis=lost))
        commit(lake, endings)


_NAMELESS = (
    f"SELECT a.video_id, a.revision, {', '.join(f'a.{run}' for run in _RUNS)} FROM analyses AS a "
    f"JOIN ({newest_results()}) AS newest ON a.video_id = newest.video_id AND a.revision = newest.revision "
    "WHERE a.video_id NOT IN (SELECT video_id FROM analyses_current)"
)


def _say_dropped(lake: Lake, needed: _Needed) -> None:
    """Say of results whose video has lost its names that their rows go, before they do.

    Should the content come under a name again, it is then not taken for analysed.
    """
    found = query(str(lake.location), _NAMELESS).to_pylist()
    going = {
        row["video_id"]: row["revision"]
        for row in found
        if row["video_id"] not in needed.at_work and any(row[run] not in needed.kept[run] for run in _RUNS)
    }
    videos = iter(going)
    while block := list(islice(videos, 500)):
        endings = []
        for video, result in current_analyses(lake, block).items():
            new = new_run_id()
            row = replace(result, attempt_id=new, run_id=new, started_at=None, error_code="superseded")
            gone = row.ended(status=DROPPED, error="its rows were dropped: no name leads to it any more")
            endings.append(Ending(analysis=gone, basis=going[video]))
        commit(lake, endings)


def _compact_table(lake: Lake, name: str, needed: _Needed, dry_run: bool) -> Iterator[PartitionResult]:
    sizes: dict[date, list[int]] = defaultdict(list)  # in bytes, of the files of each date
    for add in lake.ask(name, adds):
        sizes[add["partition.date"]].append(add["size_bytes"])
    for on in sorted(sizes):
        one = partial(_compact_partition, lake, name, on, sizes, needed, dry_run)
        try:
            yield contended(lake.named(name), partial(lake.ask, name, one))
        except ConflictError:
            yield PartitionResult(name, on, 0, 0, 0, 0, 0, "busy")


def _compact_partition(
    lake: Lake,
    name: str,
    on: date,
    listed: dict[date, list[int]],
    needed: _Needed,
    dry_run: bool,
    snapshot: DeltaTable,
) -> PartitionResult:
    sizes = listed.pop(on, None)
    if sizes is None:  # after a try that failed they may be others
        sizes = [add["size_bytes"] for add in adds(snapshot) if add["partition.date"] == on]
    runs = runs_in(snapshot, name, on)
    kept = [run for run in runs if needed.needs(name, run)]
    rows, size = sum(run.rows for run in runs), sum(sizes)
    dropped = rows - sum(run.rows for run in kept)
    small = sum(one < SMALL_BYTES for one in sizes)
    bare = _losing_vectors(snapshot, name, on, kept, needed.vectors_from)
    state = "rewritten" if dropped or small > 1 or bare else "kept"
    if state == "rewritten" and not dry_run:
        rewrite(lake, name, snapshot, on, kept, bare)
    return PartitionResult(name, on, rows, dropped, len(sizes), size, sum(bare.values()), state)


def _losing_vectors(
    snapshot: DeltaTable, name: str, on: date, kept: Sequence[RunRows], bound: str
) -> dict[str, int]:
    """The runs that stay and lose their vectors, and about how many bytes those take."""
    if not any(run.run_id < bound for run in kept):
        return {}
    stay = {run.run_id for run in kept}
    found = vector_bytes(snapshot, name, on, bound)
    return {run: size for run, size in found.items() if run in stay}


_PERCEIVED_AT = (
    "SELECT perception_id, max(committed_at) AS at FROM analyses "
    "WHERE status IN ('ok', 'partial') AND perception_run_id = events_run_id GROUP BY perception_id"
)


def _clear_staging(lake: Lake, before: datetime) -> None:
    """Remove segments that nobody makes anew: older than the commit of their perception, or than `before`.

    A worker died before it could; of a config or a video that was given up, none came after it. Those that
    are younger than the commit belong to whoever perceives the video once more, since something was lost.
    """
    newest: dict[str, datetime] = {}
    for name, changed in lake.location.changed(FOLDER).items():
        perception = name.partition("/")[0]
        newest[perception] = max(changed, newest.get(perception, changed))
    if not newest:
        return
    uri = str(lake.location)
    done = query(uri, _PERCEIVED_AT).to_pydict()
    perceived = dict(zip(done["perception_id"], done["at"], strict=True))
    under_way = f"attempt_id IN (SELECT attempt_id FROM ({_UNENDED}) AS u)"
    busy = query(uri, f"SELECT DISTINCT perception_id FROM analyses WHERE {under_way}")["perception_id"]
    left = {name for name, changed in newest.items() if changed < max(before, perceived.get(name, before))}
    for perception in left - set(busy.to_pylist()):
        lake.location.remove_folder(f"{FOLDER}/{perception}")


def _tidy(lake: Lake, name: str) -> None:
    """Put small files of an unpartitioned table together; check-point, and remove files nobody can need."""
    snapshot = lake.table(name)
    try:
        if name not in PARTITIONED and len(adds(snapshot)) > _SMALL_FILES:
            if name == "analyses":
                snapshot.optimize.z_order(["video_id"], writer_properties=writer_properties(name))
            else:  # names have pictures: those in large files are left as they are
                snapshot.optimize.compact(target_size=FILE_BYTES, writer_properties=writer_properties(name))
            snapshot = lake.table(name)
        snapshot.create_checkpoint()
        snapshot.cleanup_metadata()
        snapshot.vacuum(_VACUUM_H, dry_run=False, enforce_retention_duration=False, full=True)
    except CommitFailedError:
        return  # written meanwhile: the next compaction does it
    except (DeltaError, OSError) as exc:
        error = lake.location.failure(f"table {name} of lake {lake.location} cannot be tidied", exc)
        if not isinstance(error, ConflictError | TransientError):
            raise error from exc


def _time_of(run_id: str) -> datetime:
    """When a UUIDv7 was made."""
    try:
        return datetime.fromtimestamp((uuid.UUID(run_id).int >> 80) / 1000, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise StorageError(f"run {run_id!r} is no UUIDv7", remedy="the lake is damaged") from exc
