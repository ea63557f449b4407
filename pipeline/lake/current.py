"""What is current, as SQL that DataFusion, DuckDB, Polars, Spark, Trino and Athena all read.

`analyses` and `configs` are tables; of the others the table `x` is called `x_all`, and `x` is what is
current. An analysis is current if it is the video's highest revision with status ok or partial and the video
still has a name, that is, if it is the newest analysed version of some uri. A version that is not analysed
yet, or could not be, hides nothing. The rows of a video that has lost its names are dropped by compaction,
which says so by a revision with status dropped: should the content come back, it is analysed anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from pipeline.lake.schema import TABLES

RUN = {
    "frames": "perception_run_id",
    "detections": "perception_run_id",
    "tracks": "tracking_run_id",
    "objects": "tracking_run_id",
    "events": "events_run_id",
}
"""Table to the column of `analyses` that names the run whose rows are current in it."""

BASE = {name: name if name in ("analyses", "configs") else f"{name}_all" for name in TABLES}
"""Table to the name under which its rows, current or not, are queried."""

Cells = Mapping[tuple[str, str], str]
"""Table and column to an expression, in which {} stands for the column."""

_AS_THEY_ARE: Cells = MappingProxyType({})

# Names that some engine reserves are quoted by the engine's sign.
_QUOTED = ("class", "date", "rotation", "zone")


def timestamp(at: datetime) -> str:
    """A time as a literal of DataFusion, whose own TIMESTAMP counts nanoseconds and ends in 1677 and 2262.

    Raises:
        ValueError: it has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError(f"the time needs a zone, got {at!r}")
    return f"arrow_cast('{at.astimezone(UTC).isoformat()}', 'Timestamp(Microsecond, Some(\"UTC\"))')"


def newest_results(committed: str = "", within: str = "") -> str:
    """SELECT of video_id and revision of each video's newest result, unless its rows were dropped since.

    Args:
        committed: A further condition on `analyses`, beginning with AND.
        within: What the table's name begins with.
    """
    return (
        f"SELECT video_id, max(revision) AS revision FROM {within}analyses "
        f"WHERE status IN ('ok', 'partial', 'dropped'){committed} GROUP BY video_id "
        "HAVING max(revision) > max(CASE WHEN status = 'dropped' THEN revision ELSE 0 END)"
    )


def current_views(
    as_of: str | None = None, quote: str = '"', within: str = "", cells: Cells = _AS_THEY_ARE
) -> dict[str, str]:
    """View to its SELECT, in an order in which each uses only those before it.

    Args:
        as_of: A literal of the engine; what was committed later is left out.
        quote: The engine's sign around names.
        within: What names of tables and views begin with, such as a database and a dot.
        cells: What stands for columns that are not shown as they are.
    """
    committed = f" AND committed_at <= {as_of}" if as_of else ""
    seen = f" WHERE seen_at <= {as_of}" if as_of else ""
    newest = newest_results(committed, within)
    names = f"(SELECT * FROM {within}videos_all{seen}) AS v"
    several = f"(SELECT uri FROM {within}videos_all{seen} GROUP BY uri HAVING count(*) > 1)"
    ranked = (
        "(SELECT v.*, row_number() OVER (PARTITION BY v.uri ORDER BY "
        "CASE WHEN a.revision IS NULL THEN 1 ELSE 0 END, v.seen_at DESC, v.run_id DESC) AS rank_of_name "
        f"FROM {names} LEFT JOIN ({newest}) AS a ON v.video_id = a.video_id{{}}) AS named\n"
        "WHERE rank_of_name = 1"
    )
    # Most names have one version, which needs no ranking: over a million analyses that is half of the work.
    # The view of names does without this: joined with a large table it would take twice the memory.
    named = (
        f"SELECT video_id FROM {names} WHERE v.uri NOT IN {several}\n"
        f"UNION ALL\nSELECT video_id FROM {ranked.format(f' WHERE v.uri IN {several}')}"
    )
    views = {
        "videos": f"SELECT {_columns('videos', quote, '', cells)}\nFROM {ranked.format('')}",
        "analyses_current": (
            f"SELECT {_columns('analyses', quote, 'a.', cells)}\n"
            f"FROM {within}analyses AS a\nJOIN ({newest}) AS newest\n"
            "ON a.video_id = newest.video_id AND a.revision = newest.revision\n"
            f"WHERE a.video_id IN ({named})"
        ),
    }
    for name, run in RUN.items():
        views[name] = (
            f"SELECT {_columns(name, quote, 'r.', cells)}\nFROM {within}{name}_all AS r\n"
            f"JOIN (SELECT video_id, {run} FROM {within}analyses_current) AS c\n"
            f"ON r.video_id = c.video_id AND r.run_id = c.{run}"
        )
    return views


def _columns(name: str, quote: str, prefix: str, cells: Cells) -> str:
    return ", ".join(
        _column(column, quote, prefix, cells.get((name, column))) for column in TABLES[name].names
    )


def _column(column: str, quote: str, prefix: str, cell: str | None) -> str:
    plain = f"{quote}{column}{quote}" if column in _QUOTED else column
    return f"{prefix}{plain}" if cell is None else f"{cell.format(prefix + plain)} AS {plain}"
