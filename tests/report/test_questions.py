"""The queries of docs/recipes/questions.md on a lake of which the answers are known."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.lake.commit import Ending, commit, start_attempts
from pipeline.lake.query import query
from pipeline.lake.tables import Lake
from tests.helpers import ROOT
from tests.lake.build import running
from tests.report.scenes import SECONDS, square_lake

PAGE = (ROOT / "docs/recipes/questions.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"## (.*?)\n.*?```sql\n(.*?)```", PAGE, re.DOTALL)
HOUR = datetime(2025, 3, 1, 22, tzinfo=UTC)

ANSWERS = [
    {"label": "gate", "class": "person", "direction": "left_to_right", "number": 10},
    {"camera": "gate", "hour": HOUR, "label": "gate", "number": 10},
    {"track_id": 7, "class": "person", "t_start": 0.0},
    {"minute": 0.0, "most": 1},
    {"hour_utc": 22, "objects": 2},
    {"camera": "gate", "label": "gate"},
    None,
    {"first_line": "gate", "second_line": "gate", "seconds_between": 2.0},
    {"uri": "/archive/broken.mp4", "status": "failed", "error_code": "media", "error": "no pictures"},
    {"camera": "gate", "videos": 2, "hours": pytest.approx(2 * SECONDS / 3600)},
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("questions") / "lake"
    square_lake(place, "/archive/a.mp4", number=1)
    square_lake(place, "/archive/b.mp4", number=2)
    [attempt] = start_attempts(Lake.open(place), [running("broken")])
    failed = attempt.ended("failed", error_code="media", error="no pictures")
    commit(Lake.open(place), [Ending(analysis=failed)])
    return place


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
