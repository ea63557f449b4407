"""What rules and event models share: the id of an event and the table of its rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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


OBJECT_COLUMNS = ("track_id", "class", "t_start", "t_end")
"""What `with_tracks` looks at."""


def with_tracks(events: pa.Table, objects: pa.Table, classes: Sequence[str]) -> pa.Table:
    """Events of a model with the tracks of those objects that were there at their peak.

    Args:
        events: as EVENTS.
        objects: all of the video, `OBJECT_COLUMNS` of OBJECTS.
        classes: of the objects that take part. An event during which none of these was there is left out; if
            it names no class, objects of all take part, and none has to be there.
    """
    if classes:
        objects = objects.filter(pc.is_in(objects["class"], pa.array(classes)))
    objects = objects.sort_by("track_id")
    tracks, first, last = (objects[name].to_numpy() for name in ("track_id", "t_start", "t_end"))
    there, involved = [], []
    for t_start, t_end, t_peak in zip(
        *(events[t].to_pylist() for t in ("t_start", "t_end", "t_peak")), strict=True
    ):
        there.append(not classes or bool(np.any((first <= t_end) & (last >= t_start))))
        involved.append(tracks[(first <= t_peak) & (last >= t_peak)].tolist())
    column = EVENTS.get_field_index("track_ids")
    field = EVENTS.field(column)
    return events.set_column(column, field, pa.array(involved, field.type)).filter(
        pa.array(there, pa.bool_())
    )


def details_json(**values: Any) -> str:
    """EVENTS_VERSION and measurements as JSON with sorted keys; floats are rounded to four decimals."""
    rounded = {"version": EVENTS_VERSION} | {
        key: round(v, 4) if isinstance(v, float) else v for key, v in values.items()
    }
    return json.dumps(rounded, sort_keys=True)
