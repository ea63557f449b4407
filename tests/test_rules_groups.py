"""Rules on several objects, wrong ways, and objects that come and go, on made paths whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.config import Rule
from pipeline.rules import RuleEngine
from tests.test_rules import HEIGHT, SIZE, YARD, along, events_of, path_rows, seen, table, zone

Where = Callable[[float], tuple[float, float]]


def moving(track: int, begin_s: float, end_s: float, where: Where, kind: str = "person") -> list[dict]:
    times = np.arange(round(begin_s * 10), round(end_s * 10) + 1) / 10
    return path_rows(track, times, [where(t) for t in times], kind)


def standing(track: int, begin_s: float, end_s: float, x: float = 500, kind: str = "person") -> list[dict]:
    return moving(track, begin_s, end_s, lambda t: (x, 250), kind)


def measured(events: pa.Table) -> list[dict[str, object]]:
    return [json.loads(text) for text in events["details"].to_pylist()]


# -- wrong way ---------------------------------------------------------------------------------------------


def against(**kwargs: object) -> Rule:
    return Rule(name="against", kind="wrong_way", line=((0.2, 0.5), (0.8, 0.5)), **kwargs)


@pytest.mark.parametrize(("sign", "count"), [(1, 0), (-1, 1)])
def test_against_the_arrow_is_the_wrong_way(sign: int, count: int):
    assert len(events_of(against(), along(5, lambda t: (500 + sign * 60 * t, 250)))) == count
    turned = Rule(name="against", kind="wrong_way", line=((0.8, 0.5), (0.2, 0.5)))
    assert len(events_of(turned, along(5, lambda t: (500 + sign * 60 * t, 250)))) == 1 - count


def test_wrong_way_from_turn_to_turn():
    def there_and_back(t: float) -> tuple[float, float]:
        return 500 + 80 * min(t, 3) - 80 * max(min(t, 8) - 3, 0) + 80 * max(t - 8, 0), 250

    event = events_of(against(min_duration_s=2), along(11, there_and_back)).to_pylist()[0]
    assert (event["t_start"], event["t_peak"], event["t_end"]) == pytest.approx((3, 5, 8))
    assert event["track_ids"] == [1]
    assert json.loads(event["details"])["class"] == "person"
    assert len(events_of(against(min_duration_s=5), along(11, there_and_back))) == 1
    assert len(events_of(against(min_duration_s=5.1), along(11, there_and_back))) == 0


@pytest.mark.parametrize(
    ("degrees", "count"), [(0, 1), (55, 1), (65, 0), (90, 0), (180, 0), (-55, 1), (-65, 0)]
)
def test_wrong_way_within_60_degrees_of_the_opposite(degrees: float, count: int):
    dx, dy = -80 * np.cos(np.radians(degrees)), 80 * np.sin(np.radians(degrees))
    rule = against(min_speed=0.3)
    assert len(events_of(rule, along(3, lambda t: (500 + dx * t, 250 + dy * t)))) == count


def test_wrong_way_slowly_or_standing_with_jitter_is_none():
    random = np.random.default_rng(4)
    assert len(events_of(against(), along(5, lambda t: (500 - 49 * t, 250)))) == 0
    assert len(events_of(against(), along(5, lambda t: (500 - 51 * t, 250)))) == 1
    assert len(events_of(against(), along(60, lambda t: (500 + random.uniform(-5, 5), 250)))) == 0


def test_wrong_way_within_a_zone_only():
    lane = Rule(name="lane", kind="wrong_way", line=((0, 250), (900, 250)), zone=YARD, units="pixels")
    passing = along(10, lambda t: (904 - 100 * t, 250))  # in the zone, beyond its band, from 3.1 to 5 s
    assert seen(events_of(lane, passing)) == [(3.1, 5.0)]
    assert len(events_of(lane, along(10, lambda t: (904 - 100 * t, 50)))) == 0


# -- coming and going --------------------------------------------------------------------------------------


def test_appears_inside_but_not_by_walking_in_nor_at_the_start():
    walker = moving(1, 0, 10, lambda t: (300 + 30 * t, 250))
    bag = standing(2, 4, 10)
    there_before = standing(3, 0, 10)
    event = events_of(zone("appear", min_duration_s=2), table(walker, bag, there_before)).to_pylist()
    assert [(e["t_start"], e["t_peak"], e["t_end"], e["track_ids"]) for e in event] == [(4, 6, 6, [2])]
    assert len(events_of(zone("appear", min_duration_s=6.1), table(bag))) == 0


def test_disappears_inside_but_not_by_walking_out_nor_at_the_end():
    walker = moving(1, 0, 10, lambda t: (500 + 30 * t, 250))
    bag = standing(2, 0, 6)
    witness = standing(3, 0, 20)
    found = events_of(zone("disappear", min_duration_s=3), table(walker, bag, witness)).to_pylist()
    assert [(e["t_start"], e["t_end"], e["track_ids"]) for e in found] == [(6, 6, [2])]
    assert len(events_of(zone("disappear"), table(bag, standing(3, 0, 16)))) == 0  # 10 s and no longer
    assert len(events_of(zone("disappear", min_duration_s=6.1), table(bag, witness))) == 0


@pytest.mark.parametrize(("end_t", "count"), [(None, 0), (15.9, 0), (16.0, 0), (16.1, 1), (99.0, 1)])
def test_the_last_object_of_an_empty_picture_disappears_too(end_t: float | None, count: int):
    """Nobody else is seen after it, but the video goes on."""
    engine = RuleEngine((zone("disappear"),), SIZE, "v1")
    assert engine.update(table(standing(2, 0, 6))).num_rows == 0
    found = engine.finish(end_t).to_pylist()
    assert [(e["t_start"], e["t_end"], e["track_ids"]) for e in found] == count * [(6, 6, [2])]


def test_found_again_within_ten_seconds_has_not_disappeared():
    bag = [*standing(2, 0, 6), *standing(2, 15, 30)]
    assert len(events_of(zone("disappear"), table(bag, standing(3, 0, 35, 100)))) == 0
    bag = [*standing(2, 0, 6), *standing(2, 17, 30)]
    rules = (zone("appear", name="new"), zone("disappear", name="lost"))
    found = events_of(rules, table(bag, standing(3, 0, 50, 100)))
    assert [(e["label"], e["t_start"]) for e in found.to_pylist()] == [("lost", 6), ("new", 17), ("lost", 30)]


def called(rows: list[dict[str, object]], *names: tuple[float, str]) -> list[dict[str, object]]:
    """The rows with the class that each is known by, from the given seconds on."""
    return [
        {**row, "class": next(name for begin_s, name in reversed(names) if row["t"] >= begin_s)}
        for row in rows
    ]


def test_to_be_called_otherwise_is_neither_to_come_nor_to_go():
    """A truck is first taken for a car, another, there from the start, is called one for two seconds."""
    van = called(standing(1, 4, 30), (0, "car"), (6, "truck"))
    coach = called(standing(2, 0, 50, 450), (0, "bus"), (3, "truck"), (5, "bus"))
    rows = table(van, coach, standing(9, 0, 60, 100))
    kinds = ("car", "truck", "bus")
    rules = tuple(
        zone(rule, name=f"{rule} {kind}", classes=(kind,))
        for rule in ("appear", "disappear")
        for kind in kinds
    )
    found = {e["label"]: (e["t_start"], e["track_ids"]) for e in events_of(rules, rows).to_pylist()}
    assert found == {"appear car": (4, [1]), "appear truck": (4, [1]), "disappear truck": (30, [1])}
    assert len(events_of(zone("disappear", classes=("bus",)), table(coach, standing(9, 0, 61, 100)))) == 1


# -- occupancy and crowding --------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_occupancy_from_entry_to_exit(sign: int):
    tracks = along(10, lambda t: (500 + sign * (30 * t - 145), 250))  # 355 to 655, or mirrored
    event = events_of(zone("occupancy"), tracks).to_pylist()[0]
    assert (event["t_start"], event["t_end"]) == pytest.approx((1.5, 8 + 1 / 6))
    assert event["t_peak"] == event["t_start"]
    assert (event["zone"], event["track_ids"]) == ("yard", [1])


def test_occupancy_goes_on_while_another_is_inside():
    # Inside from 1.667 to 8.333, from 4.667 to 11.333, and from 20 to the end at 25.
    first = moving(1, 0, 10, lambda t: (350 + 30 * t, 250))
    second = moving(2, 3, 13, lambda t: (350 + 30 * (t - 3), 250))
    events = events_of(zone("occupancy"), table(first, second, standing(3, 20, 25)))
    assert np.allclose(seen(events), [(5 / 3, 34 / 3), (20, 25)], atol=0.001)
    assert events["t_peak"].to_pylist() == pytest.approx([14 / 3, 20])
    assert events["track_ids"].to_pylist() == [[1, 2], [3]]
    assert [(d["most"], d["duration_s"]) for d in measured(events)] == [(2, 9.6667), (1, 5.0)]


def test_whoever_lingers_on_the_edge_is_inside_from_a_second_before_it_is_certain():
    def lingers(t: float) -> tuple[float, float]:  # the edge is at 400, and certain what is 5 pixels beyond
        return (390 if t < 1 else 402 if t < 5 else 450), 250

    assert seen(events_of(zone("occupancy"), along(10, lingers))) == [(4.0, 10.0)]


def test_occupancy_by_jitter_on_the_edge_is_none():
    random = np.random.default_rng(5)
    tracks = along(30, lambda t: (300 + 100 * min(t, 1) + random.uniform(-4.9, 4.9), 250))
    assert len(events_of(zone("occupancy"), tracks)) == 0


def test_an_object_that_stops_on_the_edge_of_the_zone():
    def stops(t: float, after: float) -> tuple[float, float]:
        return 350 + 50 * min(t, 1) + after * max(t - 3, 0), 250  # on the edge from 1 to 3 s

    assert len(events_of(zone("occupancy"), along(5, lambda t: stops(t, 0)))) == 0
    assert len(events_of(zone("occupancy"), along(5, lambda t: stops(t, -50)))) == 0
    assert seen(events_of(zone("occupancy"), along(5, lambda t: stops(t, 50)))) == [(3.0, 5.0)]


def test_crowding_begins_with_the_nth_and_ends_when_it_goes():
    people = [standing(n, n, 20 - n, 410 + 40 * n) for n in range(4)]  # n is there from n to 20 - n
    for count, span in ((2, (1, 19)), (3, (2, 18)), (4, (3, 17))):
        events = events_of(zone("crowding", min_count=count), table(*people))
        assert seen(events) == [span]
        assert events["t_peak"].to_pylist() == [3.0]
        assert events["track_ids"].to_pylist() == [[0, 1, 2, 3]]
    assert len(events_of(zone("crowding", min_count=5), table(*people))) == 0
    assert len(events_of(zone("crowding", min_count=3, min_duration_s=16), table(*people))) == 1
    assert len(events_of(zone("crowding", min_count=3, min_duration_s=16.1), table(*people))) == 0


def test_a_crowd_is_as_sure_as_its_members_are_on_the_mean():
    times = np.arange(50) / 10
    pair = [path_rows(n, times, [(500, 250)] * 50, score=score) for n, score in ((1, 0.5), (2, 0.9))]
    [event] = events_of(zone("crowding", min_count=2), table(*pair)).to_pylist()
    assert event["score"] == pytest.approx(0.7)


def test_crowding_without_zone_counts_the_picture_and_only_the_classes():
    rows = table(standing(1, 0, 9, 50), standing(2, 0, 9, 950), standing(3, 0, 9, 500, "dog"))
    assert len(events_of(zone("crowding", min_count=2), rows)) == 0
    assert len(events_of(Rule(name="crowd", kind="crowding", min_count=3), rows)) == 1
    people = Rule(name="crowd", kind="crowding", min_count=3, classes=("person",))
    assert len(events_of(people, rows)) == 0


@pytest.mark.parametrize(("back", "spans"), [(5.9, [(0, 12)]), (6, [(0, 12)]), (6.1, [(0, 5), (6.1, 12)])])
def test_a_crowd_survives_one_unseen_for_a_second(back: float, spans: list[tuple[float, float]]):
    rows = table(standing(1, 0, 12), [*standing(2, 0, 5, 450), *standing(2, back, 12, 450)])
    assert seen(events_of(zone("crowding", min_count=2), rows)) == spans


@pytest.mark.parametrize(("turn_s", "spans"), [(0.5, [(0, 10)]), (0.6, [(0, 5), (6.2, 10.2)])])
def test_a_crowd_survives_one_outside_for_a_second(turn_s: float, spans: list[tuple[float, float]]):
    def out_and_in(t: float) -> tuple[float, float]:
        """Walks out at 5 s, having turned after `turn_s` in again, and 4 s later out on the other side."""
        return 600 - 50 * abs(t - 5 - turn_s) + 50 * turn_s, 250

    rows = table(standing(1, 0, 12), moving(2, 4, 12, out_and_in), standing(3, 0, 4, 450))
    assert seen(events_of(zone("crowding", min_count=2), rows)) == spans


@pytest.mark.parametrize("fps", [0.5, 1.0])
def test_few_samples_a_second_are_enough(fps: float):
    """The frame on display at a tick of the grid is up to a frame older than the tick."""
    random = np.random.default_rng(6)
    times = np.arange(0, 40, 1 / fps) - random.uniform(0, 1 / 25, round(40 * fps)) + 0.04
    rows = table(
        path_rows(1, times, [(500, 250)] * len(times)),
        path_rows(2, times, [(900 - 100 * min(t, 3.5) / fps, 250) for t in times]),  # comes near, and stays
    )
    rules = (
        zone("occupancy"),
        Rule(name="two", kind="crowding", min_count=2),
        rush(min_speed=0.2, distance=3),
    )
    engine = RuleEngine(rules, SIZE, "v1", 1 / fps)
    found = pa.concat_tables([engine.update(rows), engine.finish()])
    spans = {e["label"]: (e["t_start"], e["t_end"]) for e in found.to_pylist()}
    assert len(found) == len(spans) == 3
    assert spans["yard"] == spans["two"] == (times[0], times[-1])
    gone = rows.filter(pc.or_(pc.equal(rows["track_id"], 1), pc.not_equal(rows["t"], times[9])))
    engine = RuleEngine(rules[1:2], SIZE, "v1", 1 / fps)
    found = pa.concat_tables([engine.update(gone), engine.finish()]).to_pylist()
    assert [(e["t_start"], e["t_end"]) for e in found] == [(times[0], times[8]), (times[10], times[-1])]


def test_crowd_that_leaves_the_frame_ends_when_it_was_last_seen():
    rows = table(standing(1, 0, 5), standing(2, 0, 7, 450), standing(9, 0, 30, 50))
    assert seen(events_of(zone("crowding", min_count=2), rows)) == [(0, 5)]
    assert seen(events_of(zone("occupancy"), rows)) == [(0, 7)]


# -- approach ----------------------------------------------------------------------------------------------


def rush(**kwargs: object) -> Rule:
    return Rule(**{"name": "rush", "kind": "approach", "min_speed": 1.0, "distance": 1.0, **kwargs})


@pytest.mark.parametrize("sign", [1, -1])
def test_two_that_run_at_each_other(sign: int):
    # 6 heights apart at 2 s, closing at 2 heights a second until they stand one apart from 4.5 s on.
    def half(t: float) -> float:
        return max(3 - max(t - 2, 0), 0.5) * HEIGHT

    first = moving(1, 0, 8, lambda t: (500 - sign * half(t), 250))
    second = moving(2, 0, 8, lambda t: (500 + sign * half(t), 250))
    event = events_of(rush(min_speed=2.0), table(first, second)).to_pylist()[0]
    assert (event["t_start"], event["t_peak"], event["t_end"]) == pytest.approx((2, 4.5, 4.5))
    assert event["track_ids"] == [1, 2]
    details = json.loads(event["details"])
    assert (details["speed_heights_s"], details["distance_heights"]) == (2.0, 1.0)
    assert len(events_of(rush(min_speed=2.1), table(first, second))) == 0
    assert len(events_of(rush(min_speed=2.0, distance=0.9), table(first, second))) == 0
    assert len(events_of(rush(min_speed=2.0, min_duration_s=2.5), table(first, second))) == 1
    assert len(events_of(rush(min_speed=2.0, min_duration_s=2.6), table(first, second))) == 0


def test_an_approach_counts_in_the_mean_height_at_the_anchor_and_is_as_sure_as_the_less_sure():
    """A child runs at a van; near is a mean height, 150 pixels, which the bottoms of the boxes never are."""
    times = np.arange(41) / 10

    def met(**kwargs: object) -> list[dict[str, object]]:
        scores = np.where(times < 2, 0.5, 0.9)
        runner = [
            {**row, "score": score}
            for row, score in zip(
                path_rows(1, times, [(100 + 150 * t, 200) for t in times], height=HEIGHT), scores, strict=True
            )
        ]
        van = path_rows(2, times, [(700, 250)] * 41, "car", score=0.8, height=2 * HEIGHT)
        return events_of(rush(**kwargs), table(runner, van)).to_pylist()

    [event] = met(anchor="centre", min_speed=0.9, distance=1.0)
    assert event["t_peak"] == pytest.approx(3.0)  # 150 pixels apart; the centres lie on one line
    assert (event["score"], event["track_ids"]) == (pytest.approx(0.8), [1, 2])
    assert json.loads(event["details"])["speed_heights_s"] == pytest.approx(1.0)
    assert met(anchor="centre", min_speed=1.1, distance=1.0) == []
    assert met(min_speed=0.9, distance=0.05) == []
    assert met(anchor="centre", min_speed=0.9, distance=0.05) != []
    assert met(classes=("person",), min_speed=0.5, distance=1.0) == []
    assert met(classes=("person", "car"), min_speed=0.5, distance=1.0) != []


def test_an_approach_is_measured_over_half_a_second_not_over_what_was_not_seen():
    """Two who were lost for 3 s and are seen nearer may have gone slowly."""
    rows = table(
        [*standing(1, 0, 1, 100), *standing(1, 4, 5, 400)],
        [*standing(2, 0, 1, 900), *standing(2, 4, 5, 450)],
    )
    assert len(events_of(rush(), rows)) == 0


def test_one_that_runs_at_one_who_stands_and_past_others():
    runner = moving(1, 0, 4, lambda t: (100 + 150 * t, 250))
    rows = table(runner, standing(2, 0, 4, 700), moving(3, 0, 4, lambda t: (400, 490)))
    events = events_of(rush(), rows)  # never nearer to 3 than 2.4 heights
    assert events["track_ids"].to_pylist() == [[1, 2]]
    assert events["t_peak"].to_pylist() == [pytest.approx(3.4)]  # 90 pixels at 3.4 s


def test_running_apart_or_side_by_side_is_no_approach():
    apart = [moving(n, 0, 3, lambda t, n=n: (500 + (2 * n - 1) * 150 * t, 250)) for n in (0, 1)]
    beside = [moving(n, 0, 3, lambda t, n=n: (100 + 200 * t + 50 * n, 250)) for n in (0, 1)]
    assert len(events_of(rush(), table(*apart))) == 0
    assert len(events_of(rush(), table(*beside))) == 0


def test_approach_within_a_zone_only():
    runner = moving(1, 0, 4, lambda t: (100 + 150 * t, 250))
    rows = table(runner, standing(2, 0, 4, 700))
    assert len(events_of(rush(zone=YARD, units="pixels"), rows)) == 0
    wide = ((200, 100), (800, 100), (800, 400), (200, 400))
    event = events_of(rush(zone=wide, units="pixels"), rows).to_pylist()[0]
    assert (event["t_start"], event["track_ids"], event["zone"]) == (pytest.approx(0.7), [1, 2], "rush")


# -- all ---------------------------------------------------------------------------------------------------


def test_events_name_the_class_so_that_they_can_be_counted_by_it():
    rule = Rule(name="gate", kind="line_crossing", line=((0.5, 0), (0.5, 1)))
    rows = table(
        moving(1, 0, 9, lambda t: (300 + 50 * t, 250), "car"),
        moving(2, 0, 9, lambda t: (700 - 50 * t, 250), "person"),
    )
    events = events_of(rule, rows)
    counted = {
        (d["class"], e["direction"]) for d, e in zip(measured(events), events.to_pylist(), strict=True)
    }
    assert counted == {("car", "right_to_left"), ("person", "left_to_right")}


def test_the_class_of_an_event_is_that_known_when_it_was_certain():
    truck = called(moving(1, 0, 9, lambda t: (300 + 50 * t, 250)), (0, "car"), (2, "truck"), (8, "bus"))
    rules = (
        Rule(name="gate", kind="line_crossing", line=((0.5, 0), (0.5, 1))),  # after 4 s
        Rule(name="early", kind="line_crossing", line=((0.35, 0), (0.35, 1))),  # after 1 s
        Rule(name="stay", kind="dwell", zone=((0.5, 0), (1, 0), (1, 1), (0.5, 1)), min_duration_s=1),
    )
    for cuts in ((), (10, 35, 85)):
        events = events_of(rules, table(truck), cuts)
        kinds = dict(zip(events["label"].to_pylist(), (d["class"] for d in measured(events)), strict=True))
        assert kinds == {"gate": "truck", "early": "car", "stay": "bus"}


def test_a_day_of_video_takes_no_more_memory_than_a_minute():
    """24 h at an update in five minutes: what is remembered stays bounded by what is present."""
    rules = (
        zone("occupancy", name="used"),
        zone("crowding", name="crowd", min_count=2),
        zone("disappear", name="lost"),
        against(),
        rush(),
    )
    engine = RuleEngine(rules, SIZE, "v1")
    most = []
    for minute in range(0, 24 * 60, 5):
        times = minute * 60 + np.arange(0, 20, 2.0)
        rows = [
            path_rows(2 * minute + n, times, [(450 + 10 * n + t % 60, 250) for t in times]) for n in (0, 1)
        ]
        engine.update(table(*rows))
        most.append(engine.num_remembered)
    assert max(most[-60:]) <= max(most[:5])


@pytest.mark.parametrize("cuts", [(), (100,), (399, 400, 401), (150, 450)])
@pytest.mark.parametrize("early", [True, False])
def test_over_missing_frames_nobody_comes_or_goes(cuts: tuple[int, ...], early: bool):
    """60 s are lost: what stood before and stands after is another track, and has neither gone nor come."""
    car = [*standing(1, 0, 20), *standing(2, 80, 120)]
    bags = [*standing(3, 0, 9, 450), *standing(4, 82, 120, 550), *standing(5, 80.5, 95, 580)]
    events = with_a_loss(table(car, bags), (20.0, 80.0), cuts, early)
    assert [(e["label"], e["t_start"], e["track_ids"]) for e in events] == [
        ("lost", 9, [3]),
        ("new", 82, [4]),
        ("lost", 95, [5]),
    ]


@pytest.mark.parametrize("cuts", [(), (50,), (91,), (92, 93)])
@pytest.mark.parametrize("early", [True, False])
def test_a_loss_counts_however_long_nobody_is_seen_after_it(cuts: tuple[int, ...], early: bool):
    rows = table(standing(1, 0, 9), standing(2, 100, 110))
    events = with_a_loss(rows, (10.0, 30.0), cuts, early)
    assert [(e["label"], e["t_start"], e["track_ids"]) for e in events] == [("new", 100, [2])]


def with_a_loss(
    rows: pa.Table, lost: tuple[float, float], cuts: tuple[int, ...], early: bool
) -> list[dict[str, object]]:
    """Events of rows that are given in pieces; the loss is told `early`, or when its end is reached."""
    engine = RuleEngine((zone("appear", name="new"), zone("disappear", name="lost")), SIZE, "v1")
    told, found = early, []
    if early:
        engine.lose(*lost)
    for begin, end in zip((0, *cuts), (*cuts, rows.num_rows), strict=True):
        part = rows.slice(begin, end - begin)
        if not told and part["t"][-1].as_py() >= lost[1]:
            engine.lose(*lost)
            told = True
        found.append(engine.update(part))
    return pa.concat_tables([*found, engine.finish(120.0)]).to_pylist()
