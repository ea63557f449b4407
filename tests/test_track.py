"""The tracker on scenes whose truth is known, on recorded sequences, and its promises."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.motion import WEIGHTS, load_motion, to_xyxy, to_z
from models.training.trajectories import CLASS_NAMES, DetectorSettings, SceneSettings, detect, simulate_scene
from pipeline.config import TrackConfig
from pipeline.errors import InputError, ModelError
from pipeline.evaluate.tracks import evaluate_motion, evaluate_tracks
from pipeline.lake.schema import DETECTIONS, FRAMES, OBJECTS, TRACKS
from pipeline.track import Tracker, beyond_lookahead, track_mot
from pipeline.track.camera import CameraPath
from pipeline.track.ego import EgoMotion
from pipeline.track.observe import CameraMotion
from pipeline.track.summary import MAX_POINTS, Summary, simplified
from pipeline.track.text import load_motion_weights
from tests.helpers import shared_path

MOTION = load_motion()
SIZE = (1280, 720)

Box = tuple[int, float, float, float, float, str, float]  # sample, x1, y1, x2, y2, class, score


def tables(num_frames: int, boxes: list[Box], fps: float = 10.0, camera: list[dict | None] | None = None):
    frames = pa.table(
        {
            **{field.name: pa.nulls(num_frames, field.type) for field in FRAMES},
            "sample": np.arange(num_frames),
            "t": np.arange(num_frames) / fps,
            "camera_motion": pa.array(camera or [None] * num_frames, FRAMES.field("camera_motion").type),
        },
        schema=FRAMES,
    )
    columns = list(zip(*boxes, strict=True)) or [()] * 7
    names = ("sample", "x1", "y1", "x2", "y2", "class", "score")
    detections = dict(zip(names, columns, strict=True))
    detections["t"] = [sample / fps for sample in columns[0]]
    detections["appearance"] = [None] * len(boxes)
    return frames, pa.table(
        {field.name: pa.array(detections[field.name], field.type) for field in DETECTIONS}
    )


def track(
    frames: pa.Table, detections: pa.Table, config: TrackConfig | None = None, cuts: tuple[int, ...] = ()
):
    """Tracks and objects, with the video given in pieces that end before the samples `cuts`."""
    tracker = Tracker(config or TrackConfig(), MOTION, SIZE)
    tracks, objects = [], []
    edges = [0, *cuts, 10**9]
    for first, last in pairwise(edges):
        parts = [part.filter(_between(part, first, last)) for part in (frames, detections)]
        for out, rows in zip((tracks, objects), tracker.update(*parts), strict=True):
            out.append(rows)
    for out, rows in zip((tracks, objects), tracker.finish(), strict=True):
        out.append(rows)
    return pa.concat_tables(tracks), pa.concat_tables(objects)


def _between(table: pa.Table, first: int, last: int) -> pa.Array:
    sample = table["sample"].to_numpy()
    return pa.array((sample >= first) & (sample < last))


def figure(
    sample: int, x: float, y: float, height: float = 150.0, score: float = 0.8, name: str = "person"
) -> Box:
    return sample, x - 0.2 * height, y - height, x + 0.2 * height, y, name, score


def tables_of_scene(seed: int, detector: DetectorSettings, **scene_settings):
    rng = np.random.default_rng(seed)
    scene = simulate_scene(rng, SceneSettings(**scene_settings))
    found = detect(rng, scene, detector)
    names = [CLASS_NAMES[scene.kinds[i]] if i >= 0 else "person" for i in found.thing]
    rows = zip(found.frame.tolist(), *found.boxes.T.tolist(), names, found.scores.tolist(), strict=True)
    return tables(len(scene.t), list(rows), fps=1 / (scene.t[1] - scene.t[0]))


@pytest.mark.parametrize("fps", [10, 1, 0.7, 0.5])
def test_whoever_comes_later_is_followed_however_slow_the_grid(fps: float) -> None:
    rows = [figure(n, 300, 500, score=0.9) for n in range(60)]
    rows += [figure(n, 900, 500, score=0.9) for n in range(30, 60)]
    _, objects = track(*tables(60, rows, fps=fps))
    found = [(row["t_start"] * fps, row["num_frames"]) for row in objects.to_pylist()]
    assert found == [(0, 60), (pytest.approx(30), 30)]


# -- nothing, and next to nothing ------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [0, 1, 30])
def test_no_detections_give_empty_tables(num_frames: int) -> None:
    tracks, objects = track(*tables(num_frames, []))
    assert tracks.num_rows == 0 and objects.num_rows == 0
    assert tracks.schema.equals(TRACKS) and objects.schema.equals(OBJECTS)


def test_one_detection_is_no_track() -> None:
    tracks, objects = track(*tables(30, [figure(5, 100, 300)]))
    assert tracks.num_rows == objects.num_rows == 0


def test_a_standing_person_is_one_track_with_its_score() -> None:
    tracks, objects = track(*tables(30, [figure(i, 100, 300, score=0.7) for i in range(30)]))
    assert tracks.num_rows == 30 and all(tracks["observed"].to_pylist())
    row = objects.to_pylist()[0]
    assert (row["track_id"], row["class"], row["num_frames"]) == (1, "person", 30)
    assert row["score"] == pytest.approx(0.7)
    assert (row["t_start"], row["t_end"]) == (0.0, pytest.approx(2.9))
    assert row["cut_at_start"] and row["cut_at_end"]
    assert row["top_speed"] < 0.02
    assert len(row["trajectory"]) == 2
    assert tracks["x1"].to_numpy() == pytest.approx(70, abs=0.5)


# -- known identities ------------------------------------------------------------------------------------


def test_a_person_whose_detections_flicker_is_one_track() -> None:
    """30% misses, gaps of up to 1.5 s, scores of a weak detector, coarse boxes; ten rooms."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        missing = rng.random(200) < 0.3
        for start in (40, 95, 150):
            missing[start - 3 : start + 18] = False
            missing[start : start + 15] = True
        boxes = []
        for i in np.nonzero(~missing)[0].tolist():
            x = 200 + 350 * (1 - np.cos(i / 40)) + rng.normal(0, 5)
            score = float(np.clip(rng.normal(0.42, 0.1), 0.15, 0.65))
            boxes.append(
                figure(i, x, 500 + rng.normal(0, 6), 220 * float(np.exp(rng.normal(0, 0.04))), score)
            )
        tracks, objects = track(*tables(200, boxes))
        assert objects.num_rows == 1, f"seed {seed}: {objects.num_rows} tracks"
        share = tracks.num_rows / 200
        assert share > 0.95, f"seed {seed}: {share}"
        assert objects["num_frames"][0].as_py() == tracks.num_rows


