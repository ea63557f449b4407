"""Which errors of a compaction are worth another try."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.maintain import compact, tried_again
from pipeline.config import Config
from pipeline.errors import StorageError, UsageError
from pipeline.lake.compact import compact as compact_lake

AWAY = StorageError("lake s3://b/lake: the server cannot be reached")


def test_a_lake_that_is_away_is_waited_for() -> None:
    answers: Iterator[StorageError | str] = iter([AWAY, AWAY, "done", AWAY, AWAY, AWAY])
    said: list[str] = []

    def once() -> str:
        answer = next(answers)
        if isinstance(answer, StorageError):
            raise answer
        return answer

    assert tried_again(once, said.append, (0, 0)) == "done"
    assert said == ["tried again in 0 minutes: lake s3://b/lake: the server cannot be reached"] * 2
    with pytest.raises(StorageError):
        tried_again(once, said.append, (0, 0))
    assert list(answers) == []


def test_a_lake_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    assert compact.retries == 0  # Prefect knows no errors that stay
    said: list[str] = []
    with pytest.raises(UsageError, match="there is no lake at"):
        tried_again(lambda: compact_lake(str(tmp_path / "none"), Config().lake), said.append, (600,))
    assert said == []
