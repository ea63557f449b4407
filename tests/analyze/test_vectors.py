"""Perceptions whose vectors compaction has dropped: what can still be made of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.analyze import reinterpret
from pipeline.analyze.outcome import VideoResult
from pipeline.config import LakeConfig
from pipeline.errors import StorageError
from pipeline.lake.compact import compact
from tests.analyze.build import config, rows
from tests.analyze.test_reuse import OTHER_RULE, RUNS, Summary, analyzed, current, upgrade

AT_ONCE = LakeConfig(keep_vectors_days=1e-9)


@pytest.fixture
def bare(folder: Path, lake: Path) -> Path:
    """A lake with the short clip without vectors."""
    analyzed(folder / "short.mp4", lake, config(folder))
    compact(str(lake), AT_ONCE)
    assert {row["embedding"] for row in rows(lake)["frames"]} == {None}
    return lake


def only(summary: Summary) -> VideoResult:
    [result] = summary.results
    return result


def test_it_is_made_anew_where_they_are_needed(folder: Path, bare: Path, tmp_path: Path) -> None:
    video, new, fresh = folder / "short.mp4", config(folder, track__min_track_s=1.2), tmp_path / "fresh"
    assert only(analyzed(video, bare, config(folder))).state == "current"
    for trial in (True, False):
        result = only(reinterpret(str(bare), new, dry_run=trial))
        assert (result.state, "vectors were dropped" in result.note) == ("other_config", True)
    analyzed(video, fresh, new)
    [before] = current(bare)
    assert only(upgrade(bare, new, video)).state == "ok"
    [after] = current(bare)
    assert [name for name in RUNS.split(", ") if before[name] == after[name]] == []
    assert rows(bare) == rows(fresh)


def test_rules_alone_need_none(folder: Path, bare: Path) -> None:
    assert only(reinterpret(str(bare), config(folder, events__models=[], rules=[OTHER_RULE]))).state == "ok"
    assert {row["source"] for row in rows(bare)["events"]} == {"rule"}


def test_another_camera_takes_no_bare_perception(folder: Path, bare: Path, tmp_path: Path) -> None:
    twin = tmp_path / "yard" / "short.mp4"
    twin.parent.mkdir()
    shutil.copy(folder / "short.mp4", twin)
    result = only(analyzed(twin, bare, config(folder, cameras=[{"pattern": "{camera}/short"}])))
    assert (result.state, result.note) == ("ok", "")
    vectors = [row["embedding"] for row in rows(bare, video=result.video_id)["frames"]]
    assert len(vectors) == 60 and None not in vectors


def test_those_that_go_while_they_are_read_are_missed(folder: Path, bare: Path) -> None:
    """The note in the lake was read before compaction wrote it."""
    shutil.rmtree(bare / "_vectors")
    for change in ({"track__min_track_s": 1.2}, {"events__min_duration_s": 0.2}):
        with pytest.raises(StorageError, match=r"the vectors of .* were dropped meanwhile: run again"):
            reinterpret(str(bare), config(folder, **change))
