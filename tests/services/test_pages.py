"""The pages of lines and zones, and of many videos, in real Chromium."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipeline.analyze import analyze, reinterpret
from pipeline.config import Config
from pipeline.lake.query import query
from pipeline.report.overview import write_overview
from pipeline.report.survey import Choice, survey
from pipeline.report.zones import find_scene, write_zones
from tests.analyze.build import config, prepared
from tests.report.scenes import HOSTILE, square_lake, square_video
from tests.services.browser import faults, open_page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of a camera and of hostile names, with `zones/` of the one and `report/` over all."""
    folder = tmp_path_factory.mktemp("pages")
    lake = folder / "lake"
    square_lake(lake, square_video(folder / "square.mp4"))
    for number, name in enumerate(HOSTILE, 2):
        square_lake(lake, f"/archive/{name}.mp4", number=number, camera=name, label=name, kind=name)
    write_zones(find_scene(str(lake), "gate"), folder / "zones")
    for number, name in enumerate(HOSTILE):
        write_zones(find_scene(str(lake), name), folder / f"zones{number}")
    write_overview(survey(str(lake), Choice()), folder / "report", "Report")
    return folder


def rules_of(page: Any) -> Config:
    return Config.model_validate(tomllib.loads(page.input_value("#toml")))


def test_lines_and_zones_are_drawn_by_mouse_and_counted_at_once(browser: Any, pages: Path) -> None:
    page, errors = open_page(browser, pages / "zones/index.html")
    assert "left to right 0; right to left 1 (person 1)" in page.text_content("#rules li:nth-child(1)")
    box = page.locator("#drawing").bounding_box()

    def click(x: float, y: float) -> None:
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])

    page.click("#line")
    click(0.3, 0.95)  # upwards: what goes to the right of the picture goes to the right of the line
    click(0.3, 0.05)
    assert "left to right 1 (person 1); right to left 0" in page.text_content("#rules li:nth-child(2)")
    page.click("#zone")
    for corner in ((0.4, 0.1), (0.7, 0.1), (0.7, 0.9), (0.4, 0.9)):
        click(*corner)
    page.click("#finish")
    assert "entries 1 (person 1); exits 1 (person 1)" in page.text_content("#rules li:nth-child(3)")
    page.fill("#rules li:nth-child(3) input", 'yard "north"')
    page.select_option("#rules li:nth-child(3) select", "dwell")
    _, line, zone = rules_of(page).rules
    assert (line.name, line.kind, line.cameras) == ("line 1", "line_crossing", "gate")
    assert line.line[0] == pytest.approx((0.3, 0.95), abs=0.01)
    assert line.line[1] == pytest.approx((0.3, 0.05), abs=0.01)
    assert (zone.name, zone.kind, zone.min_duration_s) == ('yard "north"', "dwell", 5)
    page.click("#rules li:nth-child(1) button")
    assert [rule.name for rule in rules_of(page).rules] == ["line 1", 'yard "north"']
    with page.expect_download() as saved:
        page.click("#save")
    assert tomllib.loads(Path(saved.value.path()).read_text())["rules"][0]["name"] == "line 1"
    assert errors == []


def test_what_the_page_counts_is_what_reinterpret_then_finds(browser: Any, tmp_path: Path) -> None:
    folder, lake = prepared(tmp_path / "prepared"), str(tmp_path / "lake")
    analyze([str(folder / "long.mp4")], lake, config(folder, rules=[]))
    path = write_zones(find_scene(lake, "long.mp4"), tmp_path / "zones")
    page, errors = open_page(browser, path)
    box = page.locator("#drawing").bounding_box()

    def draw(button: str, *points: tuple[float, float]) -> None:
        page.click(button)
        for x, y in points:
            page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])

    draw("#line", (0.5, 0.02), (0.5, 0.98))
    for _ in range(3):
        draw("#zone", (0.3, 0.2), (0.7, 0.2), (0.7, 0.8), (0.3, 0.8))
        page.click("#finish")
    of = "#rules li:nth-child({}) {}".format
    page.select_option(of(3, "select"), "dwell")
    page.fill(of(3, "[data-key=min_duration_s] input"), "1")
    page.select_option(of(4, "select"), "occupancy")
    page.fill(of(4, "[data-key=min_count] input"), "2")

    def told(row: int, before: str) -> int:
        text = page.text_content(of(row, "output"))
        return int(re.search(before + r" (\d+)", text)[1])  # type: ignore[index]

    seen = {
        ("line 1", "left_to_right"): told(1, "left to right"),
        ("line 1", "right_to_left"): told(1, "right to left"),
        ("zone 1", None): told(2, "entries"),
        ("zone 2", None): told(3, "stays of 1 s or more"),
        ("zone 3", None): told(4, "2 or more inside"),
    }
    rules = rules_of(page).model_dump(mode="json")["rules"]
    assert [rule["kind"] for rule in rules] == ["line_crossing", "zone_entry", "dwell", "occupancy"]
    reinterpret(lake, config(folder, rules=rules))
    counted = query(
        lake, "SELECT label, direction, count(*) AS n FROM events WHERE source = 'rule' GROUP BY 1, 2"
    )
    found = {(row["label"], row["direction"]): row["n"] for row in counted.to_pylist()}
    assert seen == {key: found.get(key, 0) for key in seen}
    assert sum(map(bool, seen.values())) >= 4, seen
    assert errors == []


def test_lines_are_drawn_and_moved_by_keyboard(browser: Any, pages: Path) -> None:
    page, errors = open_page(browser, pages / "zones/index.html")
    page.click("#line")
    page.focus("#drawing")
    for key in (*["Shift+ArrowUp"] * 6, "Enter", *["Shift+ArrowDown"] * 12, "Enter"):
        page.keyboard.press(key)
    told = page.text_content("#rules li:nth-child(2)")
    assert "left to right 0; right to left 1 (person 1)" in told
    page.focus('[data-rule="1"][data-point="0"]')
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert rules_of(page).rules[1].line[0][0] == pytest.approx(0.49, abs=1e-3)
    assert errors == []


@pytest.mark.parametrize("width", [360, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["zones", "report"])
def test_an_accessibility_checker_finds_no_serious_fault(
    browser: Any, axe: str, pages: Path, name: str, width: int, scheme: str
) -> None:
    viewport = {"width": width, "height": 800}
    path = pages / name / "index.html"
    page, errors = open_page(browser, path, viewport=viewport, color_scheme=scheme)
    assert faults(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert errors == []


def test_hostile_names_are_shown_as_text(browser: Any, pages: Path) -> None:
    page, errors = open_page(browser, pages / "report/index.html")
    assert page.title() == "Report · marey"
    for name in HOSTILE:
        assert name in page.text_content("main")
    for number, name in enumerate(HOSTILE):
        drawing, more = open_page(browser, pages / f"zones{number}/index.html")
        assert drawing.title() == f"Lines and zones of {name} · marey"
        assert name in drawing.text_content("#drawing")
        assert rules_of(drawing).rules[0].name == name
        errors += more
    assert errors == []


def test_tables_are_sorted_by_their_heads(browser: Any, pages: Path) -> None:
    page, errors = open_page(browser, pages / "report/index.html")
    table = page.locator("table").last
    table.locator("th button").nth(1).click()
    cells = table.locator("tbody td:nth-child(2)").all_text_contents()
    assert len(cells) == 6
    table.locator("th button").nth(1).click()
    assert table.locator("tbody td:nth-child(2)").all_text_contents() == cells[::-1]
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "descending"
    assert errors == []
