"""Staged segments: whole, first wins, found again, cleared."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import StorageError
from pipeline.lake.schema import DETECTIONS, FRAMES, STAGED
from pipeline.lake.staging import Segment, Staging, stage, unstage
from pipeline.lake.tables import Lake
from tests.lake.build import stage_rows


@pytest.fixture
def staging(place: str) -> Staging:
    return Staging(Lake.open(place), "0123abcd")


def staged(seed: int = 0, objects: int = 2) -> pa.Table:
    rows = stage_rows(seed=seed, objects=objects)
    return stage(rows["frames"], rows["detections"])


def test_stage_and_unstage_are_inverse() -> None:
    rows = stage_rows(seed=1, objects=3)
    frames, detections = unstage(stage(rows["frames"], rows["detections"]))
    assert frames.equals(rows["frames"])
    assert detections.equals(rows["detections"])
    assert (frames.schema, detections.schema) == (FRAMES, DETECTIONS)


def test_stage_keeps_frames_without_detections() -> None:
    rows = stage_rows(samples=6)
    some = rows["detections"].filter(
        [sample in (1, 4) for sample in rows["detections"]["sample"].to_pylist()]
    )
    table = stage(rows["frames"], some)
    assert [len(boxes) for boxes in table["detections"].to_pylist()] == [0, 2, 0, 0, 2, 0]
    assert unstage(table)[1].equals(some)
    none = stage(rows["frames"], DETECTIONS.empty_table())
    assert unstage(none)[1].equals(DETECTIONS.empty_table())
    assert unstage(STAGED.empty_table())[0].num_rows == 0


def test_unstage_of_a_slice_and_of_chunks() -> None:
    whole = staged(objects=2)
    frames, detections = unstage(whole.slice(5, 3))
    assert frames["sample"].to_pylist() == [5, 6, 7]
    assert detections["sample"].to_pylist() == [5, 5, 6, 6, 7, 7]
    parts = pa.concat_tables([whole.slice(0, 7), whole.slice(7)])
    assert unstage(parts)[1].equals(unstage(whole)[1])


@pytest.mark.parametrize("samples", [[5, 99], [3, 1]])
def test_detections_need_their_frames_in_order(samples: list[int]) -> None:
    rows = stage_rows(samples=10, objects=1)
    two = rows["detections"].slice(0, 2)
    wrong = two.set_column(0, DETECTIONS.field("sample"), pa.array(samples, pa.int64()))
    with pytest.raises(ValueError, match="each detection has its frame"):
        stage(rows["frames"], wrong)


def test_put_and_get(staging: Staging) -> None:
    assert (staging.get(0, 19), staging.segments()) == (None, [])
    rows = staged()
    facts = {"end_of_file": False, "gaps": [{"t_start": 0.5, "cause": "media"}]}
    assert staging.put(0, 19, rows, facts).rows.equals(rows)
    staging.put(100, 199, rows)
    staging.put(20, 99, rows)
    found = staging.get(0, 19)
    assert found is not None
    assert found.rows.equals(rows)
    assert found.facts == facts
    assert staging.segments() == [(0, 19), (20, 99), (100, 199)]


def test_the_first_wins_and_the_loser_reads_it_back(staging: Staging) -> None:
    first, second = staged(1), staged(2)
    assert staging.put(0, 19, first, {"by": 1}).rows.equals(first)
    kept = staging.put(0, 19, second, {"by": 2})
    assert kept.rows.equals(first)
    assert kept.facts == {"by": 1}


def test_clear_removes_this_perception_only(staging: Staging) -> None:
    other = Staging(Lake(staging._location), "ffff")
    for one in (staging, other):
        one.put(0, 19, staged())
    staging.clear()
    staging.clear()
    assert (staging.segments(), other.segments()) == ([], [(0, 19)])
    assert staging.put(0, 19, staged(3)).rows.equals(staged(3))


def test_what_a_killed_writer_left_is_not_a_segment(staging: Staging) -> None:
    staging.put(0, 19, staged())
    assert staging._location.names("_staging/0123abcd") == ["0-19.parquet"]
    staging._location.create("_staging/0123abcd/.half.tmp", b"PAR1")
    assert staging.segments() == [(0, 19)]


def test_a_damaged_segment_counts_as_absent(staging: Staging) -> None:
    place, name = staging._location, "_staging/0123abcd/0-19.parquet"

    def damage(data: bytes) -> None:
        place.remove(name)
        place.create(name, data)

    staging.put(0, 19, staged())
    whole = place.read(name)
    assert whole is not None
    third = len(whole) // 3
    for data in (whole[:-100], b"", whole[:3], whole[:4] + bytes(third) + whole[4 + third :]):
        damage(data)
        assert staging.get(0, 19) is None
        assert place.names("_staging") == []
    assert staging.put(0, 19, staged(5)).rows.equals(staged(5))


def test_a_segment_without_frames_is_kept(staging: Staging) -> None:
    staging.put(0, 19, Segment.empty())
    found = staging.get(0, 19)
    assert found is not None
    assert (found.rows.num_rows, found.facts) == (0, {})


def test_a_segment_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path / "lake")
    (tmp_path / "lake" / "_staging").write_text("in the way")
    with pytest.raises(StorageError, match=r"_staging/ab/0-1\.parquet cannot be written"):
        Staging(lake, "ab").put(0, 1, staged())


def test_wrong_names_are_refused(staging: Staging) -> None:
    with pytest.raises(ValueError, match="hex digits"):
        Staging(Lake(staging._location), "../up")
    with pytest.raises(ValueError, match="first <= last"):
        staging.put(5, 4, staged())
    with pytest.raises(ValueError, match="a segment needs columns"):
        staging.put(0, 19, stage_rows()["frames"])
