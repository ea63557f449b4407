"""The queries of docs/recipes/questions.md on a lake of which the answers are known."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.lake.commit import Ending, commit, start_attempts
from pipeline.lake.lookup import known_videos
from pipeline.lake.query import query
from pipeline.lake.records import Place, names_table, place_rows
from pipeline.lake.tables import Lake
from pipeline.lake.views import views
from pipeline.report.survey import Choice, survey
from tests.helpers import ROOT
from tests.lake.build import analyse, finished, name_of, running, stage_rows
from tests.report.scenes import SECONDS, square_lake, square_rows

PAGE = (ROOT / "docs/recipes/questions.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"## (.*?)\n.*?```sql\n(.*?)```", PAGE, re.DOTALL)
HOUR = datetime(2025, 3, 1, 22, tzinfo=UTC)
NIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(minutes=30)

ANSWERS = [
    {"label": "gate", "class": "person", "direction": "left_to_right", "number": 10},
    {"camera": "gate", "hour": HOUR, "label": "gate", "number": 10},
    {"track_id": 7, "class": "person", "t_start": 0.0},
    {"minute": 0.0, "most": 1},
    {"hour_utc": 22, "objects": 2},
    {"camera": "yard", "label": "road", "start_utc": NIGHT + timedelta(seconds=3)},
    None,
    {"first_line": "door", "second_line": "road", "seconds_between": 2.0},
    {"uri": "/archive/broken.mp4", "status": "failed", "error_code": "media", "error": "no pictures"},
    {"camera": "gate", "videos": 2, "hours": pytest.approx(2 * SECONDS / 3600)},
]
NUM_ROWS = {2: 3, 5: 2, 7: 1, 8: 2}
"""Of answers that may say too much: an object twice, other nights, the same line, what is mended."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("questions") / "lake"
    square_lake(place, "/archive/a.mp4", number=1)
    square_lake(place, "/archive/b.mp4", number=2)
    lake = Lake.open(place)
    name = known_videos(lake, ["/archive/a.mp4"])["/archive/a.mp4"]
    lake.append("videos", names_table([replace(name, uri="/archive/the same.mp4")]))
    crossed_at_night(lake)
    [attempt] = start_attempts(lake, [running("broken")])
    failed = attempt.ended("failed", error_code="media", error="no pictures")
    gone = running("gone")
    dropped = Ending(analysis=gone.ended("dropped"), basis=analyse(lake, "gone").revision)
    commit(lake, [Ending(analysis=failed), dropped])
    replaced_files(lake)
    killed_and_done_again(lake)
    return place


def replaced_files(lake: Lake) -> None:
    """A broken upload that came again and is whole, and a whole one over which a broken one was written."""

    def ended(video: str, name: str, status: str, at: int) -> None:
        seen = datetime(2025, 4, 1, at, tzinfo=UTC)
        uri = f"/archive/{name}.mp4"
        [attempt] = start_attempts(lake, [running(video, camera="street", uri=uri)])
        row = finished(attempt) if status == "ok" else attempt.ended(status, error_code="media")
        names = (name_of(row, seen_at=seen, etag=video, duration_s=1.0),)
        commit(lake, [Ending(analysis=row, names=names)])

    ended("half", "uploaded again", "failed", at=1)
    ended("whole", "uploaded again", "ok", at=2)
    ended("good", "written over", "ok", at=1)
    ended("bad", "written over", "failed", at=2)


def killed_and_done_again(lake: Lake) -> None:
    """An attempt of a run that was killed, which a compaction gives up for dead when another is done."""
    [killed] = start_attempts(lake, [running("done again", camera="street")])
    [again] = start_attempts(lake, [running("done again", camera="street")])
    commit(lake, [Ending(analysis=finished(again), names=(name_of(again, duration_s=1.0),))])
    commit(lake, [Ending(analysis=killed.ended("abandoned", error_code="lost"))])


def crossed_at_night(lake: Lake) -> None:
    """A video of the night that ended today: its object crosses one line, then another."""
    rows = square_rows(number=3, events=2)
    labels = pa.array(["door", "road"])
    events = rows["events"].set_column(rows["events"].schema.get_field_index("label"), "label", labels)
    [attempt] = start_attempts(lake, [running(f"{3:032x}", camera="yard", date=NIGHT.date())])
    place = Place(attempt.video_id, attempt.camera, attempt.date, attempt.run_id, NIGHT)
    written = {name: place_rows(name, part, place) for name, part in (rows | {"events": events}).items()}
    names = (name_of(finished(attempt), recorded_at=NIGHT, duration_s=1.0),)
    commit(lake, [Ending(analysis=finished(attempt), rows=written, names=names)])


def test_a_report_names_the_failures_that_the_query_finds(lake: Path) -> None:
    names = ["/archive/broken.mp4", "/archive/written over.mp4"]
    assert [row["uri"] for row in query(str(lake), QUESTIONS[8][1]).to_pylist()] == names
    assert [row["uri"] for row in survey(str(lake), Choice()).failures] == names
    assert [row["uri"] for row in survey(str(lake), Choice(camera="street")).failures] == names[1:]


def test_there_are_ten() -> None:
    assert len(QUESTIONS) == len(ANSWERS) == 10


@pytest.mark.parametrize("number", range(10))
def test_the_query_answers_its_question(lake: Path, number: int) -> None:
    rows = query(str(lake), QUESTIONS[number][1]).to_pylist()
    answer = ANSWERS[number]
    if answer is None:  # nothing stands still there
        assert rows == []
    else:
        assert {name: rows[0][name] for name in answer} == answer
    assert len(rows) == NUM_ROWS.get(number, len(rows))


@pytest.mark.parametrize("number", [0, 7])
def test_polars_answers_it_by_its_word_for_brackets(lake: Path, number: int) -> None:
    word = re.sub(r"(\w\.track_ids)\[1\]", r"array_get(\1, 1)", QUESTIONS[number][1])
    assert "array_get(e.track_ids, 1)" in PAGE
    scope: dict[str, Any] = {}
    exec(views(lake, "polars"), scope)
    found = scope["marey"].execute(word, eager=True).to_dicts()
    answer = query(lake, QUESTIONS[number][1]).to_pylist()
    assert sorted(map(str, found)) == sorted(map(str, answer))


def test_who_stands_at_the_lower_edge_is_in_the_lowest_field(tmp_path: Path) -> None:
    """Boxes reach the edge, and those between observations go beyond: that was a tenth row of fields."""
    rows = stage_rows(samples=3, objects=1)
    lower = {"x1": [10.0] * 3, "x2": [50.0] * 3, "y2": [360.0, 361.5, 320.0]}
    rows["tracks"] = with_columns(rows["tracks"], lower)
    rows["objects"] = with_columns(rows["objects"], {"mean_speed": [0.0]})
    analyse(Lake.open(tmp_path), "v1", rows=rows, name={"width_px": 640, "height_px": 360})
    found = query(tmp_path, QUESTIONS[6][1]).to_pylist()
    fields = [{"field_x": 0.0, "field_y": 8.0, "boxes": 3}]
    assert [{name: row[name] for name in fields[0]} for row in found] == fields


def with_columns(table: pa.Table, columns: dict[str, list[float]]) -> pa.Table:
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    return table
