"""Inputs to files: directories, globs, names that are no files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.errors import SourceError, UsageError
from pipeline.sources import Missing, Source, changed_since, files, find, look
from pipeline.uploads.sweep import Sweeper


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.mp4", "a.MKV", "notes.txt", "sub/c.webm", "sub/deep/d.ts", "odd [1]*.mp4"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "in"


def names(inputs: list[str], **more: datetime) -> list[str]:
    return [os.path.relpath(entry.uri) for entry in find(inputs, **more)]


def test_a_directory_gives_its_videos_at_any_depth(archive: Path) -> None:
    every = ["in/a.MKV", "in/b.mp4", "in/odd [1]*.mp4", "in/sub/c.webm", "in/sub/deep/d.ts"]
    assert names(["in"]) == every
    assert names([str(archive), "in/b.mp4", "in/../in/b.mp4", "./in/sub"]) == every


def test_globs(archive: Path) -> None:
    assert names(["in/*.mp4"]) == ["in/b.mp4", "in/odd [1]*.mp4"]
    assert names(["in/**/*.ts"]) == ["in/sub/deep/d.ts"]
    assert names(["in/s*"]) == ["in/sub/c.webm", "in/sub/deep/d.ts"]  # folders that a pattern names
    assert names(["in/odd [1]*.mp4"]) == ["in/odd [1]*.mp4"]  # a file of that name comes first


def test_names_that_begin_with_a_dot_are_passed_over(archive: Path) -> None:
    """They are what systems leave: attributes of files (macOS), and what was thrown away."""
    before = names(["in"]), names(["in/*"])
    for name in ("._b.mp4", ".Trashes/501/e.mp4", ".kept/f.mp4", ".kept/._f.mp4", "sub/._c.webm"):
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        (archive / name).touch()
    assert (names(["in"]), names(["in/*"])) == before
    assert names(["in/.kept"]) == names(["in/.k*"]) == ["in/.kept/f.mp4"]
    assert names(["in/._b.mp4"]) == names(["in/._*"]) == ["in/._b.mp4"]


def test_a_named_file_needs_no_suffix(archive: Path) -> None:
    assert names(["in/notes.txt"]) == ["in/notes.txt"]


def test_what_a_source_tells(archive: Path) -> None:
    os.utime(archive / "b.mp4", ns=(0, 1_500_000_000_000_000_001))
    [source] = find(["in/b.mp4"])
    assert source == Source(
        str(archive / "b.mp4"),
        archive / "b.mp4",
        5,
        datetime.fromtimestamp(1_500_000_000, UTC),
        "5-1500000000000000001",
    )


def test_since_is_for_directories_and_globs(archive: Path) -> None:
    for path in archive.rglob("*.*"):
        os.utime(path, (1000, 1000))
    os.utime(archive / "b.mp4", (2000, 2000))
    since = datetime.fromtimestamp(1500, UTC)
    assert names(["in"], since=since) == ["in/b.mp4"]
    assert names(["in/*"], since=since) == ["in/b.mp4"]
    assert names(["in/a.MKV"], since=since) == ["in/a.MKV"]
    assert names(["in/sub"], since=since) == []


@pytest.mark.parametrize("item", ["in/no.mp4", "in/no*.mkv", "in/b.mp4/c.mp4", "x" * 300])
def test_what_is_missing(archive: Path, item: str) -> None:
    with pytest.raises(UsageError) as caught:
        find([item])
    assert item in str(caught.value)
    found = find([item, "in/b.mp4"])
    assert isinstance(found[0], Missing)
    assert isinstance(found[0].error, SourceError)
    assert isinstance(found[1], Source)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("gs://bucket/a.mp4", "gs:// inputs are not supported"),
        ("empty", "directory empty holds no video: name the files, or another directory"),
        ("~nobody-of-this-name/a.mp4", "does not exist"),
        ("", "an input is empty: name a file or directory"),
    ],
)
def test_refused(archive: Path, item: str, message: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(UsageError, match=message):
        find([item])


@pytest.fixture
def closed() -> Iterator[Path]:
    """Folders a and b with a video each, of which b may not be read; nor may root, while the test runs."""
    top = Path(tempfile.mkdtemp())
    for name in ("a", "b"):
        (top / name).mkdir()
        (top / name / "1.mp4").write_bytes(b"x")
    top.chmod(0o755)
    (top / "b").chmod(0o000)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield top
    if root:
        os.seteuid(0)
    (top / "b").chmod(0o755)
    shutil.rmtree(top)


def test_folders_that_cannot_be_read_are_told(closed: Path) -> None:
    for item in (str(closed), f"{closed}/*"):
        said: list[str] = []
        found = [entry.uri for entry in find([item], say=said.append)]
        assert found == [str(closed / "a" / "1.mp4")]
        assert said == [f"passed over below {item}: {closed / 'b'}: Permission denied"]
    with pytest.raises(UsageError, match=f"^directory {closed / 'b'} cannot be read: Permission denied$"):
        find([str(closed / "b")])


def test_who_watches_is_told_once(closed: Path) -> None:
    said: list[str] = []
    sweeper = Sweeper([str(closed), str(closed / "b")], settle_s=0.0, say=said.append)
    for _ in range(2):
        assert [source.uri for source in sweeper.whole()] == [str(closed / "a" / "1.mp4")]
    assert [line.partition(":")[0] for line in said] == [
        f"passed over below {closed}",
        f"directory {closed / 'b'} cannot be read",
    ]


def test_what_is_no_regular_file_is_not_opened(archive: Path) -> None:
    os.mkfifo("pipe.mp4")
    os.symlink("gone.mp4", "in/sub/dangling.mp4")
    assert names(["in/sub"]) == [
        "in/sub/c.webm",
        "in/sub/deep/d.ts",
    ]  # what is no file costs nothing
    for place in ("pipe.mp4", "/dev/zero"):
        found = look(Path(place))
        assert isinstance(found, Missing)
        assert "is not a regular file" in str(found.error)


def test_a_name_that_is_not_utf8(archive: Path) -> None:
    path = os.fsdecode(os.fsencode(archive) + b"/caf\xe9.mp4")
    Path(path).touch()
    found = look(Path(path))
    assert isinstance(found, Missing)
    assert found.uri.endswith("caf\\xe9.mp4")
    assert "is not UTF-8" in str(found.error)
    assert len(find(["in"])) == 6  # the others are found beside it


def test_links_keep_their_names_but_not_beyond_them(archive: Path) -> None:
    Path("away").mkdir()
    Path("away/link").symlink_to(archive / "sub")
    assert names(["away/link/c.webm"]) == ["away/link/c.webm"]
    assert names(["away/link/../b.mp4"]) == ["in/b.mp4"]  # `..` is the parent of where the link leads


def test_changed_since(archive: Path) -> None:
    [source] = find(["in/b.mp4"])
    assert isinstance(source, Source)
    assert changed_since(source) is None
    source.path.write_text("other")
    error = changed_since(source)
    assert error is not None
    assert (error.code, "changed while it was read" in str(error)) == ("changed", True)
    source.path.unlink()
    error = changed_since(source)
    assert error is not None
    assert "vanished" in str(error)


def test_what_is_no_address_is_a_wrong_use() -> None:
    with pytest.raises(
        UsageError, match=r"^an input with https:// is no address: check it: Invalid IPv6 URL$"
    ):
        find(["https://user:word@[::1/x.mp4?key=word"])


def test_files_below_several_matches_are_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`**` matches all folders above a file and itself: each file was opened once for each."""
    folder = tmp_path / "a/b/c/d"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.mp4").write_bytes(b"x")
    looked, look = [], files.look

    def counted(path: Path) -> Source | Missing:
        looked.append(path.name)
        return look(path)

    monkeypatch.setattr(files, "look", counted)
    assert [Path(entry.uri).name for entry in find([f"{tmp_path}/**"])] == ["0.mp4", "1.mp4", "2.mp4"]
    assert looked == ["0.mp4", "1.mp4", "2.mp4"]