def test_two_who_cross_keep_their_identity() -> None:
    boxes = []
    for i in range(60):
        boxes += [figure(i, 100 + 12 * i, 500, 200), figure(i, 820 - 12 * i, 520, 215)]
    tracks, objects = track(*tables(60, boxes))
    assert objects.num_rows == 2
    for number in (1, 2):
        x = tracks.filter(pa.array(tracks["track_id"].to_numpy() == number))["x1"].to_numpy()
        assert abs(x[-1] - x[0]) > 600, "a track turned back where the two met"


def test_an_occlusion_is_bridged_and_its_boxes_are_marked() -> None:
    hidden = range(25, 37)
    boxes = [figure(i, 100 + 15 * i, 500, 200) for i in range(70) if i not in hidden]
    tracks, objects = track(*tables(70, boxes))
    assert objects.num_rows == 1 and tracks.num_rows == 70
    filled = tracks.filter(pa.array(~tracks["observed"].to_numpy(zero_copy_only=False)))
    assert filled["sample"].to_pylist() == list(hidden)
    centre = (filled["x1"].to_numpy() + filled["x2"].to_numpy()) / 2
    assert centre == pytest.approx(100 + 15 * np.array(hidden), abs=8)


def test_fragments_are_linked_by_forecasts_from_both_ends() -> None:
    """Seen too shortly to be followed through the gap: only the look back joins the two."""
    walk = [figure(i, 100 + 15 * i, 500, 200) for i in range(60) if i < 8 or i >= 24]
    tracks, objects = track(*tables(60, walk))
    assert objects.num_rows == 1 and tracks.num_rows == 60
    _, objects = track(*tables(60, walk), TrackConfig(max_gap_s=1.0))
    assert objects.num_rows == 2


