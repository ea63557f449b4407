"""Plans are made ahead of the work, and short videos begin together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.analyze import Options, analyze
from pipeline.analyze.ahead import AHEAD, PlansAhead, plans_ahead
from pipeline.analyze.ending import running_row
from pipeline.analyze.gathering import Gathering
from pipeline.analyze.plan import Planner, VideoPlan
from pipeline.analyze.probing import open_prober
from pipeline.analyze.tools import Tools
from pipeline.config import Config
from pipeline.errors import SourceError
from pipeline.ids import new_run_id
from pipeline.lake import Lake, lookup
from pipeline.lake.commit import start_attempts
from pipeline.lake.lookup import histories
from pipeline.sources import Source, Spool, find
from tests.analyze.build import ask, config, rows, write_clip


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of 2 s."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(5):
        write_clip(folder / f"{number}.mp4", 2.0, seed=number)
    return folder


@contextmanager
def planning(lake: Path, settings: Config) -> Iterator[Planner]:
    with open_prober() as prober, Spool(0) as spool:
        yield Planner(Lake.open(str(lake)), Tools(settings), Options(), prober, spool)


def sources(folder: Path) -> list[Source]:
    return [source for source in find([str(folder)]) if isinstance(source, Source)]


def planned(planner: Planner, entries: list[Source]) -> list[VideoPlan]:
    planner.look_up(entries)
    found = [planner.plan(entry) for entry in entries]
    return [plan for plan in found if plan is not None]


def sizes(plans: list[VideoPlan | None], max_s: float = 60.0) -> list[int]:
    return [len(group) for group in Gathering(max_s).groups(plans)]


def test_short_videos_begin_together_up_to_a_segment(folder: Path, clips: Path, lake: Path) -> None:
    with planning(lake, config(folder)) as planner:
        a, b, c, d, e = planned(planner, sources(clips))
        [long] = planned(planner, sources(folder / "long.mp4"))
        assert sizes([a, b, c, d, e], 6.0) == [3, 2]
        assert sizes([a, b, None, c, d], 6.0) == [2, 2]  # what is made is not kept waiting
        assert sizes([None, a, None, None], 6.0) == [0, 1, 0]
        assert sizes([a, long, b], 6.0) == [1, 1, 1]
        assert sizes([], 6.0) == []


def test_a_new_video_is_planned_by_one_reading(
    folder: Path, clips: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each opens every file of the table: with three, a batch of 2,000 shards grew slower and slower."""
    asked: list[str] = []
    select = lookup.run_sql
    monkeypatch.setattr(
        lookup, "run_sql", lambda snapshot, name, *rest: asked.append(name) or select(snapshot, name, *rest)
    )
    with planning(lake, config(folder)) as planner:
        plans = planned(planner, sources(clips))
        assert [plan.step.value for plan in plans] == ["perception"] * 5
    assert asked == ["videos", *["analyses"] * 5]


def test_what_came_to_no_end_begins_alone(folder: Path, clips: Path, lake: Path) -> None:
    with planning(lake, config(folder)) as planner:
        entries = sources(clips)
        before = planned(planner, entries)
        killed = running_row(before[1], "config", "{}")  # its worker was
        start_attempts(Lake.open(str(lake)), [killed])
        a, b, c, d, e = planned(planner, entries)
        assert histories(Lake.open(str(lake)), [b.name.video_id])[b.name.video_id].unended
        assert sizes([a, b, c, d, e]) == [1, 1, 3]


def test_many_at_once_give_the_rows_of_one_after_the_other(folder: Path, clips: Path, tmp_path: Path) -> None:
    settings = config(folder)
    summary = analyze([str(clips)], str(tmp_path / "together"), settings)
    assert [result.state for result in summary.results] == ["ok"] * 5
    for clip in sorted(clips.iterdir()):
        analyze([str(clip)], str(tmp_path / "apart"), settings)
    assert rows(tmp_path / "together") == rows(tmp_path / "apart")
    begun = ask(tmp_path / "together", "SELECT video_id FROM analyses WHERE status = 'running'")
    assert len(begun) == 5


def test_plans_come_in_order_and_errors_with_them(
    folder: Path, clips: Path, lake: Path, tmp_path: Path
) -> None:
    with planning(lake, config(folder)) as planner:
        entries = sources(clips)
        gone = tmp_path / "gone.mp4"
        gone.write_bytes(b"x")
        entries[2:2] = sources(gone)
        gone.unlink()
        planner.look_up(entries)
        with plans_ahead(planner, entries) as ahead:
            ahead.ask(AHEAD)
            taken = [ahead.take() for _ in entries]
        assert [source for source, _ in taken] == entries
        made = [plan for _, plan in taken]
        assert isinstance(made[2], SourceError)
        assert all(isinstance(plan, VideoPlan) for plan in made[:2] + made[3:])


def test_no_more_are_made_than_are_asked_for(folder: Path, clips: Path, lake: Path) -> None:
    with planning(lake, config(folder)) as planner:
        entries = sources(clips)
        planner.look_up(entries)
        ahead = PlansAhead(planner, entries)
        time.sleep(0.2)
        assert not ahead.ready()
        assert ahead.take()[0] == entries[0]
        time.sleep(0.2)
        assert not ahead.ready()
        ahead.end()


def test_an_error_breaks_off_a_plan_that_waits(
    folder: Path, clips: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy that planning waits for never comes."""
    asked = threading.Event()
    with planning(lake, config(folder)) as planner:
        entries = sources(clips)
        planner.look_up(entries)

        def wait(source: Source) -> VideoPlan | None:
            asked.set()
            planner.spool.get(Source(f"s3://bucket/{new_run_id()}", None, 1, source.changed_at, None))
            return None

        monkeypatch.setattr(planner, "plan", wait)
        monkeypatch.setattr(planner.spool, "_start", lambda: None)  # no server answers
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt), plans_ahead(planner, entries) as ahead:
            ahead.ask(1)
            assert asked.wait(10)
            raise KeyboardInterrupt
        assert time.monotonic() - began < 5
        assert not ahead._thread.is_alive()
