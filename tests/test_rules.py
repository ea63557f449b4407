"""Rules on tracks whose truth is known: made paths, and TUD-Campus' annotated people."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Rule
from pipeline.lake.schema import EVENTS, TRACKS
from pipeline.rules import RuleEngine
from tests.helpers import shared_path

SIZE = (1000, 500)
HEIGHT = 100.0
YARD = ((400, 100), (600, 100), (600, 400), (400, 400))
HORSESHOE = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.6, 0.8), (0.6, 0.4), (0.4, 0.4), (0.4, 0.8), (0.2, 0.8))


def path_rows(
    track: int,
    times: Sequence[float],
    points: Sequence[tuple[float, float]],
    kind: str = "person",
    score: float = 0.75,
    height: float = HEIGHT,
) -> list[dict[str, object]]:
    """Rows of one object whose bottom centre goes through `points` (pixels)."""
    return [
        {
            "track_id": track,
            "sample": round(t * 10),
            "t": float(t),
            "x1": x - 20,
            "x2": x + 20,
            "y1": y - height,
            "y2": y,
            "class": kind,
            "score": score,
            "observed": True,
        }
        for t, (x, y) in zip(times, points, strict=True)
    ]


def table(*objects: list[dict[str, object]]) -> pa.Table:
    rows = sorted((row for rows in objects for row in rows), key=lambda row: (row["t"], row["track_id"]))
    return pa.Table.from_pylist(rows, schema=TRACKS)


def along(duration_s: float, where: Callable[[float], tuple[float, float]], fps: float = 10) -> pa.Table:
    times = np.arange(round(duration_s * fps) + 1) / fps
    return table(path_rows(1, times, [where(t) for t in times]))


def events_of(rule: Rule | tuple[Rule, ...], tracks: pa.Table, cuts: Sequence[int] = ()) -> pa.Table:
    engine = RuleEngine(rule if isinstance(rule, tuple) else (rule,), SIZE, "v1")
    bounds = [0, *sorted(cuts), tracks.num_rows]
    parts = [engine.update(tracks.slice(a, b - a)) for a, b in pairwise(bounds)]
    return pa.concat_tables([*parts, engine.finish()])


def seen(events: pa.Table) -> list[tuple[float, float]]:
    return [(round(e["t_start"], 3), round(e["t_end"], 3)) for e in events.to_pylist()]


def line(direction: str = "both", **kwargs: object) -> Rule:
    points = ((500, 100), (500, 400))
    return Rule(name="gate", kind="line_crossing", line=points, units="pixels", direction=direction, **kwargs)


def zone(kind: str, **kwargs: object) -> Rule:
    return Rule(**{"name": "yard", "kind": kind, "zone": YARD, "units": "pixels", **kwargs})


def test_line_is_crossed_at_the_interpolated_time_and_point():
    event = events_of(line(), along(10, lambda t: (455 + 10 * t, 150 + 20 * t))).to_pylist()[0]
    assert event["t_start"] == event["t_end"] == event["t_peak"] == pytest.approx(4.5)
    details = json.loads(event["details"])
    assert (details["kind"], details["x_px"], details["y_px"]) == ("line_crossing", 500.0, 240.0)
    assert (event["source"], event["label"], event["zone"]) == ("rule", "gate", "gate")
    assert event["track_ids"] == [1]
    assert event["score"] == 0.75


@pytest.mark.parametrize(
    ("sign", "direction"),
    # The line goes down the picture: for one who walks along it, larger x is on the left.
    [(1, "right_to_left"), (-1, "left_to_right")],
)
def test_direction_is_as_seen_along_the_line(sign: int, direction: str):
    tracks = along(10, lambda t: (500 + sign * (20 * t - 101), 250))
    other = "left_to_right" if direction == "right_to_left" else "right_to_left"
    assert events_of(line(), tracks)["direction"].to_pylist() == [direction]
    assert len(events_of(line(direction), tracks)) == 1
    assert len(events_of(line(other), tracks)) == 0


def test_passing_beside_the_segment_is_no_crossing():
    assert len(events_of(line(), along(10, lambda t: (450 + 10 * t, 90)))) == 0
    assert len(events_of(line(), along(10, lambda t: (450 + 10 * t, 410)))) == 0


def test_coming_back_round_the_end_counts_only_the_way_through():
    def loop(t: float) -> tuple[float, float]:
        return (400 + 50 * t, 250) if t < 4 else (600, 250 + 50 * (t - 4)) if t < 8 else (1000 - 50 * t, 450)

    assert seen(events_of(line(), along(14, loop))) == [(2.0, 2.0)]


def test_jitter_on_the_line_counts_once():
    random = np.random.default_rng(1)

    def jittery(t: float) -> tuple[float, float]:
        base = 450 + 50 * min(t, 1) + (50 * (t - 20) if t > 20 else 0)
        return base + random.uniform(-4.9, 4.9), 250  # the band is 5 % of 100 pixels

    events = events_of(line(), along(21, jittery))
    assert len(events) == 1
    assert events["direction"].to_pylist() == ["right_to_left"]
    assert 0.9 <= events["t_peak"][0].as_py() <= 20.1


@pytest.mark.parametrize(("after", "count"), [(-50, 0), (0, 0), (50, 1)])
def test_object_that_stops_on_the_line(after: float, count: int):
    def stops(t: float) -> tuple[float, float]:
        return 450 + 50 * min(t, 1) + after * max(t - 3, 0), 250

    events = events_of(line(), along(4, stops))
    assert len(events) == count
    if count:
        assert seen(events) == [(3.0, 3.0)]


def test_object_that_leaves_the_frame_on_the_line_has_not_crossed():
    assert len(events_of(line(), along(1, lambda t: (455 + 49 * t, 250)))) == 0
    assert len(events_of(line(), along(1.1, lambda t: (455 + 49 * t, 250)))) == 1


def test_there_and_back_counts_twice():
    events = events_of(line(), along(10, lambda t: (500 - 100 * np.cos(t), 250)))
    assert events["direction"].to_pylist() == ["right_to_left", "left_to_right", "right_to_left"]
    assert events["t_peak"].to_pylist() == pytest.approx([np.pi / 2, 3 * np.pi / 2, 5 * np.pi / 2], abs=0.005)


def test_line_to_the_edge_of_the_picture_goes_on_below_it():
    rule = Rule(name="gate", kind="line_crossing", line=((0.5, 0.2), (0.5, 1)))
    assert len(events_of(rule, along(10, lambda t: (450 + 10 * t, 540)))) == 1
    assert len(events_of(rule, along(10, lambda t: (450 + 10 * t, 60)))) == 0


def test_anchor_may_be_the_centre():
    tracks = along(10, lambda t: (450 + 10 * t, 430))  # bottoms below the line's end, centres beside it
    assert len(events_of(line(), tracks)) == 0
    assert len(events_of(line(anchor="centre"), tracks)) == 1


def test_zone_entry_and_exit():
    tracks = along(10, lambda t: (355 + 30 * t, 250))
    assert seen(events_of(zone("zone_entry"), tracks)) == [(1.5, 1.5)]
    assert seen(events_of(zone("zone_exit"), tracks)) == [(8.167, 8.167)]
    tracks = along(10, lambda t: (650 - 30 * t, 250))
    assert seen(events_of(zone("zone_entry"), tracks)) == [(1.667, 1.667)]
    assert seen(events_of(zone("zone_exit"), tracks)) == [(8.333, 8.333)]


def test_entry_must_last():
    tracks = along(10, lambda t: (355 + 30 * t, 250))  # inside for 6.667 s
    event = events_of(zone("zone_entry", min_duration_s=6.6), tracks).to_pylist()[0]
    assert (event["t_start"], event["t_peak"], event["t_end"]) == pytest.approx((1.5, 8.1, 8.1))
    assert len(events_of(zone("zone_entry", min_duration_s=6.7), tracks)) == 0
    assert len(events_of(zone("zone_exit", min_duration_s=1.8), tracks)) == 1  # seen outside for 1.833 s
    assert len(events_of(zone("zone_exit", min_duration_s=1.9), tracks)) == 0


def test_a_stay_that_was_long_enough_only_between_two_samples_counts():
    times, points = (0, 1, 2, 6, 7), ((300, 250), (500, 250), (500, 250), (700, 250), (700, 250))
    tracks = table(path_rows(1, times, points))  # passes the edges at 0.5 s and 4 s
    assert seen(events_of(zone("dwell", min_duration_s=3), tracks)) == [(0.5, 4.0)]
    assert len(events_of(zone("zone_entry", min_duration_s=3), tracks)) == 1
    assert len(events_of(zone("dwell", min_duration_s=4), tracks)) == 0


def test_jitter_on_the_edge_of_a_zone_is_neither_entry_nor_exit():
    random = np.random.default_rng(2)
    tracks = along(30, lambda t: (300 + 100 * min(t, 1) + random.uniform(-4.9, 4.9), 250))
    assert len(events_of(zone("zone_entry"), tracks)) == 0
    tracks = along(30, lambda t: (500 + 100 * min(t, 1) + random.uniform(-4.9, 4.9), 250))
    assert len(events_of(zone("zone_exit"), tracks)) == 0


def test_object_first_seen_inside_did_not_enter_and_lost_inside_did_not_leave():
    tracks = along(5, lambda t: (500, 250))
    assert len(events_of((zone("zone_entry"), zone("zone_exit")), tracks)) == 0
    event = events_of(zone("dwell", min_duration_s=5), tracks).to_pylist()[0]
    assert (event["t_start"], event["t_end"], event["t_peak"]) == pytest.approx((0, 5, 5))
    details = json.loads(event["details"])
    assert (details["entered"], details["left"], details["duration_s"]) == (False, False, 5.0)


def test_dwell_from_entry_to_exit():
    tracks = along(10, lambda t: (355 + 30 * t, 250))
    event = events_of(zone("dwell", min_duration_s=6.5), tracks).to_pylist()[0]
    assert (event["t_start"], event["t_end"]) == pytest.approx((1.5, 8 + 1 / 6))
    assert event["t_peak"] == pytest.approx(8.0)
    details = json.loads(event["details"])
    assert (details["entered"], details["left"], details["duration_s"]) == (True, True, 6.6667)
    assert len(events_of(zone("dwell", min_duration_s=6.7), tracks)) == 0


def test_two_dwells_of_one_object_are_two():
    tracks = along(20, lambda t: (500 - 200 * np.cos(t * np.pi / 5), 250))
    events = events_of(zone("dwell", min_duration_s=1), tracks)
    expected = [(5 * n + 5 / 3, 5 * n + 10 / 3) for n in range(4)]
    assert np.allclose(seen(events), expected, atol=0.01)


def test_zone_that_is_not_convex():
    rule = Rule(name="u", kind="zone_entry", zone=HORSESHOE)
    tracks = along(20, lambda t: (50 * t, 300))  # crosses both legs
    assert seen(events_of(rule, tracks)) == [(4.0, 4.0), (12.0, 12.0)]


def test_a_step_over_several_edges_of_a_zone_passes_the_last():
    rule = Rule(name="u", kind="zone_entry", zone=HORSESHOE)
    tracks = table(path_rows(1, (0, 1), ((100, 300), (700, 300))))  # over one leg into the other, from 600 on
    event = events_of(rule, tracks).to_pylist()[0]
    assert event["t_start"] == pytest.approx(5 / 6)
    assert json.loads(event["details"])["x_px"] == pytest.approx(600)


def test_a_zone_up_to_the_edge_holds_objects_cut_by_it():
    whole = Rule(name="all", kind="dwell", zone=((0, 0), (1, 0), (1, 1), (0, 1)), min_duration_s=2)
    assert len(events_of(whole, along(3, lambda t: (500, 500)))) == 1
    assert len(events_of(whole, along(3, lambda t: (0, 530)))) == 1


def test_who_numbers_pixels_reaches_the_edge_with_the_last_one():
    """A picture of 1000 x 500 has pixels 0 to 999 and 0 to 499; an object that its edge cuts ends at 500."""
    corners = ((0, 0), (999, 0), (999, 499), (0, 499))
    whole = Rule(name="all", kind="dwell", zone=corners, units="pixels", min_duration_s=2)
    for place in ((500, 500), (1000, 300)):
        assert len(events_of(whole, along(3, lambda t, place=place: place))) == 1
    gate = Rule(name="gate", kind="line_crossing", line=((500, 100), (500, 499)), units="pixels")
    assert len(events_of(gate, along(10, lambda t: (450 + 10 * t, 500)))) == 1
    short = gate.model_copy(update={"line": ((500, 100), (500, 490))})
    assert len(events_of(short, along(10, lambda t: (450 + 10 * t, 500)))) == 0


@pytest.mark.parametrize("x", [-50, 1050])
@pytest.mark.parametrize("y", [-50, 550])
def test_a_zone_in_a_corner_of_the_picture_holds_objects_cut_by_both_edges(x, y):
    whole = Rule(name="all", kind="dwell", zone=((0, 0), (1, 0), (1, 1), (0, 1)), min_duration_s=2)
    assert len(events_of(whole, along(3, lambda t: (x, y)))) == 1


def test_a_small_zone_can_be_entered_by_a_large_object():
    strip = ((498, 100), (502, 100), (502, 400), (498, 400))  # 4 pixels wide, the band would be 5
    rule = Rule(name="strip", kind="zone_entry", zone=strip, units="pixels")
    assert len(events_of(rule, along(2, lambda t: (490.5 + 10 * t, 250)))) == 1


def stopped(**kwargs: object) -> Rule:
    return Rule(name="halt", kind="stopped", min_duration_s=3, **kwargs)


def halt(t: float) -> tuple[float, float]:
    """100 pixels (one height) a second, standing from 2 to 7."""
    return 100 + 100 * (min(t, 2) + max(t - 7, 0)), 250


def test_stopped_from_halt_to_start():
    event = events_of(stopped(), along(10, halt)).to_pylist()[0]
    assert (event["t_start"], event["t_peak"], event["t_end"]) == pytest.approx((2, 5, 7), abs=0.1)
    assert event["zone"] is None
    assert json.loads(event["details"])["duration_s"] == pytest.approx(5, abs=0.1)


def test_stopped_survives_jitter_of_the_box():
    random = np.random.default_rng(3)

    def shaky(t: float) -> tuple[float, float]:
        x, y = halt(t)
        return x + random.normal(0, 1), y + random.normal(0, 1)

    events = events_of(stopped(), along(10, shaky))
    assert len(events) == 1
    assert seen(events)[0] == pytest.approx((2, 7), abs=0.25)


def test_stopped_shorter_or_faster_is_nothing():
    assert len(events_of(stopped(), along(10, lambda t: (100 + 11 * t, 250)))) == 0
    assert len(events_of(stopped(), along(10, lambda t: (100 + 9 * t, 250)))) == 1
    assert len(events_of(stopped(), along(2.9, lambda t: (100, 250)))) == 0
    assert len(events_of(stopped(), along(3.0, lambda t: (100, 250)))) == 1


def test_a_stop_of_less_than_the_window_of_speeds():
    rule = Rule(name="halt", kind="stopped", min_duration_s=0.5)
    tracks = along(4, lambda t: (100 + 100 * (min(t, 2) + max(t - 2.7, 0)), 250))
    assert seen(events_of(rule, tracks)) == [(2.0, 2.7)]
    assert len(events_of(stopped(), tracks)) == 0


def test_a_stretch_has_the_score_of_its_beginning():
    rows = [{**row, "score": 0.5 if row["t"] < 5 else 0.9} for row in along(10, halt).to_pylist()]
    [event] = events_of(stopped(), table(rows)).to_pylist()
    assert event["score"] == 0.5


def test_turning_round_is_not_stopping():
    rule = Rule(name="halt", kind="stopped", min_duration_s=1)
    assert len(events_of(rule, along(10, lambda t: (500 - 50 * abs(t - 5), 250)))) == 0


def test_stopped_within_a_zone_only():
    inside, outside = ((250, 100), (350, 100), (350, 400), (250, 400)), ((400, 100), (500, 100), (500, 400))
    tracks = along(10, halt)  # stands at x = 300
    assert len(events_of(stopped(zone=inside, units="pixels"), tracks)) == 1
    assert len(events_of(stopped(zone=outside, units="pixels"), tracks)) == 0


def test_stopped_twice():
    tracks = along(20, lambda t: halt(t) if t < 10 else halt(t - 10))
    assert len(events_of(stopped(), tracks)) == 2


def test_classes_are_filtered():
    times = np.arange(0, 10.1, 0.1)
    points = [(455 + 10 * t, 250.0) for t in times]
    tracks = table(path_rows(1, times, points, "car"), path_rows(2, times, points, "person"))
    assert events_of(line(), tracks)["track_ids"].to_pylist() == [[1], [2]]
    assert events_of(line(classes=("person",)), tracks)["track_ids"].to_pylist() == [[2]]


def test_an_object_away_for_long_is_another_one():
    times = [0.0, 0.1, 0.2, 20.0, 20.1]
    points = [(400.0, 250.0)] * 3 + [(600.0, 250.0)] * 2
    assert len(events_of(line(), table(path_rows(1, times, points)))) == 0
    assert len(events_of(line(), table(path_rows(1, [0, 0.1, 0.2, 5, 5.1], points)))) == 1


def test_ids_are_equal_for_equal_events_and_differ_by_video():
    tracks = along(10, lambda t: (455 + 10 * t, 250))
    first, again = events_of(line(), tracks), events_of(line(), tracks)
    assert first["event_id"].to_pylist() == again["event_id"].to_pylist()
    other = RuleEngine((line(),), SIZE, "v2")
    assert other.update(tracks)["event_id"].to_pylist() != first["event_id"].to_pylist()


def test_rows_out_of_order_are_refused():
    tracks = along(10, lambda t: (455 + 10 * t, 250))
    engine = RuleEngine((line(),), SIZE, "v1")
    engine.update(tracks.slice(50))
    with pytest.raises(ValueError, match="in order of t"):
        engine.update(tracks.slice(0, 50))


def test_no_rows_and_no_rules_give_an_empty_table():
    engine = RuleEngine((), SIZE, "v1")
    assert engine.update(TRACKS.empty_table()).schema == EVENTS
    assert engine.update(along(1, lambda t: (0, 0))).num_rows == 0
    assert engine.finish().schema == EVENTS


ALL = (
    line(),
    zone("zone_entry", min_duration_s=0.3),
    zone("zone_exit"),
    zone("dwell", min_duration_s=0.5),
    Rule(name="halt", kind="stopped", min_duration_s=0.5, max_speed=0.5),
    Rule(name="halt in", kind="stopped", min_duration_s=0.5, max_speed=2, zone=YARD, units="pixels"),
    Rule(name="against", kind="wrong_way", line=((0, 0.5), (1, 0.5)), min_duration_s=0.3),
    zone("appear", name="new"),
    zone("disappear", name="lost"),
    zone("occupancy", name="used"),
    Rule(name="crowd", kind="crowding", min_count=4),
    zone("crowding", name="crowd in", min_count=2, min_duration_s=0.5),
    Rule(name="rush", kind="approach"),
)
NAMES = {rule.name for rule in ALL}


def crowd(seed: int, num_tracks: int = 6, num_samples: int = 60) -> pa.Table:
    """Random walks round line and zone, with gaps, halts and one absence of 12 s."""
    random = np.random.default_rng(seed)
    objects = []
    for track in range(num_tracks):
        steps = random.normal(0, 25, (num_samples, 2)) * random.integers(0, 2, (num_samples, 1))
        points = np.array([500, 250]) + np.cumsum(steps, axis=0)
        times = np.arange(num_samples) / 10 + 12.0 * (np.arange(num_samples) > random.integers(30, 200))
        keep = random.random(num_samples) > 0.2
        objects.append(path_rows(track, times[keep], [tuple(p) for p in points[keep]]))
    return table(*objects)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 250), max_size=12))
def test_cutting_the_rows_changes_nothing(seed: int, cuts: list[int]):
    tracks = crowd(seed)
    cuts = [cut for cut in cuts if cut < tracks.num_rows]
    assert events_of(ALL, tracks, cuts).to_pylist() == events_of(ALL, tracks).to_pylist()


def test_row_by_row_equals_at_once_and_finds_every_kind():
    tracks = crowd(7, num_tracks=20)
    whole = events_of(ALL, tracks)
    assert set(whole["label"].to_pylist()) == NAMES
    assert events_of(ALL, tracks, range(tracks.num_rows)).equals(whole)
    assert len(set(whole["event_id"].to_pylist())) == whole.num_rows


def test_memory_follows_the_present_objects():
    engine = RuleEngine(ALL, SIZE, "v1")
    for hour in range(200):
        times = hour * 20 + np.arange(20) / 10
        engine.update(table(*(path_rows(hour * 5 + n, times, [(500.0 + n, 250.0)] * 20) for n in range(5))))
        assert engine.num_remembered <= 5 * 6 * len(ALL)


def test_cost_grows_no_faster_than_length():
    """Side by side, the best of six: other work on the machine slows both."""

    def seconds(ticks: int) -> float:
        times = np.arange(ticks) / 10
        objects = [path_rows(n, times, [(5 * n + 10 * t, 200 + 2 * t) for t in times]) for n in range(20)]
        tracks = table(*objects)
        begin = time.process_time()
        events_of(ALL, tracks)
        return time.process_time() - begin

    pairs = [(seconds(150), seconds(600)) for _ in range(6)]
    assert min(long for _, long in pairs) < 8 * min(short for short, _ in pairs)


def test_tud_campus_crossings_of_the_middle():
    """People who pass x = 320 with their box's bottom centre, counted from the annotation.

    By hand: person 2 goes left at frame 2, persons 3, 4, 5 and 7 go right at frames 28, 19, 36 and 65.
    """
    truth = np.loadtxt(shared_path("data/tracking/mot15/TUD-Campus/gt.txt"), delimiter=",")
    truth = truth[(truth[:, 6] == 1)][np.lexsort((truth[:, 1], truth[:, 0]))]
    frame, track, left, top, width, height = truth[:, :6].T
    x = left - 1 + width / 2
    counted = []
    for person in np.unique(track):
        side = np.sign(x[track == person] - 320)
        frames = frame[track == person]
        counted += [
            (int(frames[k + 1]), int(person), int(side[k + 1])) for k in np.flatnonzero(np.diff(side))
        ]
    assert sorted(counted) == [(2, 2, -1), (19, 4, 1), (28, 3, 1), (36, 5, 1), (65, 7, 1)]

    tracks = pa.table(
        {
            "track_id": track.astype(np.int64), "sample": frame.astype(np.int64) - 1, "t": (frame - 1) / 25,
            "x1": left - 1, "y1": top - 1, "x2": left - 1 + width, "y2": top - 1 + height,
            "class": ["person"] * len(frame), "score": np.ones(len(frame)), "observed": [True] * len(frame),
        }
    ).cast(TRACKS)  # fmt: skip
    rule = Rule(name="middle", kind="line_crossing", line=((0.5, 0), (0.5, 1)))
    engine = RuleEngine((rule,), (640, 480), "tud")
    events = pa.concat_tables([engine.update(tracks), engine.finish()]).to_pylist()
    found = [(e["t_peak"], e["track_ids"][0], 1 if e["direction"] == "right_to_left" else -1) for e in events]
    assert len(found) == 5
    for (t, person, way), (at_frame, counted_person, counted_way) in zip(
        sorted(found), sorted(counted), strict=True
    ):
        assert (person, way) == (counted_person, counted_way)
        assert (at_frame - 2) / 25 <= t <= (at_frame - 1) / 25