@pytest.mark.parametrize("lookahead_s", [5.0, 10.0], ids=["link by link", "at once"])
def test_a_chain_of_fragments_becomes_one_track(lookahead_s: float) -> None:
    walk = [figure(i, 100 + 15 * i, 500, 200) for i in range(64) if i % 24 < 8 or i >= 56]
    tracks, objects = track(*tables(64, walk), TrackConfig(lookahead_s=lookahead_s))
    assert objects.num_rows == 1
    assert tracks["sample"].to_pylist() == list(range(64))


def test_appearance_tells_who_came_out_where_motion_cannot() -> None:
    """Two walk up to each other, are hidden for a second, and turn back: motion alone says they passed."""
    boxes, looks = [], []
    for i in range(70):
        if 30 <= i < 40:
            continue
        away = 30 + 10 * abs(i - 35)
        boxes += [figure(i, 600 - away, 500, 200), figure(i, 600 + away, 500, 200)]
        looks += [[1.0, 0.0], [0.0, 1.0]]
    frames, detections = tables(70, boxes)
    kind = DETECTIONS.field("appearance").type
    column = detections.schema.get_field_index("appearance")
    detections = detections.set_column(column, DETECTIONS.field("appearance"), pa.array(looks, kind))
    tracks, objects = track(frames, detections)
    assert objects.num_rows == 2
    for number in (1, 2):
        x = tracks.filter(pa.array(tracks["track_id"].to_numpy() == number))["x1"].to_numpy()
        assert abs(x[-1] - x[0]) < 100, "a track changed sides"


def test_a_longer_absence_ends_the_track() -> None:
    boxes = [figure(i, 300, 500, 200) for i in range(120) if not 30 <= i < 80]
    _, objects = track(*tables(120, boxes))
    assert [(o["t_start"], o["cut_at_start"], o["cut_at_end"]) for o in objects.to_pylist()] == [
        (0.0, True, False),
        (8.0, False, True),
    ]


def test_a_long_gap_is_bridged_but_not_filled() -> None:
    boxes = [figure(i, 300, 500, 200) for i in range(120) if not 30 <= i < 60]
    tracks, objects = track(*tables(120, boxes))
    assert objects.num_rows == 1
    assert tracks["sample"].to_pylist() == [*range(30), *range(60, 120)]
    tracks, _ = track(*tables(120, boxes), TrackConfig(max_fill_s=3.2))
    assert tracks["sample"].to_pylist() == [*range(120)]


def test_doubtful_boxes_continue_a_track_but_begin_none() -> None:
    weak = [figure(i, 900, 500, score=0.2) for i in range(40)]
    known = [figure(i, 100 + 4 * i, 500, score=0.8 if i < 15 else 0.15) for i in range(40)]
    tracks, objects = track(*tables(40, weak + known))
    assert objects.num_rows == 1 and tracks.num_rows == 40
    assert all(tracks["observed"].to_pylist())


