"""Gaps that losses leave in a video: where they begin and end, and how many are told."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pipeline.media import DecodeJob, Gap, joined_gaps
from pipeline.media.reader import Frame
from pipeline.media.tally import Tally


def tally(**kwargs: int) -> Tally:
    """Of a job whose samples and ticks are both 0.1 s long, and so the same numbers."""
    return Tally(DecodeJob("job", "", **kwargs), Fraction(1, 10))


def show(told: Tally, *ticks: int) -> None:
    for t in ticks:
        told.show(
            t,
            Frame(
                t, t, 1, lambda w, h: np.zeros((h, w, 3), np.uint8), lambda w, h: np.zeros((h, w), np.uint8)
            ),
        )


def lose(told: Tally, *ticks: int) -> None:
    for t in ticks:
        told.lose(t, t)


def bounds(told: Tally) -> list[tuple[float, float | None, int]]:
    return [(gap.t_start, gap.t_end, gap.frames) for gap in told.gaps]


def test_a_gap_is_from_the_good_frame_before_it_to_the_one_after():
    told = tally()
    show(told, 0, 1, 2)
    lose(told, 3, 5)
    assert bounds(told) == [(0.2, None, 2)]
    show(told, 4)  # between the losses
    assert bounds(told) == [(0.2, None, 2)]
    show(told, 6)
    assert bounds(told) == [(0.2, 0.6, 2)]


def test_a_frame_that_was_in_the_decoder_when_the_loss_came_is_before_the_gap():
    told = tally()
    show(told, 0)
    lose(told, 5)
    show(told, 3, 4, 6)
    assert bounds(told) == [(0.4, 0.6, 1)]


def test_what_is_lost_before_any_good_frame_begins_where_it_was_to_be_shown():
    told = tally()
    lose(told, 2)
    show(told, 4)
    assert bounds(told) == [(0.2, 0.4, 1)]


def test_a_loss_that_is_told_after_a_later_frame_is_a_gap_up_to_the_next_one():
    told = tally()
    show(told, 0, 3)
    lose(told, 2)
    show(told, 4)
    assert bounds(told) == [(0.2, 0.4, 1)]


def test_gaps_less_than_a_second_apart_are_one():
    told = tally()
    show(told, 0)
    for t in (1, 11, 24):
        show(told, t - 1)
        lose(told, t)
        show(told, t + 1)
    assert bounds(told) == [(0.0, 1.2, 2), (2.3, 2.5, 1)]


def test_many_gaps_end_in_a_long_one():
    told = tally()
    show(told, 0)
    for t in range(20, 2420, 20):  # 120 of them
        lose(told, t)
        show(told, t + 1, t + 19)
    assert len(told.gaps) == 100
    assert bounds(told)[98:] == [(197.9, 198.1, 1), (199.9, 240.1, 21)]


def test_only_what_is_of_the_job_is_counted_but_a_frame_after_it_ends_its_gap():
    told = tally(first_sample=10, end_sample=20)
    show(told, 8)
    lose(told, 9)
    show(told, 10, 18)
    lose(told, 19, 20)
    show(told, 21)
    assert (told.frames_decoded, told.frames_failed, told.last_t, told.end_t) == (2, 1, 1.8, 1.9)
    assert bounds(told) == [(1.8, 2.1, 1)]


def test_a_job_of_which_nothing_decodes_has_no_last_frame():
    told = tally(first_sample=10, end_sample=20)
    show(told, 8)
    lose(told, 10, 19)
    assert (told.frames_decoded, told.frames_failed, told.last_t, told.end_t) == (0, 2, None, None)
    assert bounds(told) == [(1.0, None, 2)]


def test_a_gap_that_reaches_over_jobs_is_as_long_for_each_and_one_for_both():
    whole, first, second = tally(), tally(end_sample=30), tally(first_sample=30)
    show(whole, 0, 12)
    lose(whole, 20, 35, 36)
    show(whole, 40)
    show(first, 0, 12)
    lose(first, 20)
    show(first, 40)
    for t in (35, 36):
        second.lose(t, t, 12)
    show(second, 40)
    assert bounds(whole) == [(1.2, 4.0, 3)]
    assert bounds(second) == [(1.2, 4.0, 2)]
    assert joined_gaps([*first.gaps, *second.gaps]) == whole.gaps
    crash = Gap(1.2, 4.0, 0, "crash")
    assert joined_gaps([*first.gaps, crash]) == (*first.gaps, crash)
