"""What a lake knows: current analyses, names seen before, attempts without an end, rows of a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder

from pipeline.errors import GoneError
from pipeline.lake.layout import sort_rows
from pipeline.lake.location import Location
from pipeline.lake.records import DROPPED, ENDED, Analysis, VideoName
from pipeline.lake.schema import STAGES, TABLES
from pipeline.lake.tables import Lake
from pipeline.retry import patiently

LOST = "lost"
"""error_code of an attempt that compaction gave up for dead."""

_BATCH_ROWS = 10_000
_MAX_KEYS = 500  # more are looked up by reading the key column whole

SMALL = {
    name: pa.schema([field for field in TABLES[name] if field.name != "thumbnail"])
    for name in ("videos", "analyses")
}
"""What is read of rows that are looked up: the pictures of many names would fill the memory."""


@dataclass(frozen=True)
class History:
    """A video's rows in `analyses`, by revision."""

    rows: tuple[Analysis, ...] = field(default=())

    @property
    def last_revision(self) -> int:
        return self.rows[-1].revision if self.rows else 0

    @property
    def current(self) -> Analysis | None:
        """The highest revision with status ok or partial, unless compaction has dropped its rows since."""
        return self._decisive if self._decisive and self._decisive.succeeded else None

    @property
    def _decisive(self) -> Analysis | None:
        return next((row for row in reversed(self.rows) if row.succeeded or row.status == DROPPED), None)

    def of_attempt(self, attempt_id: str) -> tuple[Analysis, ...]:
        return tuple(row for row in self.rows if row.attempt_id == attempt_id)

    @property
    def unended(self) -> tuple[Analysis, ...]:
        """Running rows of attempts, since the last success, that have come to no end of their own.

        They belong to workers that died or met a bug, or to such as still work: `started_at` helps to tell.
        """
        ended = {row.attempt_id for row in self.rows if row.status in ENDED}
        since = self._decisive.revision if self._decisive else 0
        later = [row for row in self.rows if row.revision > since and row.status == "running"]
        return tuple(row for row in later if row.attempt_id not in ended)

    def dead(self, before: datetime) -> tuple[Analysis, ...]:
        """Of these, such as the program failed at; and those that began before a time and said nothing.

        What its own run broke off, because it was interrupted, is none.
        """
        crashed = {row.attempt_id for row in self.rows if row.status == "crashed"}
        said = {row.attempt_id for row in self.rows if row.status != "running" and row.error_code != LOST}
        silent = [row for row in self.unended if row.attempt_id not in said]
        old = {row.attempt_id for row in silent if row.started_at is None or row.started_at < before}
        return tuple(row for row in self.unended if row.attempt_id in crashed | old)


def histories(lake: Lake, video_ids: Iterable[str], snapshot: DeltaTable | None = None) -> dict[str, History]:
    """All attempts at the given videos; a video that was never met has an empty history."""
    wanted = list(dict.fromkeys(video_ids))
    return _by_video(_lookup(lake, "analyses", "video_id", wanted, snapshot=snapshot), wanted)


def _by_video(rows: Iterable[dict[str, Any]], wanted: Iterable[str]) -> dict[str, History]:
    found = defaultdict(list)
    for row in rows:
        found[row["video_id"]].append(Analysis.from_row(row))
    return {key: History(tuple(sorted(found[key], key=lambda row: row.revision))) for key in wanted}


def current_analyses(lake: Lake, video_ids: Iterable[str]) -> dict[str, Analysis]:
    """The current analysis of each of the videos that has one."""
    current = {key: history.current for key, history in histories(lake, video_ids).items()}
    return {key: row for key, row in current.items() if row is not None}


def ends_by_uri(lake: Lake, uris: Iterable[str]) -> Counter[str]:
    """How many attempts came to an end, whichever, under each of the names; the others may be at work."""
    rows = _lookup(lake, "analyses", "uri", list(dict.fromkeys(uris)))
    ended = {(row["uri"], row["attempt_id"]) for row in rows if row["status"] != "running"}
    return Counter(uri for uri, _ in ended)