@pytest.mark.parametrize("score", [0.0, 1e-6, 0.5])
def test_boxes_without_a_score_stay_where_they_are(score: float) -> None:
    """Of detections whose confidence nobody wrote, all are taken with thresholds of 0."""
    rows = [figure(i, 300 + 5 * i, 500, score=score) for i in range(20)]
    tracks, _ = track(*tables(20, rows), TrackConfig(high_score=0, low_score=0))
    found = np.stack([tracks[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1)
    assert np.allclose(found, [row[1:5] for row in rows], atol=0.01)


def test_classes_do_not_mix_but_vehicles_may() -> None:
    person = [figure(i, 300, 500) for i in range(30)]
    car = [figure(i, 302, 500, name="car" if i % 4 else "truck") for i in range(30)]
    _, objects = track(*tables(30, person + car))
    assert sorted(objects["class"].to_pylist()) == ["car", "person"]
    turns = [figure(i, 300, 500, name="person" if i < 20 else "car") for i in range(40)]
    _, objects = track(*tables(40, turns))
    assert [(o["class"], o["num_frames"]) for o in objects.to_pylist()] == [("person", 20), ("car", 20)]


def test_a_car_that_is_called_a_truck_too_is_one_object() -> None:
    """The second box lies apart at first, so it would begin a track of its own."""
    boxes = []
    for i in range(30):
        boxes.append(figure(i, 300 + 5 * i, 300, score=0.75, name="car"))
        boxes.append(figure(i, 300 + 5 * i + (16 if i < 3 else 1), 300, score=0.45, name="truck"))
    _, objects = track(*tables(30, boxes))
    assert [row["class"] for row in objects.to_pylist()] == ["car"]


def test_camera_motion_is_followed() -> None:
    """The picture jumps 120 pixels every second frame while a person stands."""
    jumps = [0.0] + [120.0 if i % 2 else -120.0 for i in range(1, 40)]
    camera = [{"dx": j, "dy": 0.0, "scale": 1.0, "rotation": 0.0} for j in jumps]
    place = np.cumsum(jumps)
    boxes = [figure(i, 400 + place[i], 500, 120) for i in range(40) if not 15 <= i < 22]
    tracks, objects = track(*tables(40, boxes, camera=camera))
    assert objects.num_rows == 1 and tracks.num_rows == 40
    centre = (tracks["x1"].to_numpy() + tracks["x2"].to_numpy()) / 2
    assert centre == pytest.approx(400 + place, abs=3)


@pytest.mark.parametrize("late", [25, 45])
def test_false_boxes_where_an_object_comes_back_do_not_take_it(late: int) -> None:
    """Somebody is hidden for 0.3 s and comes back `late` pixels short of where they should be."""
    boxes = [figure(i, 200 + 8 * i - (late if i > 20 else 0), 500) for i in range(60) if not 20 <= i < 23]
    boxes += [figure(i, 384 - late, 500, score=0.6) for i in (18, 19, 20)]
    _, objects = track(*tables(60, boxes))
    assert objects["num_frames"].to_pylist() == [60]


@pytest.mark.parametrize("every", [1, 3])
def test_a_shaken_camera_is_felt_from_the_boxes(every: int) -> None:
    """Eight people on a pavement, filmed by somebody who stumbles: jolts of half a box height."""
    rng = np.random.default_rng(4)
    jolt = rng.normal(0, 40, (60, 2)) * (rng.random((60, 1)) < 0.3)
    boxes = [
        figure(i, 200 + 110 * k + (-1) ** k * 5 * i + jolt[i, 0], 500 + 12 * k + jolt[i, 1])
        for i in range(0, 60, every)
        for k in range(8)
    ]
    frames, detections = tables(60, boxes)
    _, objects = track(frames.filter(pa.array(np.arange(60) % every == 0)), detections)
    assert objects.num_rows == 8


def test_people_who_walk_the_same_way_are_not_taken_for_the_camera() -> None:
    boxes = [figure(i, 100 + 120 * k + 6 * i, 500) for i in range(40) for k in range(5)]
    tracks, _ = track(*tables(40, boxes))
    first = tracks.filter(pa.array(tracks["track_id"].to_numpy() == 1))
    assert first["x1"].to_numpy() == pytest.approx(70 + 6 * np.arange(40), abs=1)


def test_the_shift_of_the_picture_is_the_one_most_boxes_agree_on() -> None:
    rng = np.random.default_rng(1)
    mean = np.column_stack([rng.uniform(0, 1200, 12), rng.uniform(300, 700, 12), np.full((12, 2), 5.0)])
    variance = np.full((12, 4), 4.0)
    moved = mean + [33, -14, 0, 0] + rng.normal(0, 1, (12, 4)) * [3, 3, 0.02, 0.02]
    moved[:2, 0] += 60  # two who turned
    found = EgoMotion().estimate(mean, variance, moved)
    assert found is not None and (found.scale, found.rotation) == (1.0, 0.0)
    assert (found.dx, found.dy) == (pytest.approx(33, abs=4), pytest.approx(-14, abs=4))
    assert EgoMotion().estimate(mean, variance, mean + rng.normal(0, 1, (12, 4)) * [3, 3, 0.02, 0.02]) is None
    assert EgoMotion().estimate(mean[:3], variance[:3], moved[:3]) is None


def test_a_moved_camera_does_not_break_a_link() -> None:
    """A short track is given up while the camera pans, and is found again when the camera has panned on."""
    pan = 12.0
    camera = [None, *({"dx": pan, "dy": 0.0, "scale": 1.0, "rotation": 0.0} for _ in range(69))]
    seen = [i for i in range(70) if not 10 <= i < 26]
    boxes = [figure(i, 100 + 4 * i + pan * i, 500, 150) for i in seen]
    boxes += [figure(i, 700 + pan * i, 480, 140) for i in range(70)]
    tracks, objects = track(*tables(70, boxes, camera=camera))
    assert (objects.num_rows, tracks.num_rows) == (2, 140)


def test_camera_path_goes_there_and_back() -> None:
    path = CameraPath((320.0, 240.0))
    boxes = np.array([[100.0, 100, 140, 200]] * 4)
    for sample in range(4):
        path.append(sample, CameraMotion(5.0 * sample, -2.0, 1.05, 0.02) if sample else None)
    z = to_z(boxes)
    there = path.to_reference([0, 1, 2, 3], z)
    assert np.allclose(there[0], z[0])
    assert not np.allclose(there[3], z[3])
    assert np.allclose(to_xyxy(path.from_reference([0, 1, 2, 3], there)), boxes)
    path.forget_before(3)
    assert np.allclose(path.to_reference([3], z[:1]), z[:1])


@pytest.mark.parametrize(
    ("given", "least"),
    [
        ({}, None),
        ({"max_gap_s": 10.0}, 11.0),
        ({"min_track_s": 8.0, "max_gap_s": 6.0}, 9.0),
        ({"lookahead_s": 2.0}, 5.0),
        ({"lookahead_s": 2.0, "max_gap_s": 1.7}, 2.125),
    ],
)
def test_times_beyond_the_lookahead_are_told_with_one_that_is_long_enough(
    given: dict[str, float], least: float | None
) -> None:
    line = beyond_lookahead(TrackConfig(**given))
    assert (line is None) == (least is None)
    if line is not None:
        assert line.endswith(f"set lookahead_s to {least:g}")
        assert beyond_lookahead(TrackConfig(**{**given, "lookahead_s": least})) is None


# -- promises --------------------------------------------------------------------------------------------


WEAK = DetectorSettings(quality=-0.2, spread=0.8, min_score=0.1, jitter=0.05, false_per_frame=1.0, miss=0.1)


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(1, 119), max_size=6),
    lookahead_s=st.sampled_from([0.0, 0.7, 2.0, 5.0]),
    data=st.randoms(use_true_random=False),
)
def test_cuts_and_order_do_not_change_results(seed: int, cuts: list[int], lookahead_s: float, data) -> None:
    frames, detections = tables_of_scene(seed, WEAK, fps=10.0, duration_s=12, num_objects=6)
    config = TrackConfig(lookahead_s=lookahead_s)
    whole = track(frames, detections, config)
    order = list(range(detections.num_rows))
    data.shuffle(order)
    pieces = track(frames, detections.take(pa.array(order, pa.int64())), config, tuple(sorted(set(cuts))))
    assert pieces[0].equals(whole[0])
    assert pieces[1].sort_by("track_id").equals(whole[1].sort_by("track_id"))
    check_promises(*whole)


