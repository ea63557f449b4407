"""Finished segments of an unfinished perception, kept until its commit.

    <lake>/_staging/<perception_id>/<first tick>-<last tick>.parquet

Each file is created only if absent and is whole from the moment it has its name. The first writer wins; the
others read back what it wrote. A killed run, or another worker, finds the files again.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import StorageError
from pipeline.lake.schema import DETECTIONS, FRAMES, STAGED
from pipeline.lake.tables import Lake

FOLDER = "_staging"
_NAME = re.compile(r"(\d+)-(\d+)\.parquet")
_ID = re.compile(r"[0-9a-f]+")
_FACTS = b"marey.facts"
_INNER = [name for name in DETECTIONS.names if name not in ("sample", "t")]


@dataclass(frozen=True)
class Segment:
    """`rows` are of `schema.STAGED`; `facts` are as they were put."""

    rows: pa.Table
    facts: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def empty() -> pa.Table:
        """The rows of a segment without sampled frames."""
        return STAGED.empty_table()


class Staging:
    """The segments of one perception. `first` and `last` are ticks, both inclusive."""

    def __init__(self, lake: Lake, perception_id: str) -> None:
        if not _ID.fullmatch(perception_id):
            raise ValueError(f"a perception_id is made of hex digits, got {perception_id!r}")
        self._location, self._folder = lake.location, f"{FOLDER}/{perception_id}"

    def put(self, first: int, last: int, rows: pa.Table, facts: Mapping[str, Any] | None = None) -> Segment:
        """Keep a segment, in the lake when this returns.

        Args:
            first: Its first tick.
            last: Its last tick.
            rows: `schema.STAGED`, a row per sampled frame.
            facts: What else is to be known of it, in JSON's types.

        Returns:
            The segment that is kept: the given one, or that of a writer who was faster.

        Raises:
            StorageError: it cannot be written; then nothing has the segment's name.
            ValueError: the ticks or the columns are not a segment's.
        """
        if not 0 <= first <= last:
            raise ValueError(f"a segment is 0 <= first <= last, got {first}, {last}")
        if rows.schema.names != STAGED.names:
            raise ValueError(f"a segment needs columns {STAGED.names}, got {rows.schema.names}")
        noted = json.dumps(dict(facts or {}))
        rows = rows.cast(STAGED)
        file = io.BytesIO()
        marked = rows.replace_schema_metadata({_FACTS: noted.encode()})
        pq.write_table(marked, file, compression="zstd", compression_level=1)
        won = self._location.create(self._name(first, last), file.getvalue())
        kept = None if won else self.get(first, last)
        return kept or Segment(rows, json.loads(noted))

    def get(self, first: int, last: int) -> Segment | None:
        """A segment; None if it is not kept.

        A file that is damaged, which only the disk can do, is removed and counts as absent.

        Raises:
            StorageError: it cannot be read.
        """
        data = self._location.read(self._name(first, last))
        if data is None:
            return None
        try:
            with pq.ParquetFile(pa.BufferReader(data)) as file:
                rows = file.read(use_threads=False)
            return Segment(rows.cast(STAGED), json.loads(rows.schema.metadata[_FACTS]))
        except (pa.ArrowInvalid, pa.ArrowKeyError, ValueError, KeyError, TypeError, OSError):
            self._location.remove(self._name(first, last))
            return None

    def segments(self) -> list[tuple[int, int]]:
        """First and last tick of the segments kept, in order."""
        names = self._location.names(self._folder)
        found = [match.groups() for name in names if (match := _NAME.fullmatch(name))]
        return sorted((int(first), int(last)) for first, last in found)

    def clear(self) -> None:
        """Remove all segments, once their rows are committed; what cannot be removed waits for `compact`."""
        with contextlib.suppress(StorageError):
            self._location.remove_folder(self._folder)

    def _name(self, first: int, last: int) -> str:
        return f"{self._folder}/{first}-{last}.parquet"


def stage(frames: pa.Table, detections: pa.Table) -> pa.Table:
    """Frames and their detections as staged rows; detections lie in the order of their samples.

    Raises:
        ValueError: a detection's sample is not among the frames, or samples do not rise.
    """
    samples = frames["sample"].to_numpy()
    of = detections["sample"].to_numpy()
    starts, ends = samples.searchsorted(of, "left"), samples.searchsorted(of, "right")
    if (samples[1:] <= samples[:-1]).any() or (of[1:] < of[:-1]).any() or (starts == ends).any():
        raise ValueError("samples of frames rise, and each detection has its frame, in order")
    offsets = [*of.searchsorted(samples, "left").tolist(), len(of)]
    inner = pa.StructArray.from_arrays(
        [detections[name].combine_chunks() for name in _INNER],
        fields=[DETECTIONS.field(name) for name in _INNER],
    )
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner)
    columns = [frames[name] for name in FRAMES.names]
    return pa.table([*columns, lists.cast(STAGED.field("detections").type)], schema=STAGED)


def unstage(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Staged rows as frames and detections."""
    frames = rows.select(FRAMES.names).cast(FRAMES)
    lists = rows["detections"].combine_chunks()
    parents = pc.list_parent_indices(lists)
    inner = pc.list_flatten(lists)
    columns = [pc.take(rows[name], parents) for name in ("sample", "t")]
    columns += [pc.struct_field(inner, [name]) for name in _INNER]
    return frames, pa.table(columns, names=["sample", "t", *_INNER]).cast(DETECTIONS)