def find_perceptions(lake: Lake, perception_ids: Iterable[str]) -> dict[str, Analysis]:
    """For each perception that some video's current analysis has: that analysis, a whole one if there is."""
    wanted = list(dict.fromkeys(perception_ids))
    rows = _lookup(lake, "analyses", "perception_id", wanted)
    candidates = current_analyses(lake, {row["video_id"] for row in rows}).values()
    found = _best(candidates)
    return {key: found[key] for key in wanted if key in found}


def _best(candidates: Iterable[Analysis]) -> dict[str, Analysis]:
    """Of the analyses of each perception a whole one if there is."""
    found: dict[str, Analysis] = {}
    for row in sorted(candidates, key=lambda row: (row.status != "ok", row.video_id)):
        if row.perception_id is not None:
            found.setdefault(row.perception_id, row)
    return found


def met(lake: Lake, video_id: str, perception_id: str) -> tuple[History, Analysis | None]:
    """The history of a video, and what `find_perceptions` finds of a perception, mostly by one query.

    Each query opens every file of the table, of which a batch leaves hundreds.
    """
    where = f"video_id = {quoted(video_id)} OR perception_id = {quoted(perception_id)}"
    rows = lake.ask("analyses", lambda found: _select("analyses", found, SMALL["analyses"].names, where))
    listed = rows.to_pylist(maps_as_pydicts="strict")
    history = _by_video(listed, [video_id])[video_id]
    others = current_analyses(lake, {row["video_id"] for row in listed} - {video_id})
    own = [history.current] if history.current is not None else []
    return history, _best([*own, *others.values()]).get(perception_id)


def known_videos(lake: Lake, uris: Iterable[str]) -> dict[str, VideoName]:
    """The newest version under which each of the names was seen; the same etag needs no reading again."""
    newest: dict[str, VideoName] = {}
    for row in _lookup(lake, "videos", "uri", list(dict.fromkeys(uris))):
        name = VideoName.from_row(row)
        last = newest.get(name.uri)
        if last is None or (name.seen_at, name.run_id) > (last.seen_at, last.run_id):
            newest[name.uri] = name
    return newest


def known_pictures(lake: Lake, names: Iterable[VideoName]) -> dict[str, bytes]:
    """The thumbnails that names had before, by content. Ask for a few: they lie in memory at once."""
    sql = pictures_sql("videos", ((name.uri, name.content_id) for name in names))
    if sql is None:
        return {}
    rows = lake.ask("videos", lambda found: run_sql(found, "videos", sql))
    return dict(zip(rows["content_id"].to_pylist(), rows["thumbnail"].to_pylist(), strict=True))


def pictures_sql(table: str, names: Iterable[tuple[str, str]]) -> str | None:
    """SELECT of content_id and thumbnail of names; None if there are no names.

    Names lie near each other as they were found, contents anywhere: by these alone all pictures were read.
    The view of current names reads and holds all of them, whatever is asked of it.

    Args:
        table: the table of names, as it is called where it is asked.
        names: each with uri and content_id.
    """
    wanted = set(names)
    if not wanted:
        return None
    uris, contents = (literals(sorted(set(keys))) for keys in zip(*wanted, strict=True))
    where = f"thumbnail IS NOT NULL AND uri IN ({uris}) AND content_id IN ({contents})"
    return f"SELECT content_id, thumbnail FROM {table} WHERE {where}"