def check_promises(tracks: pa.Table, objects: pa.Table) -> None:
    ids, samples = tracks["track_id"].to_numpy(), tracks["sample"].to_numpy()
    assert len(set(zip(ids, samples, strict=True))) == len(ids), "a track twice in a frame"
    assert (np.diff(samples) >= 0).all(), "rows out of order of time"
    first = list(dict.fromkeys(ids.tolist()))
    assert first == list(range(1, len(first) + 1)), "ids are not in order of appearance"
    assert sorted(objects["track_id"].to_pylist()) == sorted(first)
    for row in objects.to_pylist():
        mine = ids == row["track_id"]
        assert row["num_frames"] == mine.sum()
        assert row["t_start"] == tracks["t"].to_numpy()[mine][0]
        assert row["mean_speed"] <= row["top_speed"]
    for name in ("x1", "y1", "x2", "y2", "score"):
        assert np.isfinite(tracks[name].to_numpy()).all()
    assert (tracks["x2"].to_numpy() > tracks["x1"].to_numpy()).all()


def test_rows_come_no_later_than_the_lookahead() -> None:
    frames, detections = tables(300, [figure(i, 100 + 2 * i, 500) for i in range(300)])
    tracker = Tracker(TrackConfig(lookahead_s=3.0), MOTION, SIZE)
    seen = -1
    for i in range(300):
        part = (frames.slice(i, 1), detections.slice(i, 1))
        rows, _ = tracker.update(*part)
        seen = max([seen, *rows["sample"].to_pylist()])
        assert i - seen <= 31


