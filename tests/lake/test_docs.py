"""docs/tables.md is what the schemas say."""

from __future__ import annotations

from pipeline.lake.docs import tables_page
from pipeline.lake.schema import TABLES
from tests.helpers import ROOT


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    assert page == tables_page(), "run: python -m pipeline.lake.docs > docs/tables.md"


def test_the_page_has_every_column() -> None:
    page = tables_page()
    for name, schema in TABLES.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")] == schema.names
