"""`marey forget`: one video out of everything: rows, staged segments, messages, old versions, log entries.

The files that hold it are written anew without it and the tables check-pointed; then the old log entries go,
and every data file that no table holds any more and in which the video is found. Whoever
is about to read or write then reads the log again and loses nothing; other engines may have to ask again.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

from pipeline.config import LakeConfig
from pipeline.errors import StorageError, TransientError, UsageError
from pipeline.ids import digest
from pipeline.lake.location import Version
from pipeline.lake.lookup import literals, quoted, run_sql
from pipeline.lake.query import query
from pipeline.lake.records import Analysis
from pipeline.lake.rewrite import adds, remove
from pipeline.lake.schema import PARTITIONED, written
from pipeline.lake.staging import FOLDER
from pipeline.lake.tables import AFTER_COMMIT, DENIED, OUTBOX, Lake
from pipeline.retry import contended

_SMALL = ("videos", "analyses")
_BEGUN = "_forgetting"
"""Folder of a file for each removal that is under way, or was broken off."""
_RIGHTS = "give the rights to ask for versioning, list versions and delete them, and run again"
_VERSION = re.compile(r"(\d{20})\.")


@dataclass
class Receipt:
    """What was removed. `checked` says that nothing that is left holds any of the ids; `unchecked`, why not.

    `size_bytes` are about those of its rows in the files that are current, `old_versions` what a bucket with
    versioning had kept of removed files.
    """

    uri: str
    names: list[str]
    video_ids: list[str]
    rows: dict[str, int]
    size_bytes: int = 0
    staged_segments: int = 0
    messages: int = 0
    data_files: int = 0
    log_files: int = 0
    old_versions: int = 0
    denied: bool = False
    checked: bool = False
    unchecked: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def forget(
    lake_uri: str,
    uri: str,
    settings: LakeConfig,
    *,
    all_names: bool = False,
    deny: bool = False,
    dry_run: bool = False,
) -> Receipt:
    """Remove a video and every version that its name ever had.

    Args:
        lake_uri: the lake.
        uri: a name of the video.
        settings: `grace_h`: an attempt older than that is no longer alive.
        all_names: also if the video has other names.
        deny: refuse the same bytes from now on.
        dry_run: count only.

    Raises:
        UsageError: the lake knows no such name, the video has other names, or a worker is at it.
        StorageError: the lake cannot be read or written. What is removed is removed; call it again.
    """
    lake = Lake.open(lake_uri, create=False, extend=not dry_run)
    name = _name(uri)
    note = f"{_BEGUN}/{digest(name)}.json"
    begun = lake.location.read(note)
    wanted = _look_up(lake, name, begun)
    if len(wanted.names) > 1 and not all_names:
        others = f"{name} has {len(wanted.names) - 1} other names"
        raise UsageError(others, got=wanted.names, remedy="--all-names removes them too")
    if deny and not wanted.contents:
        what = f"the content of {name} was never noted: no worker came to its end"
        raise UsageError(what, remedy="it cannot be denied; forget it without that")
    listed = literals(wanted.videos)
    _check_idle(_attempts(lake, listed), datetime.now(UTC) - timedelta(hours=settings.grace_h))
    counts = _count(lake, listed)
    size = _size(lake, wanted.dates, counts)
    receipt = Receipt(name, wanted.names, wanted.videos, counts, size, denied=deny)
    if dry_run:
        return receipt
    # Should this be broken off, the next call finds here what the tables no longer tell.
    if begun != (noted := json.dumps(asdict(wanted)).encode()):
        lake.location.remove(note)
        lake.location.create(note, noted)
    if deny:
        for content in wanted.contents:
            lake.location.create(f"{DENIED}/{content}", b"")
    _remove(lake, wanted, receipt)
    if receipt.checked:  # else the next call goes on
        lake.location.remove(note)
        for old in lake.location.old_versions():
            if old.name == note:
                lake.location.remove_version(old)
    return receipt


def _remove(lake: Lake, wanted: _Wanted, receipt: Receipt) -> None:
    """Remove everything, fill in the receipt, and look whether anything is left."""
    videos, listed, folders = wanted.videos, literals(wanted.videos), {f"date={on}" for on in wanted.dates}
    for name in PARTITIONED:
        for on in _dates(lake, name, listed):  # what others write to other dates is then no matter
            remove(lake, name, f"date = '{on}' AND video_id IN ({listed})")
    for name in _SMALL:
        remove(lake, name, f"video_id IN ({listed})")
    perceptions = _of_no_other(lake, set(wanted.perceptions))
    receipt.staged_segments = _remove_staging(lake, perceptions)
    for message in _messages(lake, videos):
        lake.location.remove(message)
        receipt.messages += 1
    for name in (*PARTITIONED, *_SMALL):
        receipt.log_files += _shorten_log(lake, name)
        for file in _orphans(lake, name, folders, videos):
            lake.location.remove(file)
            receipt.data_files += 1
    try:
        for old in _old_versions(lake, folders, videos, perceptions):
            lake.location.remove_version(old)
            receipt.old_versions += 1
        came_back = any(True for _ in _old_versions(lake, folders, videos, perceptions))
    except TransientError:
        raise
    except StorageError as exc:
        came_back, receipt.unchecked = False, f"{exc}; {_RIGHTS}"
    came_back |= any(_count(lake, listed).values()) or bool(list(_left(lake, folders, videos)))
    receipt.checked = not came_back and not receipt.unchecked
    if came_back:
        what = f"{receipt.uri} came back while it was removed"
        raise StorageError(what, remedy="stop its writers and run again")


def _name(uri: str) -> str:
    """A name as it is stored."""
    if "://" not in uri:
        path = Path(os.path.expanduser(uri))
        return str(path.resolve() if ".." in path.parts else path.absolute())
    if uri.startswith("s3://"):
        return uri
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


@dataclass(frozen=True)
class _Wanted:
    """What a name leads to."""

    names: list[str]
    videos: list[str]
    contents: list[str]
    dates: list[str]
    perceptions: list[str]


def _look_up(lake: Lake, name: str, note: bytes | None) -> _Wanted:
    """What the tables know of a name, and what was noted when its removal was begun before.

    Raises:
        UsageError: nothing.
    """
    begun = _Wanted(**json.loads(note)) if note else _Wanted([], [], [], [], [])
    found = set(begun.videos)
    for table in _SMALL:  # a video whose worker died has attempts and staged segments, and no name yet
        sql = f"SELECT DISTINCT video_id FROM {table} WHERE uri = {quoted(name)}"
        found |= set(_answer(lake, table, sql)["video_id"].to_pylist())
    if not found:
        raise UsageError(f"lake {lake.location} knows no video {name}", remedy="see `select uri from videos`")
    videos = sorted(found)
    sql = f"SELECT DISTINCT uri, content_id FROM videos WHERE video_id IN ({literals(videos)})"
    named = _answer(lake, "videos", sql).to_pylist()
    attempts = _attempts(lake, literals(videos))
    return _Wanted(
        sorted({row["uri"] for row in named} | {row.uri for row in attempts} | set(begun.names)),
        videos,
        sorted({row["content_id"] for row in named} | set(begun.contents)),
        sorted({str(row.date) for row in attempts} | set(begun.dates)),
        sorted({row.perception_id for row in attempts if row.perception_id} | set(begun.perceptions)),
    )


def _answer(lake: Lake, name: str, sql: str) -> pa.Table:
    return lake.ask(name, lambda snapshot: run_sql(snapshot, name, sql))


def _attempts(lake: Lake, listed: str) -> list[Analysis]:
    sql = f"SELECT * FROM analyses WHERE video_id IN ({listed})"
    rows = query(str(lake.location), sql).to_pylist(maps_as_pydicts="strict")
    return [Analysis.from_row(row) for row in rows]


def _check_idle(attempts: list[Analysis], grace: datetime) -> None:
    ended = {row.attempt_id for row in attempts if row.status != "running"}
    for row in attempts:
        if row.attempt_id not in ended and (row.started_at is None or row.started_at >= grace):
            what = f"a worker is at {row.uri} since {row.started_at:%Y-%m-%d %H:%M} UTC, or died then"
            raise UsageError(what, remedy="wait for it, or give a smaller lake.grace_h if it is dead")


def _count(lake: Lake, listed: str) -> dict[str, int]:
    counts = {}
    for name in (*PARTITIONED, *_SMALL):
        sql = f"SELECT count(*) AS n FROM {name} WHERE video_id IN ({listed})"
        counts[name] = int(_answer(lake, name, sql)["n"][0].as_py())
    return counts


def _size(lake: Lake, dates: list[str], counts: dict[str, int]) -> int:
    """About the bytes of rows: their share of the files of these dates."""
    total = 0.0
    for name in PARTITIONED:
        files = [add for add in adds(lake.table(name)) if str(add["partition.date"]) in dates]
        rows = sum(add["num_records"] for add in files)
        total += sum(add["size_bytes"] for add in files) * counts[name] / max(rows, 1)
    return round(total)


def _dates(lake: Lake, name: str, listed: str) -> list[date]:
    sql = f'SELECT DISTINCT "date" FROM {name} WHERE video_id IN ({listed})'
    found: list[date] = _answer(lake, name, sql)["date"].to_pylist()
    return found


def _of_no_other(lake: Lake, perceptions: set[str]) -> set[str]:
    """Those that no video has any more."""
    others = query(str(lake.location), "SELECT DISTINCT perception_id FROM analyses")["perception_id"]
    return perceptions - set(others.to_pylist())


def _remove_staging(lake: Lake, perceptions: set[str]) -> int:
    removed = 0
    for perception in perceptions:
        removed += len(lake.location.names(f"{FOLDER}/{perception}"))
        lake.location.remove_folder(f"{FOLDER}/{perception}")
    return removed


def _messages(lake: Lake, videos: list[str]) -> Iterator[str]:
    """Messages about the videos that are not delivered yet."""
    for name in lake.location.names(OUTBOX):
        data = lake.location.read(f"{OUTBOX}/{name}") or b""
        if any(video.encode() in data for video in videos):
            yield f"{OUTBOX}/{name}"


def _shorten_log(lake: Lake, name: str) -> int:
    """Write a check-point and remove every log entry and check-point before it."""
    snapshot = contended(lake.named(name), lambda: _check_pointed(lake, name))
    removed = 0
    for entry in lake.location.names(f"{name}/_delta_log"):
        found = _VERSION.match(entry)
        if found and int(found.group(1)) < snapshot.version():
            lake.location.remove(f"{name}/_delta_log/{entry}")
            removed += 1
    return removed


def _check_pointed(lake: Lake, name: str) -> DeltaTable:
    """The table, check-pointed after a commit of no rows: that of the removal names the video."""
    snapshot, nothing = lake.table(name), written(name).empty_table()
    with lake.committing(name, "cannot be check-pointed"):
        write_deltalake(snapshot, nothing, mode="append", post_commithook_properties=AFTER_COMMIT)
        snapshot.create_checkpoint()
    return snapshot


def _orphans(lake: Lake, name: str, folders: set[str], videos: list[str]) -> Iterator[str]:
    """Data files that the table does not hold any more and in which the videos are."""
    held = {unquote(add["path"]) for add in adds(lake.table(name))}
    for file in lake.location.names(name):
        if not file.endswith(".parquet") or file.startswith("_delta_log/") or file in held:
            continue
        folder = file.rpartition("/")[0]
        if (not folder or folder in folders) and _holds(lake.location.read(f"{name}/{file}"), videos):
            yield f"{name}/{file}"


def _old_versions(
    lake: Lake, folders: set[str], videos: list[str], perceptions: set[str]
) -> Iterator[Version]:
    """Versions of removed files that a bucket keeps: log entries, and others in which the videos are."""
    for old in lake.location.old_versions():
        top, _, rest = old.name.partition("/")
        folder = rest.rpartition("/")[0]
        if top == FOLDER:
            holds = folder in perceptions
        elif top == OUTBOX:
            data = lake.location.read_version(old) or b""
            holds = any(video.encode() in data for video in videos)
        elif folder.startswith("_delta_log"):
            holds = True
        else:
            in_reach = rest.endswith(".parquet") and (not folder or folder in folders)
            holds = in_reach and _holds(lake.location.read_version(old), videos)
        if holds:
            yield old


def _holds(data: bytes | None, videos: list[str]) -> bool:
    """Whether a data file holds rows of the videos."""
    if data is None:
        return False
    try:
        found = pq.ParquetFile(io.BytesIO(data)).read(columns=["video_id"])["video_id"]
    except pa.ArrowInvalid:
        return False  # half a file, of a writer that died or is at work
    return bool(pc.any(pc.is_in(found, value_set=pa.array(videos, found.type))).as_py())


def _left(lake: Lake, folders: set[str], videos: list[str]) -> Iterator[str]:
    """Whatever still holds one of the ids."""
    yield from _messages(lake, videos)
    signs = [video.encode() for video in videos]
    for name in (*PARTITIONED, *_SMALL):
        yield from _orphans(lake, name, folders, videos)
        for entry in lake.location.names(f"{name}/_delta_log"):
            data = lake.location.read(f"{name}/_delta_log/{entry}") or b""
            if entry.endswith(".parquet"):
                data = repr(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
            if any(sign in data for sign in signs):
                yield entry