def test_memory_does_not_grow_with_the_length() -> None:
    frames, detections = tables(3600, [figure(i, 600 + 300 * np.sin(i / 95.5), 500) for i in range(3600)])
    tracker = Tracker(TrackConfig(), MOTION, SIZE)
    sizes = []
    for start in range(0, 3600, 600):
        tracker.update(frames.slice(start, 600), detections.slice(start, 600))
        live = tracker._tracks[0]
        sizes.append((len(tracker._tracks), len(live.times), len(tracker._frames), len(tracker._path._ways)))
        assert live.summary is not None and len(live.summary._points) <= MAX_POINTS
    assert sizes[1] == sizes[-1]
    _, objects = tracker.finish()
    assert objects["num_frames"].to_pylist() == [3600]


def test_frames_that_go_back_and_broken_boxes_are_refused() -> None:
    frames, detections = tables(10, [figure(i, 100, 300) for i in range(10)])
    tracker = Tracker(TrackConfig(), MOTION, SIZE)
    tracker.update(frames, detections)
    with pytest.raises(InputError, match="go back in time"):
        tracker.update(frames, detections)
    with pytest.raises(InputError, match=r"frames repeat or go back in time \(got 4\)"):
        track(pa.concat_tables([frames, frames.slice(4, 1)]), detections)
    for broken in ((3, 5.0, 5.0, 5.0, 9.0, "person", 0.9), (3, float("nan"), 0.0, 9.0, 9.0, "person", 0.9)):
        with pytest.raises(InputError, match="sample 3 has a box"):
            track(*tables(10, [broken]))
    with pytest.raises(InputError, match="frame that is not given"):
        track(frames.slice(0, 5), detections)


