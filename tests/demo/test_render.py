"""The demo's video and its truth: determinism, boxes against pixels, file, events counted by hand."""

from __future__ import annotations

import tomllib
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.config import Config
from pipeline.demo import RECORDED_AT, DemoTruth, demo_rules, render_demo
from pipeline.demo.render import Stage
from pipeline.demo.scene import KERB, SHOP_ZONE, demo_actors, demo_camera, in_picture
from pipeline.demo.truth import crossings, stands, true_events
from pipeline.lake.schema import TRACKS

SMALL = {"width": 320, "height": 180}


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage(0, **SMALL)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoTruth]:
    path = tmp_path_factory.mktemp("demo") / "demo.mp4"
    return path, render_demo(path, duration_s=2.0, **SMALL)


def test_same_seed_same_pixels(stage: Stage) -> None:
    again, other = Stage(0, **SMALL), Stage(1, **SMALL)
    t = 15.0
    first = stage.expose(stage.compose(t)[0], t, 7)
    assert np.array_equal(first, again.expose(again.compose(t)[0], t, 7))
    assert not np.array_equal(first, other.expose(other.compose(t)[0], t, 7))


def test_the_seed_does_not_change_what_happens() -> None:
    assert true_events(demo_actors(0), 30.0).equals(true_events(demo_actors(5), 30.0))


@pytest.mark.parametrize("t", [4.0, 9.0, 15.5, 16.6, 24.0])
def test_what_differs_from_the_empty_street_lies_in_the_boxes(stage: Stage, t: float) -> None:
    canvas, seen = stage.compose(t, shadows=False)
    empty = stage.background.copy()
    for sprite in sorted(stage.furniture, key=lambda sprite: -sprite.depth_m):
        sprite.paste(empty)
    changed = np.abs(canvas - empty).max(axis=2) > 48
    assert changed.sum() > 100
    inside = np.zeros_like(changed)
    for one in seen:
        x1, y1, x2, y2 = (int(v) for v in one.box)
        inside[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = True  # half-covered edge pixels
        if one.visibility > 0.9:
            own = changed[y1:y2, x1:x2]
            touched = np.flatnonzero(own.any(axis=1))
            assert touched[0] <= 3 and touched[-1] >= own.shape[0] - 4
    assert (changed & ~inside).sum() == 0


def test_someone_is_hidden_behind_the_other_on_the_crossing(stage: Stage) -> None:
    lowest = min(
        one.visibility
        for t in np.arange(16.4, 17.6, 0.2)
        for one in stage.compose(float(t))[1]
        if one.actor.track_id == 4 and one.box[2] < 300
    )
    assert lowest < 0.5


def test_file_times_and_metadata(clip: tuple[Path, DemoTruth]) -> None:
    path, truth = clip
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert container.metadata["creation_time"].startswith(RECORDED_AT.strftime("%Y-%m-%dT%H:%M:%S"))
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        packets = [(p.pts, p.dts) for p in container.demux(stream) if p.size]
        times = sorted(float(pts * stream.time_base) for pts, _ in packets)
        has_b_frames = [pts for pts, _ in packets] != sorted(pts for pts, _ in packets)
    assert has_b_frames
    assert times == pytest.approx(np.arange(50) / 25, abs=1e-6)
    assert (truth.duration_s, truth.fps) == (2.0, 25)


def test_decoded_pixels_are_the_rendered_ones(clip: tuple[Path, DemoTruth], stage: Stage) -> None:
    with av.open(str(clip[0])) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    rendered = stage.expose(stage.compose(30 / 25)[0], 30 / 25, 30)
    error = np.abs(frames[30].astype(int) - rendered.astype(int)).mean()
    assert error < 6


def test_truth_tables_agree_with_each_other(clip: tuple[Path, DemoTruth]) -> None:
    truth = clip[1]
    assert truth.tracks.schema.names[: len(TRACKS.names)] == TRACKS.names
    rows = truth.tracks.to_pylist()
    for row in rows:
        assert 0 <= row["x1"] < row["x2"] <= 320 and 0 <= row["y1"] < row["y2"] <= 180
        assert row["t"] == pytest.approx(row["sample"] / 25)
        assert 0 <= row["visibility"] <= 1
    for obj in truth.objects.to_pylist():
        own = [r["t"] for r in rows if r["track_id"] == obj["track_id"] and r["observed"]]
        assert (obj["t_start"], obj["t_end"], obj["num_frames"]) == (own[0], own[-1], len(own))


def test_progress_counts_frames(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    render_demo(
        tmp_path / "short.mp4", progress=lambda done, all_: told.append((done, all_)), duration_s=0.2, **SMALL
    )
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_events_counted_by_hand() -> None:
    """From the paths in scene.py: who walks where, and where the lines (12.5 m and 19 m) lie."""
    rows = true_events(demo_actors(0), 30.0).to_pylist()
    found = [(r["label"], r["track_id"], r["direction"]) for r in rows]
    assert sorted(found, key=str) == sorted(
        [
            ("pavement", 1, "right_to_left"),  # away
            ("pavement", 2, "left_to_right"),  # towards
            ("pavement", 5, "left_to_right"),
            ("pavement", 6, "right_to_left"),
            ("road", 7, "right_to_left"),
            ("road", 8, "left_to_right"),
            ("road", 9, "right_to_left"),
            ("at the shop", 5, None),
            ("looks at the shop", 5, None),
            ("car stops", 8, None),
        ],
        key=str,
    )
    times = {(r["label"], r["track_id"]): (r["t_start"], r["t_end"]) for r in rows}
    # walker 1 goes from 2 m to 25.5 m in 17.5 s; car 7 from -4 m at 2.5 s to 62 m at 9.5 s
    assert times["pavement", 1][0] == pytest.approx(17.5 * (12.5 - 2) / 23.5, abs=0.02)
    assert times["road", 7][0] == pytest.approx(2.5 + 7 * 23 / 66, abs=0.02)
    start, end = times["car stops", 8]
    assert start == pytest.approx(13.5, abs=0.6) and end == pytest.approx(21.0, abs=0.8)
    start, end = times["looks at the shop", 5]
    assert start < 14.5 and end > 20.5


def test_crossing_needs_the_line_itself() -> None:
    walker = demo_actors(0)[0]
    assert crossings(walker, ((KERB, 12.5), (-KERB, 12.5)), 30.0) == []
    assert stands(walker, 30.0) == []


def test_rules_are_valid_and_lie_where_the_scene_has_them() -> None:
    config = Config(**tomllib.loads(demo_rules()))
    assert [(rule.name, rule.kind) for rule in config.rules] == [
        ("pavement", "line_crossing"),
        ("road", "line_crossing"),
        ("at the shop", "zone_entry"),
        ("looks at the shop", "dwell"),
        ("car stops", "stopped"),
    ]
    zone = config.rules[2].zone
    assert zone is not None
    assert zone[0] == pytest.approx(in_picture(SHOP_ZONE[0], demo_camera()), abs=1e-4)
    for rule in config.rules[:2]:
        assert rule.line is not None and rule.line[0][0] < rule.line[1][0]
