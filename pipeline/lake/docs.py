"""docs/tables.md, from the schemas: `python -m pipeline.lake.docs > docs/tables.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pyarrow as pa

from pipeline.lake.schema import PARTITIONED, SCHEMA_VERSION, TABLES

_ROWS = {
    "videos": "a row per name under which a content was seen, and per version of it",
    "analyses": "a row per attempt when it begins and one when it ends",
    "configs": "a row per resolved config",
    "frames": "a row per sampled frame",
    "detections": "a row per box",
    "tracks": "a row per object and sampled frame",
    "objects": "a row per track",
    "events": "a row per event",
}


def tables_page() -> str:
    """The page that describes all tables, as Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Tables"
    yield ""
    yield "<!-- made by `python -m pipeline.lake.docs` from pipeline/lake/schema.py; do not edit -->"
    yield ""
    yield f"Schema version {SCHEMA_VERSION}. Each is a Delta table of its name in the lake's directory."
    yield "Boxes are xyxy in displayed pixels; `t` is in seconds from the first displayed frame; `*_utc` is"
    yield "null where the recording time is unknown, or the time is 2262 or later: a file's clock may leap."
    yield ""
    yield "`marey query` and `marey views` show what is current under these names, every row under"
    yield "`videos_all`, `frames_all` and so on, and as `analyses_current` the analyses that decide it."
    yield "`analyses` and `configs` show every row."
    yield ""
    yield "Numbers with a point lie as `BYTE_STREAM_SPLIT`, a tenth smaller. Spark, up to 4.1 at least,"
    yield "reads that with `spark.sql.parquet.enableVectorizedReader=false`, which its views set; 4.3"
    yield "reads it in any case."
    for name, schema in TABLES.items():
        partition = "; partitioned by `date`" if name in PARTITIONED else ""
        yield ""
        yield f"## {name}"
        yield ""
        yield f"{_ROWS[name][0].upper()}{_ROWS[name][1:]}{partition}."
        yield ""
        yield "| column | type | meaning |"
        yield "|---|---|---|"
        for field in schema:
            yield f"| `{field.name}` | {_type(field.type)} | {field.metadata[b'comment'].decode()} |"
    yield ""


def _type(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"map of {_type(kind.key_type)} to {_type(kind.item_type)}"
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    if pa.types.is_struct(kind):
        return "struct (" + ", ".join(f"{field.name} {_type(field.type)}" for field in kind) + ")"
    names = {"float": "float32", "double": "float64", "timestamp[us, tz=UTC]": "timestamp (µs, UTC)"}
    return names.get(str(kind), str(kind).replace("date32[day]", "date"))


if __name__ == "__main__":
    sys.stdout.write(tables_page())
