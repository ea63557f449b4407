"""The page of lines and zones counts as the rules do; its counting runs in node here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import Rule
from pipeline.lake.commit import Ending, commit, start_attempts
from pipeline.lake.schema import TRACKS
from pipeline.lake.tables import Lake
from pipeline.report import zones
from pipeline.report.gather import gather
from pipeline.report.zones import _anchors, _hold_s, find_scene, write_zones
from pipeline.rules import RuleEngine
from tests.helpers import ROOT
from tests.lake.build import RECORDED, name_of, running
from tests.report.scenes import HEIGHT, HOSTILE, WIDTH, square_lake

COUNT = ROOT / "pipeline/report/web/count.js"
LINES = [((0.3, 0.2), (0.6, 0.9)), ((0.0, 0.5), (1.0, 0.5)), ((0.5, 0.0), (0.45, 0.6))]
ZONES = [
    ((0.2, 0.2), (0.7, 0.3), (0.6, 0.8), (0.3, 0.7)),
    ((0.4, 0.4), (0.45, 0.4), (0.45, 0.5), (0.4, 0.5)),
    ((0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (0.0, 1.0)),
    ((0.5, 0.5), (1 - 1 / WIDTH, 0.5), (1 - 1 / WIDTH, 1 - 1 / HEIGHT), (0.5, 1 - 1 / HEIGHT)),  # last pixels
]


def node(script: str, data: object) -> object:
    program = shutil.which("node")
    if program is None:
        reason = "no node: apt install nodejs"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    text = f"const counting = require({json.dumps(str(COUNT))}); {script}"
    done = subprocess.run(
        [program, "-e", text], input=json.dumps(data), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def walks(seed: int) -> pa.Table:
    """Sixty random walks inside the picture, with jitter and two pauses of 12 s."""
    rng = np.random.default_rng(seed)
    rows = []
    for track in range(60):
        steps = np.cumsum(rng.normal(0, 9, (150, 2)), axis=0) + rng.uniform(100, 260, 2) * (1.6, 1)
        folded = np.abs(steps % (2 * np.array([WIDTH, HEIGHT])) - (WIDTH, HEIGHT))
        for n, (x, y) in enumerate(np.round(folded)):  # the page rounds to tenths of a pixel
            t = n / 10 + 12 * (n > 60 and track % 5 == 0)
            rows.append(
                {"track_id": track, "sample": n, "t": t, "x1": x - 10, "y1": y - 50, "x2": x + 10, "y2": y,
                 "class": ("person", "car")[track % 2], "score": 0.9, "observed": True}
            )  # fmt: skip
    return pa.Table.from_pylist(rows, TRACKS).sort_by([("t", "ascending"), ("track_id", "ascending")])


def found_by(tracks: pa.Table, rule: Rule) -> list[dict[str, Any]]:
    """Events of the rule, with `details` read."""
    engine = RuleEngine((rule,), (WIDTH, HEIGHT), "v")
    events = pa.concat_tables([engine.update(tracks), engine.finish()]).to_pylist()
    return [{**event, "details": json.loads(event["details"])} for event in events]


def by_rules(tracks: pa.Table, rule: Rule) -> Counter[tuple[str | None, str]]:
    events = found_by(tracks, rule)
    return Counter((event["direction"], event["details"]["class"]) for event in events)


def anchors(tracks: pa.Table) -> list[dict[str, object]]:
    return _anchors([SimpleNamespace(tracks=tracks)])  # type: ignore[list-item]


@pytest.mark.parametrize("seed", range(3))
def test_lines_and_zones_count_as_the_rules_do(seed: int) -> None:
    tracks = walks(seed)
    pixels = [[[x * WIDTH, y * HEIGHT] for x, y in shape] for shape in (*LINES, *ZONES)]
    script = f"""
      const {{tracks, shapes}} = JSON.parse(require("fs").readFileSync(0));
      const of = (points) => (points.length === 2 ? counting.crossings : counting.visits);
      console.log(JSON.stringify(shapes.map((points) => of(points)(tracks, points, {WIDTH}, {HEIGHT}))));
    """
    found = node(script, {"tracks": anchors(tracks), "shapes": pixels})
    for line, counted in zip(LINES, found, strict=False):
        want = by_rules(tracks, Rule(name="a", kind="line_crossing", line=line))
        got = {(way, kind): n for way, table in counted.items() for kind, n in table.items()}
        assert got == want
        assert sum(want.values()) > 5
    for zone, counted in zip(ZONES, found[len(LINES) :], strict=True):
        for kind, name in (("zone_entry", "entries"), ("zone_exit", "exits")):
            want = by_rules(tracks, Rule(name="a", kind=kind, zone=zone))
            got = Counter({(None, label): n for label, n in counted[name].items()})
            assert got == want


@pytest.mark.parametrize("anchor", ["bottom", "centre"])
def test_stays_and_occupancy_count_as_the_rules_do(anchor: str) -> None:
    tracks, more = walks(7), walks(8)
    pixels = [[[x * WIDTH, y * HEIGHT] for x, y in zone] for zone in ZONES]
    options = {"anchor": anchor, "min_count": 3, "min_duration_s": 0.5}
    script = f"""
      const {{tracks, shapes, options}} = JSON.parse(require("fs").readFileSync(0));
      console.log(JSON.stringify(shapes.map((points) => [
        counting.visits(tracks, points, {WIDTH}, {HEIGHT}, options, {{entry: 0.7, exit: 0.7, dwell: 1.5}}),
        counting.occupancy(tracks, points, {WIDTH}, {HEIGHT}, options)])));
    """
    both = _anchors([SimpleNamespace(tracks=tracks), SimpleNamespace(tracks=more)])  # type: ignore[list-item]
    found = node(script, {"tracks": both, "shapes": pixels, "options": options})
    seen: Counter[str] = Counter()
    for zone, (visits, busy) in zip(ZONES, found, strict=True):

        def events(kind: str, zone: object = zone, **more_of: object) -> list[dict[str, Any]]:
            rule = Rule.model_validate({"name": "a", "kind": kind, "zone": zone, "anchor": anchor, **more_of})
            return found_by(tracks, rule) + found_by(more, rule)

        for kind, name, least in (
            ("zone_entry", "entries", 0.7),
            ("zone_exit", "exits", 0.7),
            ("dwell", "dwells", 1.5),
        ):
            want = events(kind, min_duration_s=least)
            assert visits[name] == Counter(event["details"]["class"] for event in want), (zone, kind)
            seen[kind] += len(want)
        longest = max((event["details"]["duration_s"] for event in want), default=0)
        assert visits["longest"] == pytest.approx(longest, abs=1e-3)
        want = events("occupancy", min_count=3, min_duration_s=0.5)
        seen["occupancy"] += len(want)
        assert busy["times"] == len(want)
        assert busy["most"] == max((event["details"]["most"] for event in want), default=0)
        spans = [event["t_end"] - event["t_start"] for event in want]
        assert busy["longest"] == pytest.approx(max(spans, default=0), abs=1e-3)
    assert min(seen.values()) > 5, seen


@pytest.mark.parametrize("classes", [[], ["car"], ["person", "truck"]])
def test_an_object_that_is_taken_for_another_counts_as_the_rules_have_it(classes: list[str]) -> None:
    """Its class may change from row to row, and the rules see each as it is."""
    tracks = walks(5)
    rng = np.random.default_rng(5)
    changed = [
        str(rng.choice(["car", "person", "truck"])) if rng.random() < 0.02 else None
        for _ in range(len(tracks))
    ]
    kinds, last = [], dict[int, str]()
    for track, kind, new in zip(
        tracks["track_id"].to_pylist(), tracks["class"].to_pylist(), changed, strict=True
    ):
        kinds.append(last.setdefault(track, kind) if new is None else new)
        last[track] = kinds[-1]
    tracks = tracks.set_column(tracks.schema.names.index("class"), "class", pa.array(kinds))
    pixels = [[[x * WIDTH, y * HEIGHT] for x, y in shape] for shape in (LINES[1], ZONES[0])]
    script = f"""
      const {{tracks, shapes: [line, zone], options}} = JSON.parse(require("fs").readFileSync(0));
      console.log(JSON.stringify([
        counting.crossings(tracks, line, {WIDTH}, {HEIGHT}, options),
        counting.visits(tracks, zone, {WIDTH}, {HEIGHT}, options, {{entry: 0, exit: 0, dwell: 1.5}}),
        counting.occupancy(tracks, zone, {WIDTH}, {HEIGHT}, {{...options, min_count: 2}})]));
    """
    given = {"tracks": anchors(tracks), "shapes": pixels, "options": {"classes": classes}}
    crossed, visits, busy = node(script, given)

    def rule(kind: str, **more: object) -> Rule:
        return Rule.model_validate({"name": "a", "kind": kind, "classes": classes, **more})

    want = by_rules(tracks, rule("line_crossing", line=LINES[1]))
    assert {(way, kind): n for way, table in crossed.items() for kind, n in table.items()} == want
    for kind, name, least in (
        ("zone_entry", "entries", 0),
        ("zone_exit", "exits", 0),
        ("dwell", "dwells", 1.5),
    ):
        found = by_rules(tracks, rule(kind, zone=ZONES[0], min_duration_s=least))
        assert visits[name] == {label: n for (_, label), n in found.items()}, kind
        want |= found
    busy_times = found_by(tracks, rule("occupancy", zone=ZONES[0], min_count=2))
    assert busy["times"] == len(busy_times)
    assert len({kind for _, kind in want}) == (len(classes) or 3)


def test_occupancy_with_a_sample_a_second_counts_as_the_rules_do() -> None:
    """Frames on display at such ticks lie up to a frame more than a second apart."""
    times = np.arange(0, 40.0) - np.random.default_rng(1).uniform(0, 0.04, 40) + 0.04
    box = {
        "x1": 90.0,
        "y1": 50.0,
        "x2": 110.0,
        "y2": 100.0,
        "class": "person",
        "score": 0.9,
        "observed": True,
    }
    tracks = pa.Table.from_pylist(
        [{"track_id": 1, "sample": n, "t": t, **box} for n, t in enumerate(times)], TRACKS
    )
    zone = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    rule = Rule.model_validate({"name": "a", "kind": "occupancy", "zone": zone})
    engine = RuleEngine((rule,), (WIDTH, HEIGHT), "v", 1.0)
    [event] = pa.concat_tables([engine.update(tracks), engine.finish()]).to_pylist()
    record = SimpleNamespace(config={"video": {"sample_fps": 1.0}}, video={"fps_mean": 25.0})
    script = f"""
      const {{tracks, shape, options}} = JSON.parse(require("fs").readFileSync(0));
      console.log(JSON.stringify(counting.occupancy(tracks, shape, {WIDTH}, {HEIGHT}, options)));
    """
    pixels = [[x * WIDTH, y * HEIGHT] for x, y in zone]
    given = {"tracks": anchors(tracks), "shape": pixels, "options": {"hold_s": _hold_s(record)}}  # type: ignore[arg-type]
    busy = node(script, given)
    assert (busy["times"], busy["most"]) == (1, 1)
    assert busy["longest"] == pytest.approx(event["t_end"] - event["t_start"], abs=1e-3)


@pytest.mark.parametrize("empty", [1, 2])
def test_a_video_without_tracks_is_part_of_its_scene(tmp_path: Path, empty: int) -> None:
    """The newest as well as an older one; a video behind the rows that a page holds counts as such."""
    for number in (1, 2):
        square_lake(tmp_path / "lake", f"/archive/{number}.mp4", number=number, camera="gate")
    records = [
        replace(record, tracks=record.tracks.slice(0, 0))
        if record.video["video_id"] == f"{empty:032x}"
        else record
        for record in find_scene(str(tmp_path / "lake"), "gate")
    ]
    html = write_zones(records, tmp_path / "page").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', html).group(1))
    assert [len(track["t"]) for track in data["tracks"]] == [120]
    html = write_zones(
        [replace(r, tracks=r.tracks.slice(0, 0)) for r in records], tmp_path / "none"
    ).read_text()
    assert '"tracks": []' in html


def test_a_camera_whose_newest_video_failed_has_the_scene_of_the_others(tmp_path: Path) -> None:
    """Its size is not known, so all others were left out as of another, and the page was empty."""
    place = tmp_path / "lake"
    for number in (1, 2):
        square_lake(place, f"/archive/{number}.mp4", number=number)
    lake = Lake.open(place)
    [attempt] = start_attempts(lake, [running("broken")])
    failed = attempt.ended("failed", error_code="media_empty", error="it is empty")
    name = name_of(failed, recorded_at=RECORDED + timedelta(days=1))
    commit(lake, [Ending(analysis=failed, names=(name,))])
    records = find_scene(str(place), "gate")
    assert [record.video["uri"] for record in records] == ["/archive/2.mp4", "/archive/1.mp4"]
    assert [rule.name for rule in records[0].rules] == ["gate"]


@pytest.mark.parametrize(("held", "read"), [(100, [100]), (150, [120, 30]), (240, [120, 120])])
def test_no_more_tracks_are_read_than_a_page_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, read: list[int]
) -> None:
    """A video of two days has millions, which took gigabytes."""
    place = tmp_path / "lake"
    for number in (1, 2):
        square_lake(place, f"/archive/{number}.mp4", number=number)
    whole = [gather(str(place), f"{number:032x}") for number in (2, 1)][: len(read)]
    monkeypatch.setattr(zones, "MAX_ROWS", held)
    records = find_scene(str(place), "gate")
    assert [record.tracks.num_rows for record in records] == read
    pages = [write_zones(of, tmp_path / "page").read_text(encoding="utf-8") for of in (records, whole)]
    assert pages[0] == pages[1]


def test_a_camera_is_its_newest_videos_and_rules_are_drawn(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    square_lake(lake, "/archive/a.mp4", camera=HOSTILE[0], label=HOSTILE[1])
    square_lake(lake, "/archive/b.mp4", number=2, camera=HOSTILE[0])
    records = find_scene(str(lake), HOSTILE[0])
    assert {record.video["uri"] for record in records} == {"/archive/a.mp4", "/archive/b.mp4"}
    assert len(find_scene(str(lake), "/archive/b.mp4")) == 1
    html = write_zones([gather(str(lake), f"{1:032x}")], tmp_path / "page").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', html).group(1))
    [rule] = data["rules"]
    assert (rule["name"], rule["closed"], rule["rest"]) == (HOSTILE[1], False, {"classes": ["person"]})
    assert len(data["tracks"][0]["t"]) == 120
    assert html.count("<script") == html.count("</script") == 4