def read_rows(
    lake: Lake,
    name: str,
    video_id: str,
    run_id: str,
    on: date | None,
    columns: Sequence[str] | None = None,
    samples: int = 6000,
) -> Iterator[pa.Table]:
    """Rows of one run as the stage gave them, in canonical order (`layout.ORDER`).

    Args:
        lake: The lake.
        name: frames, detections, tracks, objects or events.
        video_id: Whose rows.
        run_id: Which run's, from the analysis.
        on: The video's `date`, which is the partition; None looks through all.
        columns: Of the stage's schema; all by default.
        samples: Ticks per table given, so that memory does not grow with the video's length. Objects and
            events come in one.

    Yields:
        Tables of the stage's schema, none empty.
    """
    stage = STAGES[name]
    chosen = pa.schema([stage.field(column) for column in columns or stage.names])
    snapshot = lake.table(name)

    def asked(call: Callable[[DeltaTable], pa.Table]) -> pa.Table:
        """From one snapshot, unless files of it go: those that come hold the same rows of the run."""
        nonlocal snapshot
        try:
            return call(snapshot)
        except GoneError:
            snapshot = lake.table(name)
            return call(snapshot)

    where = f"video_id = {quoted(video_id)} AND run_id = {quoted(run_id)}"
    if on is not None:
        where += f" AND \"date\" = DATE '{on}'"
    if "sample" not in stage.names:
        rows = asked(lambda found: _select(name, found, stage.names, where))
        if rows.num_rows:
            yield sort_rows(name, rows).select(chosen.names).cast(chosen)
        return
    flat = [column for column in stage.names if not pa.types.is_nested(stage.field(column).type)]
    wanted = list(dict.fromkeys([*chosen.names, *flat]))  # flat ones decide the order
    # Where the clock of a file leaps, most numbers have no rows.
    blocks = f"SELECT DISTINCT sample / {samples} AS block FROM {name} WHERE {where}"
    for block in sorted(asked(lambda found: run_sql(found, name, blocks))["block"].to_pylist()):
        part = f"{where} AND sample >= {block * samples} AND sample < {(block + 1) * samples}"
        rows = asked(partial(_select, name, columns=wanted, where=part))
        yield sort_rows(name, rows).select(chosen.names).cast(chosen)


def quoted(text: str) -> str:
    """A string as SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """Strings as SQL literals, with commas between."""
    return ", ".join(map(quoted, texts))


def column_list(names: Iterable[str]) -> str:
    """The columns of a SELECT, in quotes, since some names are words of SQL."""
    return ", ".join(f'"{name}"' for name in names)


def run_sql(
    snapshot: DeltaTable,
    name: str,
    sql: str,
    keep: Callable[[pa.RecordBatchReader], pa.Table] = pa.RecordBatchReader.read_all,
) -> pa.Table:
    """Run our own SQL on one snapshot, registered as `name`; of its rows `keep` takes what is wanted.

    Raises:
        StorageError: its files cannot be read.
    """

    def ask() -> pa.Table:
        try:
            reader = QueryBuilder().register(name, snapshot).execute(sql)
            return keep(pa.RecordBatchReader.from_stream(reader))
        except Exception as exc:  # deltalake raises DeltaError, ArrowInvalid and bare Exception alike
            raise Location.parse(snapshot.table_uri).failure(f"table {name} cannot be read", exc) from exc

    return patiently(ask)


def _select(name: str, snapshot: DeltaTable, columns: Sequence[str], where: str) -> pa.Table:
    rows = run_sql(snapshot, name, f"SELECT {column_list(columns)} FROM {name} WHERE {where}")
    return rows.cast(pa.schema([TABLES[name].field(column) for column in columns]))


def _filtered(name: str, snapshot: DeltaTable, key: str, values: pa.Array) -> pa.Table:
    """Rows whose key is one of the values, read piece by piece: the table may be large."""
    wanted = SMALL[name]

    def keep(reader: pa.RecordBatchReader) -> pa.Table:
        parts = [wanted.empty_table()]
        for batch in reader:
            rows = pa.table(batch).cast(wanted)
            if (part := rows.filter(pc.is_in(rows[key], value_set=values))).num_rows:
                parts.append(part)
        return pa.concat_tables(parts)

    return run_sql(snapshot, name, f"SELECT {column_list(wanted.names)} FROM {name}", keep)


def _lookup(
    lake: Lake, name: str, key: str, values: Sequence[str], snapshot: DeltaTable | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of a small table whose key is one of the values, made Python's objects batch by batch."""
    if not values:
        return

    def on(found: DeltaTable) -> pa.Table:
        if len(values) > _MAX_KEYS:
            return _filtered(name, found, key, pa.array(values, pa.string()))
        return _select(name, found, SMALL[name].names, f"{key} IN ({literals(values)})")

    rows = on(snapshot) if snapshot else lake.ask(name, on)
    for batch in rows.to_batches(max_chunksize=_BATCH_ROWS):
        yield from batch.to_pylist(maps_as_pydicts="strict")
