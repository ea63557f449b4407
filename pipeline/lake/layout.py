"""How rows lie in the files: writer settings, statistics and the canonical order of rows.

Measured on 2 million detection rows of scalar columns (four videos, float boxes with noise, 2 cores):

    writer                                              CPU s    MB
    pyarrow.parquet.write_table, defaults                0.49  54.6
    deltalake, defaults                                  1.62  54.7
    zstd 1, floats as they are                           0.60  37.8
    zstd 1, floats byte-stream-split                     0.50  34.1
    same, t too, sample as deltas, pages of 100,000      0.50  29.9
    zstd 3 instead                                       0.62  30.6

and on 100,000 rows with 64 appearance values rounded to half precision: 15.5 MB by pyarrow's defaults,
13.7 with vectors as deltalake writes them, 12.7 with byte-stream-split. A higher level of zstd costs time and
saves nothing: what is left is noise. Spark's vectorized reader, up to 4.1 at least, does not
know byte-stream-split: its views switch to the other one.
"""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
from deltalake import ColumnProperties, WriterProperties

from pipeline.lake.schema import TABLES

Encoding = Literal["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"]

PAGE_ROWS = 100_000
ROW_GROUP_ROWS = 200_000  # of which a query about one video reads one or two
_COMPRESSION_LEVEL = 1

CHECK_POINTS = "delta.checkpointInterval"
COMMITS_PER_CHECK_POINT = 10
TRANSACTIONS = "delta.setTransactionRetentionDuration"
TRANSACTIONS_KEPT = "interval 7 days"
"""Far above the minute for which a commit is tried again: a machine may sleep for days in the middle."""

# Statistics prune files and row groups. Of coordinates and scores they would prune nothing and fill the log.
_STATISTICS: dict[str, tuple[str, ...]] = {
    "videos": ("uri", "content_id", "recorded_at", "seen_at"),
    "analyses": ("attempt_id", "revision", "uri", "status", "perception_id", "committed_at"),
    "configs": ("config_id", "seen_at"),
    "frames": ("run_id", "sample", "t", "time_utc"),
    "detections": ("run_id", "sample", "t"),
    "tracks": ("run_id", "track_id", "sample", "t", "time_utc"),
    "objects": ("run_id", "track_id", "t_start", "t_end", "start_utc", "end_utc"),
    "events": ("run_id", "label", "score", "t_start", "t_end", "start_utc", "end_utc"),
}
STATISTICS = {
    name: columns if name == "configs" else ("video_id", "camera", "date", *columns)
    for name, columns in _STATISTICS.items()
}

# Rows of one run in this order are equal, whatever wrote them and however they lie in files.
ORDER: dict[str, tuple[tuple[str, str], ...]] = {
    "frames": (("sample", "ascending"),),
    "detections": (
        ("sample", "ascending"),
        ("score", "descending"),
        *((name, "ascending") for name in ("x1", "y1", "x2", "y2", "class")),
    ),
    "tracks": (("sample", "ascending"), ("track_id", "ascending")),
    "objects": (("track_id", "ascending"),),
    "events": (("t_start", "ascending"), ("event_id", "ascending")),
}

# In these the vectors make up most bytes. deltalake cannot name a nested column, so their encoding is the
# table's default, and strings, which that default does not fit, go without a dictionary (zstd makes up for
# the bytes; a filter on run_id takes 34 instead of 21 ms over 2 million rows).
VECTORS = {"frames": "embedding", "detections": "appearance"}


def sort_rows(name: str, rows: pa.Table) -> pa.Table:
    """Rows of one video in the table's canonical order."""
    return rows.sort_by(list(ORDER[name]))


def table_properties(name: str) -> dict[str, str]:
    """Delta properties: which columns have statistics in the log, and when it is check-pointed.

    Whoever opens a table reads its log since the last check-point, an object per commit: with deltalake's
    default of 100 these were most requests of a batch on S3. A check-point holds the application transactions
    of all commits unless they may go: of 200,000 they took 8 MB, written anew every 10, read at each opening.
    """
    return {
        "delta.dataSkippingStatsColumns": ",".join(STATISTICS[name]),
        CHECK_POINTS: str(COMMITS_PER_CHECK_POINT),
        TRANSACTIONS: TRANSACTIONS_KEPT,
    }


def writer_properties(name: str) -> WriterProperties:
    """Parquet settings of a table; appends and rewrites use the same."""
    split = name in VECTORS
    return WriterProperties(
        compression="ZSTD",
        compression_level=_COMPRESSION_LEVEL,
        data_page_row_count_limit=PAGE_ROWS,
        statistics_truncate_length=64,
        max_row_group_size=ROW_GROUP_ROWS,
        default_column_properties=_column_properties("BYTE_STREAM_SPLIT", False) if split else None,
        column_properties={field.name: _column(name, field, split) for field in TABLES[name]},
    )


def _column(table: str, field: pa.Field, split: bool) -> ColumnProperties:
    statistics = field.name in STATISTICS[table]
    if pa.types.is_binary(field.type):  # pictures: no two are equal
        return _column_properties("PLAIN", False)
    if pa.types.is_floating(field.type):
        return _column_properties("BYTE_STREAM_SPLIT", statistics)
    if pa.types.is_int64(field.type) or pa.types.is_timestamp(field.type):
        return _column_properties("DELTA_BINARY_PACKED", statistics)
    return _column_properties("PLAIN" if split else None, statistics)


def _column_properties(encoding: Encoding | None, statistics: bool) -> ColumnProperties:
    """An encoding, or a dictionary: deltalake switches the dictionary off where an encoding is given."""
    return ColumnProperties(
        dictionary_enabled=encoding is None,
        encoding=encoding,
        statistics_enabled="CHUNK" if statistics else "NONE",
    )
