"""Other types for the columns of an Arrow table, at any depth."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

Change = Callable[[pa.DataType], pa.DataType]


def with_types(table: pa.Table, change: Change, *, safe: bool = True) -> pa.Table:
    """The table, cast to what `change` gives for each type in it that is made of no others.

    Unless `safe`, what the new type cannot hold is cut off.
    """
    schema = pa.schema([field.with_type(_changed(field.type, change)) for field in table.schema])
    return table if schema.equals(table.schema) else table.cast(schema, safe=safe)


def _changed(kind: pa.DataType, change: Change) -> pa.DataType:
    if pa.types.is_map(kind):
        return pa.map_(_changed(kind.key_type, change), _changed(kind.item_type, change))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_changed(kind.value_type, change)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_changed(field.type, change)) for field in kind])
    return change(kind)
