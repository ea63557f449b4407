"""The lake: Delta tables of what the videos show, how results get in, and how they are asked for.

    schema    the tables, and what the stages hand each other
    tables    Lake: open, make, append        location   paths and storage options     layout  files' settings
    records   rows as dataclasses, places     staging    finished segments
    commit    how a result becomes visible    lookup     what is known, rows of a run
    current   what is current, as SQL         query      SQL for users                 views   other engines

Importing the package or `schema` loads neither deltalake nor DataFusion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.lake.tables import Lake

__all__ = ["Lake"]


def __getattr__(name: str) -> Any:
    """Load `Lake`, and deltalake with it, when it is first asked for."""
    if name != "Lake":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline.lake.tables import Lake

    return Lake