def test_five_hundred_objects_in_a_frame() -> None:
    places = [(60 * (k % 25), 60 + 60 * (k // 25)) for k in range(500)]
    boxes = [figure(i, x + 2 * i, y, 50) for i in range(12) for x, y in places]
    _, objects = track(*tables(12, boxes))
    assert objects.num_rows == 500


# -- what is said of an object ---------------------------------------------------------------------------


def test_speed_and_trajectory_of_a_walk_with_a_stop() -> None:
    x = np.concatenate([np.arange(0, 600, 15), np.full(40, 600), np.arange(600, 1200, 15)])
    tracks, objects = track(*tables(len(x), [figure(i, float(v), 500, 100) for i, v in enumerate(x)]))
    row = objects.to_pylist()[0]
    assert tracks.num_rows == len(x)
    assert row["top_speed"] == pytest.approx(1.5, rel=0.1)  # 150 pixels/s at a height of 100
    assert row["mean_speed"] == pytest.approx(1.0, rel=0.15)
    times = [point["t"] for point in row["trajectory"]]
    assert len(times) <= 8
    assert any(abs(t - 4.0) < 0.35 for t in times) and any(abs(t - 8.0) < 0.35 for t in times)


def test_simplified_points_stay_within_the_tolerance() -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack([np.arange(400) / 10, np.cumsum(rng.normal(0, 3, (400, 2)), axis=0)])
    few = simplified(points, 8.0)
    assert len(few) < 200
    for column in (1, 2):
        assert np.abs(np.interp(points[:, 0], few[:, 0], few[:, column]) - points[:, column]).max() <= 8.0


@pytest.mark.parametrize("speed", [0.003, 0.5, 1.0, 1.3, 2.0, 250.0])
def test_even_motion_has_one_speed(speed: float) -> None:
    summary, times = Summary(), np.arange(50) / 10
    left = 200 + speed * 100 * times
    summary.add(np.arange(50), times, np.column_stack([left, 0 * left, left + 40, 0 * left + 100]))
    mean, top = summary.speeds()
    assert (mean, top) == pytest.approx((speed, speed))
    assert mean <= top


def test_the_top_speed_is_not_below_a_mean_that_a_leap_lifts() -> None:
    summary, times = Summary(), np.arange(200) / 10
    left = np.where(times < 10, 0.0, 20_000.0)
    summary.add(np.arange(200), times, np.column_stack([left, 0 * left, left + 40, 0 * left + 100]))
    mean, top = summary.speeds()
    assert 5 < mean == top  # most steps are of no motion, 8 of 193 are the leap


def test_a_summary_in_pieces_is_the_same() -> None:
    times = np.arange(90) / 10
    corners = np.column_stack([10 * times, 0 * times, 10 * times + 40, 0 * times + 100])
    samples = np.arange(90)
    whole, pieces = Summary(), Summary()
    whole.add(samples, times, corners)
    for part in (slice(0, 7), slice(7, 50), slice(50, 90)):
        pieces.add(samples[part], times[part], corners[part])
    assert pieces.speeds() == pytest.approx(whole.speeds())
    assert pieces.trajectory() == whole.trajectory()


# -- recorded sequences ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fps", "hota", "idf1"), [("TUD-Campus", 25, 55.5, 68.0), ("ETH-Sunnyday", 14, 54.5, 72.5)]
)
def test_scores_on_recorded_sequences(name: str, fps: int, hota: float, idf1: float, tmp_path: Path) -> None:
    folder = shared_path("data", "tracking", "mot15", name)
    pytest.importorskip("trackeval")
    result = track_mot(folder / "det.txt", tmp_path / "out.txt")
    assert (result.fps, result.fps_source) == (fps, "seqinfo.ini")
    scores = evaluate_tracks(folder / "gt.txt", tmp_path / "out.txt")
    assert scores["HOTA"] >= hota and scores["IDF1"] >= idf1, scores


def test_truth_against_itself_scores_full(tmp_path: Path) -> None:
    gt = shared_path("data", "tracking", "mot15", "TUD-Campus", "gt.txt")
    pytest.importorskip("trackeval")
    scores = evaluate_tracks(gt, gt)
    assert scores["HOTA"] == scores["MOTA"] == scores["IDF1"] == 100
    (tmp_path / "none.txt").touch()
    assert evaluate_tracks(gt, tmp_path / "none.txt")["HOTA"] == 0


def test_the_model_forecasts_recorded_walks() -> None:
    gt = shared_path("data", "tracking", "mot17-gt", "MOT17-11", "gt.txt.gz")
    scores = evaluate_motion(gt, MOTION)
    assert scores["boxes"] > 9000
    assert scores["nll"] < scores["nll_kalman"]
    assert scores["displacement_2s"] < scores["displacement_2s_kalman"]


def test_missing_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text("1,-1,1,1,5,9,0.9\n")
    config = TrackConfig(weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(ModelError, match="marey train motion"):
        track_mot(tmp_path / "det.txt", tmp_path / "out.txt", settings=config)
    assert not (tmp_path / "out.txt").exists()


def test_motion_weights_may_be_told_with_their_digest(tmp_path: Path) -> None:
    """As other weights may: a file, or an address that is fetched once."""
    right = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert load_motion_weights(f"{WEIGHTS}#sha256={right}").config == load_motion().config
    with pytest.raises(ModelError, match="has another SHA-256"):
        load_motion_weights(f"{WEIGHTS}#sha256={64 * '0'}")
    with pytest.raises(ModelError, match="need #sha256="):
        load_motion_weights("s3://bucket/motion.safetensors")
