from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.media.clock import Clock
from pipeline.media.sampling import Display, Grid, seconds, shown_at


@dataclass(frozen=True)
class Shown:
    ticks: int
    name: int


def oracle(ticks: list[int], rate: Fraction, time_base: Fraction) -> list[tuple[int, int]]:
    """Walk over every tick of the grid and look for the last frame at or before it."""
    times = [k * time_base for k in ticks]
    taken: list[tuple[int, int]] = []
    tick = 0
    while times and tick / rate <= times[-1]:
        name = max(i for i, t in enumerate(times) if t <= tick / rate)
        if not taken or taken[-1][1] != name:
            taken.append((tick, name))
        tick += 1
    return taken


steps = st.lists(st.integers(0, 400), max_size=40)
rates = st.sampled_from([1.0, 10.0, 29.97, 12.5, 0.7, 240.0])
bases = st.sampled_from([Fraction(1, 1000), Fraction(1, 90), Fraction(1001, 30000), Fraction(1, 3)])


@settings(max_examples=300)
@given(steps, rates, bases)
def test_sampling_equals_a_walk_over_all_ticks(steps: list[int], sample_fps: float, base: Fraction) -> None:
    ticks = [0, *np.cumsum(steps).tolist()]
    rate = Fraction(str(sample_fps))
    if ticks[-1] * base * rate > 4000:  # keeps the oracle's walk short
        ticks = [k for k in ticks if k * base * rate <= 4000]
    frames = [Shown(k, i) for i, k in enumerate(ticks)]
    display = Display[Shown](Grid.of(sample_fps, base))
    taken = [*map(display.show, frames), display.finish()]
    got = [(sample, frame.name) for sample, frame in filter(None, taken)]
    assert got == oracle(ticks, rate, base)


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_ticks_far_into_a_stream_are_exact(k: int, den: int) -> None:
    grid = Grid(Fraction(10), Fraction(1, den))
    sample = grid.first_sample(k)
    assert Fraction(sample - 1, 10) < Fraction(k, den) <= Fraction(sample, 10)
    assert grid.on_instant(k) == (Fraction(sample, 10) == Fraction(k, den))
    last = grid.last_ticks(sample)
    assert Fraction(last, den) <= Fraction(sample, 10) < Fraction(last + 1, den)


def test_float_steps_would_drift_but_these_do_not() -> None:
    # 0.1 s ticks over a day at 1/90000: tick 863 999 is at 86 399.9 s exactly.
    grid = Grid.of(10.0, Fraction(1, 90_000))
    assert grid.first_sample(7_775_991_000) == 863_999
    assert grid.on_instant(7_775_991_000)
    assert seconds(7_775_991_000, grid.time_base) == 86_399.9


def test_a_rate_is_taken_as_written() -> None:
    assert Grid.of(29.97, Fraction(1)).sample_fps == Fraction(2997, 100)


def test_a_grid_without_a_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Grid.of(0.0, Fraction(1, 1000))


def test_shown_at() -> None:
    stamps = np.array([3, 5, 9])
    assert [shown_at(stamps, t) for t in (2, 3, 4, 5, 100)] == [None, 3, 3, 5, 9]


class TestClock:
    base = Fraction(1, 1000)

    def test_counts_from_the_first_frame(self) -> None:
        clock = Clock(self.base, 25)
        assert [clock.show(pts, None, 40) for pts in (8333, 8373, 8413)] == [0, 40, 80]
        assert clock.origin == 8333
        assert clock.time_source == "pts"

    def test_a_small_step_back_waits(self) -> None:
        clock = Clock(self.base, 25)
        assert [clock.show(pts, None, 40) for pts in (8000, 8080, 8040, 8120)] == [0, 80, 80, 120]

    def test_a_clock_that_starts_anew_runs_on(self) -> None:
        clock = Clock(self.base, 25)
        times = [clock.show(pts, None, 40) for pts in (90_000, 90_040, 0, 60, 200)]
        assert times == [0, 40, 80, 140, 280]  # by the new clock, not by durations
        assert clock.place(300) == 380

    def test_times_from_dts_then_from_durations(self) -> None:
        clock = Clock(self.base, 25)
        assert [clock.show(None, dts, 0) for dts in (100, 140, 180)] == [0, 40, 80]
        assert clock.time_source == "dts"
        assert clock.show(None, None, 0) == 120  # 25 frames a second, as the header says
        assert clock.time_source == "dts"  # as of most

    def test_without_any_times_the_rate_is_all_there_is(self) -> None:
        clock = Clock(self.base, 50)
        assert [clock.show(None, None, duration) for duration in (0, 30, 0)] == [0, 20, 50]
        assert clock.time_source == "duration"

    def test_what_is_lost_has_its_place_after_the_frame_shown_last(self) -> None:
        clock = Clock(self.base, 25)
        assert clock.place(1000) is None  # from where, no frame has told yet
        assert [clock.show(pts, None, 40) for pts in (1000, 1040)] == [0, 40]
        assert [clock.place(pts) for pts in (1080, 1020, None)] == [80, 40, None]
        assert [clock.place_before(pts) for pts in (1080, None)] == [79, None]

    def test_a_loss_more_than_a_minute_ahead_is_at_no_time(self) -> None:
        clock = Clock(self.base, 25)
        clock.show(1000, None, 40)
        assert [clock.place(pts) for pts in (61_001, 61_000, 121_000, 181_001)] == [
            None,
            60_000,
            120_000,
            None,
        ]
        clock.jump()
        assert clock.place(500_000) == 499_000
        clock.show(600_000, None, 40)
        assert clock.place(650_000) == 649_000

    @given(st.lists(st.one_of(st.none(), st.integers(-(2**40), 2**40)), max_size=50))
    def test_never_backwards(self, stamps: list[int | None]) -> None:
        clock = Clock(self.base, 25)
        times = [clock.show(pts, None, 40) for pts in stamps]
        assert times == sorted(times)
        assert times[:1] in ([], [0])
