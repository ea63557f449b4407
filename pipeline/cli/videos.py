"""Videos at hand for the commands that show or cut them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.cli.text import say

if TYPE_CHECKING:
    from pipeline.report.originals import Originals


def originals() -> Originals:
    """What brings videos to this disk, within run.max_spool_gb, and says so."""
    from pipeline.config import load
    from pipeline.report.originals import Originals

    return Originals(int(load().run.max_spool_gb * 1e9), say)
