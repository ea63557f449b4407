"""Every whole file of the shared collection, cut into 1, 3 and 20 segments: the same rows in every table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.analyze import analyze, run
from pipeline.analyze.perception import decode_job
from pipeline.media import DecodeJob
from tests.analyze.build import TABLES, config, prepared, rows
from tests.helpers import shared_path
from tests.media.test_formats import NO_VIDEO, names, truth

PARTS = (1, 3, 20)

NOT_WHOLE = {"fate_mpeg2_field_encoding.ts"}
"""Cut within its last frame, of whose missing field FFmpeg shows what that memory held before: no two runs
that hold other frames at that time need agree. tests/media holds its times."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("splitting") / "prepared")


def eager(work: Any, first: int, end: int, settings: Any) -> DecodeJob:
    """The job of a segment that begins in the middle of the file wherever that is safe."""
    return replace(decode_job(work, first, end, settings), seek_after_s=0.0)


@pytest.mark.parametrize(
    "name", [name for name in names(damaged=False) if name not in {*NO_VIDEO, *NOT_WHOLE}]
)
def test_equal_rows_in_any_number_of_segments(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "decode_job", eager)
    path = shared_path("data", "videos", "formats", name)
    times = [t for t in truth()[name] if t is not None]
    length = max(times[-1] - times[0], 0.1)
    found = {}
    for parts in PARTS:
        lake = tmp_path / f"lake-{parts}"
        settings = config(
            folder,
            run__segment_s=max(length / parts, 0.1) * 1.001,
            run__decoders=min(parts, 2),
            perceive__min_score=0.002,
            track__high_score=0.01,
            track__low_score=0.002,
            track__min_track_s=0.1,
        )
        [result] = analyze([str(path)], str(lake), settings).results
        assert result.state in ("ok", "partial")
        found[parts] = rows(lake)
    assert found[1]["frames"]
    for parts in PARTS[1:]:
        for table in TABLES:
            assert found[parts][table] == found[1][table], (parts, table)
