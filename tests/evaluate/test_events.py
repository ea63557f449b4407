"""Measures of events against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.evaluate.events import (
    FoundEvent,
    TrueEvent,
    average_precision,
    clip_report,
    label_of,
    mean_average_precision,
    mean_spotting_precision,
    spotting_error_s,
    spotting_precision,
    temporal_iou,
)


def true(start: float, end: float, video: str = "v", label: str = "a") -> TrueEvent:
    return TrueEvent(video, label, start, end)


def found(start: float, end: float, score: float, video: str = "v", label: str = "a") -> FoundEvent:
    return FoundEvent(video, label, start, end, score)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [((0, 10), (0, 10), 1), ((0, 10), (5, 15), 1 / 3), ((0, 10), (2, 4), 0.2), ((0, 10), (10, 20), 0)],
)
def test_temporal_iou(a: tuple[float, float], b: tuple[float, float], iou: float):
    assert temporal_iou(true(*a), found(*b, 1)) == pytest.approx(iou)
    assert temporal_iou(true(*a), found(*b, 1, video="w")) == 0


def test_average_precision_by_hand():
    truth = [true(0, 10), true(20, 30), true(40, 50)]
    guesses = [
        found(0, 10, 0.9),  # right: precision 1/1
        found(60, 70, 0.8),  # false
        found(21, 31, 0.7),  # tIoU 9/11: right, precision 2/3
        found(20, 30, 0.6),  # its event is taken: false
        found(40, 46, 0.5),  # tIoU 0.6: right up to 0.6, precision 3/5
    ]
    # Recall steps of 1/3 with the best precision at this or higher recall: 1, 2/3, 3/5.
    assert average_precision(truth, guesses, 0.5) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    # At 0.7 the last one is false.
    assert average_precision(truth, guesses, 0.7) == pytest.approx((1 + 2 / 3) / 3)


def test_precision_is_interpolated():
    # Precisions at the hits: 1/2 and 2/3; the first is lifted to 2/3.
    guesses = [found(50, 60, 0.9), found(0, 10, 0.8), found(20, 30, 0.7)]
    assert average_precision([true(0, 10), true(20, 30)], guesses, 0.5) == pytest.approx(2 / 3)


def test_a_finding_takes_the_event_that_it_overlaps_most():
    truth = [true(0, 10), true(8, 18)]
    assert average_precision(truth, [found(8, 18, 0.9), found(0, 10, 0.8)], 0.5) == 1


def test_nothing_found_and_nothing_true():
    assert average_precision([true(0, 1)], [], 0.5) == 0
    assert math.isnan(average_precision([], [found(0, 1, 1)], 0.5))
    with pytest.raises(ValueError, match="at least one"):
        mean_average_precision([], [])


def test_mean_over_labels_and_thresholds():
    truth = [true(0, 10), true(0, 10, label="b")]
    # a: tIoU 0.6; b: exact; c: no true event, so it does not count.
    guesses = [found(0, 6, 1), found(0, 10, 1, label="b"), found(0, 10, 1, label="c")]
    means = mean_average_precision(truth, guesses)
    assert means == {"map_0.3": 1.0, "map_0.5": 1.0, "map_0.7": 0.5, "map": pytest.approx(2.5 / 3)}


def test_clip_report_by_hand():
    truth = ["a", "a", "a", None, None, "b"]
    guess = ["a", "a", None, None, "b", "b"]
    report = clip_report(truth, guess, ["g", "g", "h", "h", "h", "h"])
    assert report.accuracy == pytest.approx(4 / 6)
    assert report.by_label == {"a": pytest.approx(2 / 3), "b": 1.0, "none": 0.5}
    assert report.balanced_accuracy == pytest.approx((2 / 3 + 1 + 0.5) / 3)
    assert report.by_group == {"g": 1.0, "h": 0.5}
    assert report.confusion[("a", "none")] == 1
    assert {"truth": "none", "found": "b", "clips": 1} in report.to_json()["confusion"]
    with pytest.raises(ValueError, match="2 true labels, 1 found"):
        clip_report(["a", "b"], ["a"])


def test_label_of_a_clip_is_the_best_mean():
    scores = np.array([[0.9, 0.4], [0.1, 0.7]], np.float32)  # means 0.5 and 0.55
    assert label_of(scores, ("a", "b"), 0.5) == "b"
    assert label_of(scores, ("a", "b"), 0.6) is None
    assert label_of(np.empty((0, 2), np.float32), ("a", "b"), 0.5) is None


def spot(peak: float, score: float, video: str = "v") -> FoundEvent:
    return FoundEvent(video, "a", peak - 3, peak + 3, score, peak)


@pytest.mark.parametrize(
    ("peak", "error"), [(5, 0), (0, 0), (10, 0), (-2, 2), (11.5, 1.5)], ids=lambda value: f"{value:g}"
)
def test_spotting_error(peak: float, error: float):
    assert spotting_error_s(true(0, 10), spot(peak, 1)) == error
    assert spotting_error_s(true(0, 10), spot(peak, 1, "w")) == math.inf


def test_a_spot_without_peak_is_its_middle():
    assert spotting_error_s(true(0, 10), found(10, 16, 1)) == 3


def test_spotting_precision_by_hand():
    truth = [true(10, 10), true(20, 20), true(30, 30)]
    spots = [
        spot(10.5, 0.9),  # 0.5 s off: right at 1
        spot(26, 0.8),  # 4 s from 30, 6 from 20: right at 5 only
        spot(9.5, 0.7),  # 10 is taken, 20 is 10.5 s off: false
        spot(21.5, 0.6),  # 1.5 s off: right at 2 and 5
    ]
    assert spotting_precision(truth, spots, 1) == pytest.approx(1 / 3)
    assert spotting_precision(truth, spots, 2) == pytest.approx((1 + 2 / 4) / 3)
    assert spotting_precision(truth, spots, 5) == pytest.approx((1 + 1 + 3 / 4) / 3)
    means = mean_spotting_precision(truth, spots)
    assert list(means) == ["spotting_map_1", "spotting_map_2", "spotting_map_5", "spotting_map"]
    assert means["spotting_map"] == pytest.approx((1 / 3 + 0.5 + 11 / 12) / 3)
