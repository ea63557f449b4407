"""What rules and event models share: the id of an event and the table of its rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.ids import EVENTS_VERSION, digest
from pipeline.lake.schema import EVENTS


def event_id(
    video_id: str, source: str, label: str, times_s: Sequence[float], track_ids: Sequence[int] = ()
) -> str:
    """32 hex digits that are equal for the same event of the same video, whoever finds it and whenever.

    Times count to the microsecond.
    """
    return digest("event", video_id, source, label, [round(t * 1e6) for t in times_s], sorted(track_ids))


def events_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows (mappings with the columns of EVENTS) as an Arrow table, also when there are none."""
    return pa.Table.from_pylist(list(rows), schema=EVENTS)


def details_json(**values: Any) -> str:
    """EVENTS_VERSION and measurements as JSON with sorted keys; floats are rounded to four decimals."""
    rounded = {"version": EVENTS_VERSION} | {
        key: round(v, 4) if isinstance(v, float) else v for key, v in values.items()
    }
    return json.dumps(rounded, sort_keys=True)
