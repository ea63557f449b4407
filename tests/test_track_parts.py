"""The tracker's parts one by one, where a scene as a whole would hide what each of them does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.motion import to_xyxy, to_z
from pipeline.config import TrackConfig
from pipeline.track.associate import Weighing, gains
from pipeline.track.camera import CameraPath
from pipeline.track.ego import EgoMotion
from pipeline.track.follow import Follower, FollowSettings
from pipeline.track.link import LinkSettings, find_links
from pipeline.track.observe import CameraMotion, Frame, read_frames
from pipeline.track.summary import MAX_POINTS, Summary
from pipeline.track.tracks import Track
from tests.test_track import MOTION, figure, tables, track

CENTRE = (320.0, 240.0)


def boxes_at(x: Sequence[float], height: float = 150.0) -> np.ndarray:
    """Boxes z (N, 4) of people side by side."""
    return to_z(np.array([[v - 0.2 * height, 300.0, v + 0.2 * height, 300.0 + height] for v in x]))


def walk(number: int, first: int, last: int, x: float, group: int = 0) -> Track:
    """An ended track at 10 frames a second, 15 pixels to the right in each."""
    made = Track(number, group)
    state = MOTION.start(boxes_at([x]), np.array([0.8]))
    for sample in range(first, last + 1):
        z = boxes_at([x + 15 * (sample - first)])
        if sample > first:
            state = MOTION.update(state, z, np.array([0.8]), np.array([0.1]))
        made.observe(sample, sample, sample / 10, z[0], 0.8, "person", None)
    made.end, made.end_sample = state, last
    return made


def links(
    ended: list[Track], begun: list[Track], until_t: float = 99.0, **settings: float
) -> list[tuple[int, int]]:
    path = CameraPath(CENTRE)
    for sample in range(60):
        path.append(sample, None)
    found = find_links(ended, begun, until_t, MOTION, path, LinkSettings(4.0, **settings))
    return [(a.number, b.number) for a, b in found]


def test_a_link_is_made_within_a_group_by_its_time_and_if_it_did_not_take_too_long() -> None:
    early, next_of_it = walk(1, 0, 14, 0), walk(2, 20, 34, 300)
    late, next_of_late = walk(3, 10, 39, 3000), walk(4, 45, 55, 3525)
    everyone = [early, late], [next_of_it, next_of_late]
    assert links(*everyone) == [(1, 2), (3, 4)]
    assert links(*everyone, until_t=2.0) == [(1, 2)]
    assert links(*everyone, wait_cost=20.0) == []
    next_of_it.group = 1
    assert links(*everyone) == [(3, 4)]


def test_a_joined_track_is_what_both_parts_say() -> None:
    first, later = Track(1, 0), walk(2, 10, 12, 0)
    first.observe(0, 0, 0.0, boxes_at([0])[0], 0.9, "car", np.array([1.0, 0.0]))
    first.observe(1, 1, 0.1, boxes_at([0])[0], 0.7, "car", np.array([0.0, 1.0]))
    assert first.look is not None and np.linalg.norm(first.look) == pytest.approx(1)
    first.append(later)
    assert (first.best_class, first.num_observed, first.last_frame) == ("person", 5, 12)
    assert (first.end, first.end_sample) == (later.end, 12)
    assert first.mean_score == pytest.approx((0.9 + 0.7 + 3 * 0.8) / 5)


def test_a_new_track_is_given_up_sooner_than_one_that_was_seen_for_long() -> None:
    follower = Follower(MOTION, FollowSettings(0.25, 0.1, 4.0), CENTRE)
    for sample in range(45):
        x = [100.0] * (sample < 30) + [900.0] * (28 <= sample < 30)
        z = boxes_at(x) if x else np.empty((0, 4))
        follower.step(Frame(sample, sample / 10, None, z, np.full(len(x), 0.8), ["person"] * len(x), None))
        alive = [track.number for track in follower.tracks]
        if sample >= 28:
            assert alive == ([0, 1] if sample <= 35 else [0])  # 0.4 s and the two frames it was seen


def test_what_comes_and_goes_is_noise() -> None:
    sure = [figure(i, 300, 500, score=0.8) for i in range(60)]
    steady = [figure(i, 900, 500, score=0.6) for i in range(60)]
    assert track(*tables(60, sure + steady))[1].num_rows == 2
    assert track(*tables(60, sure + steady[::3]))[1].num_rows == 1


@pytest.mark.parametrize(
    ("fps", "samples", "score", "settings", "count"),
    [
        (10, range(5, 10), 0.8, {}, 0),  # 0.4 s
        (10, range(5, 11), 0.8, {}, 1),
        (10, range(5, 10), 0.8, {"min_track_s": 0.4}, 1),
        (10, range(30), 0.35, {}, 0),  # enough to begin, and never sure
        (10, range(30), 0.35, {"high_score": 0.3}, 1),
        (1, range(5, 7), 0.8, {}, 0),  # long enough, and seen twice
        (1, range(5, 8), 0.8, {}, 1),
        (10, range(5, 6), 0.8, {"lookahead_s": 0.0}, 1),  # nothing is waited for
    ],
)
def test_what_is_too_short_or_never_sure_is_no_track(
    fps: float, samples: Sequence[int], score: float, settings: dict[str, float], count: int
) -> None:
    rows = tables(40, [figure(i, 300, 500, score=score) for i in samples], fps=fps)
    assert track(*rows, TrackConfig(**settings))[1].num_rows == count


def test_a_filled_box_has_the_mean_score() -> None:
    rows, _ = track(*tables(40, [figure(i, 300, 500) for i in range(40) if not 20 <= i < 25]))
    filled = rows.filter(np.logical_not(rows["observed"].to_numpy(zero_copy_only=False)))
    assert filled["score"].to_pylist() == pytest.approx([0.8] * 5)


def test_equal_looks_speak_for_a_pair_and_unknown_ones_say_nothing() -> None:
    z, unit = boxes_at([100]), np.array([[1.0, 0.0]])
    [[alike], [unknown], [unlike], [without]] = (
        gains(z, np.full((1, 4), 25.0), z, looks, Weighing())[0]
        for looks in ((unit, unit), (unit, unit * np.nan), (unit, -unit), None)
    )
    assert unlike < unknown == without < alike


# -- the camera -------------------------------------------------------------------------------------------


def test_a_zoomed_box_is_smaller_in_the_frame_before() -> None:
    path = CameraPath(CENTRE)
    path.append(0, None)
    path.append(1, CameraMotion(0.0, 0.0, 1.25, 0.0))
    seen = to_z(np.array([[420.0, 215, 470, 265]]))  # 125 pixels to the right of the centre
    assert to_xyxy(path.to_reference([1], seen)) == pytest.approx(np.array([[400.0, 220, 440, 260]]))


def test_a_carried_state_lies_where_its_box_does() -> None:
    path = CameraPath(CENTRE)
    path.append(0, None)
    path.append(1, CameraMotion(30.0, -8.0, 1.25, 0.3))
    state = MOTION.start(boxes_at([100, 700]), np.array([0.8, 0.8]))
    state.velocity[:, :2] = [1.0, 0.0]
    carried = path.carry(state, 1)
    assert carried.position == pytest.approx(path.to_reference([1, 1], state.position))
    assert carried.velocity[0, :2] == pytest.approx([np.cos(0.3), -np.sin(0.3)])


def test_a_camera_that_has_stood_still_is_believed_to_go_on() -> None:
    rng = np.random.default_rng(1)
    mean = np.column_stack([rng.uniform(0, 1200, 12), rng.uniform(300, 700, 12), np.full((12, 2), 5.0)])
    variance, jolt = np.full((12, 4), 400.0), np.array([33.0, -14, 0, 0])
    ego = EgoMotion()
    felt = [ego.estimate(mean, variance, mean + jolt) for _ in range(20)]
    assert felt[0] is not None and felt[-1] is not None
    assert felt[0].dx < 0.9 * felt[-1].dx < 0.9 * 33


@pytest.mark.parametrize("broken", [{"scale": 0.0}, {"scale": None}, {"dx": float("nan")}])
def test_a_motion_that_no_camera_makes_is_none(broken: dict[str, float | None]) -> None:
    known = {"dx": 1.0, "dy": 0.0, "scale": 1.0, "rotation": 0.0}
    frames, detections = tables(3, [figure(0, 100, 300)], camera=[None, known, known | broken])
    cameras = [frame.camera for frame in read_frames(frames, detections, None)]
    assert cameras == [None, CameraMotion(**known), None]


# -- what is said of an object ----------------------------------------------------------------------------


def test_the_top_speed_is_that_of_the_fastest_twentieth() -> None:
    summary, times = Summary(), np.arange(200) / 10
    left = np.cumsum(np.where(times < 16, 10.0, 30.0))
    summary.add(np.arange(200), times, np.column_stack([left, 0 * left, left + 40, 0 * left + 100]))
    mean, top = summary.speeds()
    assert (mean, top) == (pytest.approx(1.4, abs=0.1), pytest.approx(3.0, rel=0.01))


def test_the_way_of_somebody_who_never_rests_stays_short() -> None:
    summary, times = Summary(), np.arange(4000) / 10
    left = 300.0 * (np.arange(4000) % 2)  # from side to side, beyond any tolerance
    corners = np.column_stack([left, 0 * left, left + 40, 0 * left + 100])
    for part in np.split(np.arange(4000), 40):
        summary.add(part, times[part], corners[part])
    assert len(summary._points) <= MAX_POINTS
