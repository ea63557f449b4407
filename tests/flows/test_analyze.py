"""What a flow refuses before it begins, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.analyze import _find, _run
from flows.report import named
from pipeline import allowed
from pipeline.analyze import Options
from pipeline.errors import UsageError
from pipeline.sources import Missing, Source
from pipeline.uploads import sweep_once


def test_a_run_of_one_video_is_for_one(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"no video at all")
    state = _run([str(tmp_path)], str(tmp_path / "lake"), None, Options(), 1, range_segments=10)
    assert state.is_failed()
    with pytest.raises(UsageError, match="is 2 videos: give one, or run analyze-batch"):
        raise state.data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What runs may use, with a link in it that leads out of it."""
    found = tmp_path / "footage"
    found.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (found / name).write_bytes(b"no video at all")
    (tmp_path / "outside.mp4").write_bytes(b"x")
    (found / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    monkeypatch.setenv(allowed.VARIABLE, str(found))
    return found


@pytest.mark.parametrize("as_listed", [True, False])
def test_what_may_not_be_used_fails_alone(folder: Path, as_listed: bool) -> None:
    """In a folder, and in a shard made of one by somebody to whom all is allowed."""
    names = [str(folder / name) for name in ("a.mp4", "b.mp4", "link.mp4")]
    entries = _find([str(folder)] if as_listed else names, None)
    assert sorted(entry.uri for entry in entries) == names
    assert [entry.uri for entry in entries if isinstance(entry, Source)] == names[:2]
    [refused] = [entry for entry in entries if isinstance(entry, Missing)]
    assert refused.error.code == "forbidden"
    assert str(refused.error) == f"{names[2]} may not be used here: MAREY_ALLOWED lists what may"


def test_nothing_that_may_be_used_begins_nothing(folder: Path) -> None:
    link = str(folder / "link.mp4")
    (folder / "link").mkdir()
    (folder / "link" / "link.mp4").symlink_to(folder.parent / "outside.mp4")
    for name in (link, str(folder / "link"), str(folder.parent)):
        with pytest.raises(UsageError, match="may not be used here"):
            _find([name], None)


def test_a_sweep_leaves_out_what_may_not_be_used(folder: Path) -> None:
    said: list[str] = []
    found = sweep_once([str(folder)], str(folder / "lake"), said.append)
    assert [item.uri for item in found] == [str(folder / "a.mp4"), str(folder / "b.mp4")]
    assert said == [f"left out: {folder / 'link.mp4'} may not be used here: MAREY_ALLOWED lists what may"]


def test_a_run_for_what_is_no_address_has_a_name() -> None:
    assert named(["https://[x/1.mp4"]) == "video"
