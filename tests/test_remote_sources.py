"""Inputs on S3 and on web servers, and their copies: what is found, read, bounded, and read again."""

from __future__ import annotations

import fcntl
import hashlib
import resource
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import retry, s3
from pipeline.config import CameraPattern
from pipeline.errors import SourceError, StorageError, TransientError, UsageError
from pipeline.sources import Missing, Source, Spool, camera_and_time, find
from pipeline.sources import bucket as on_s3
from pipeline.sources import spool as spool_module
from tests.s3 import Server, free_port, refusing
from tests.web import Quiet, serving

ODD_KEYS = (
    "cam 1/2025/03/01/a+b.mp4",
    "cam 1/2025/03/01/ü ☃ 100%.mp4",
    "cam 1/2025/03/01/%41%2F.MKV",
    "cam 1/../../../etc/passwd.mp4",
    "cam 1/?query=a&b#c.mp4",
    "cam 1/[x]*.mp4",
)


def content(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@pytest.fixture
def bucket(s3_server: Server) -> str:
    return s3_server.bucket()


@pytest.fixture
def put(s3_server: Server, bucket: str) -> Any:
    def one(key: str, text: str | None = None) -> str:
        s3_server.client().put_object(Bucket=bucket, Key=key, Body=(key if text is None else text).encode())
        return f"s3://{bucket}/{key}"

    return one


def uris(inputs: list[str], **more: datetime) -> list[str]:
    return [entry.uri for entry in find(inputs, **more)]


def test_prefixes_objects_and_globs(bucket: str, put: Any) -> None:
    a, b, c = put("x/a.mp4"), put("x/y/b.MKV"), put("x/y/z/c.ts")
    put("x/notes.txt")
    put("xx/other.mp4")
    top = f"s3://{bucket}"
    assert uris([f"{top}/x/"]) == uris([f"{top}/x"]) == [a, b, c]
    assert uris([top]) == uris([f"{top}/"]) == [a, b, c, f"{top}/xx/other.mp4"]
    assert uris([f"{top}/x/notes.txt"]) == [f"{top}/x/notes.txt"]
    assert uris([f"{top}/x/*.mp4"]) == [a]
    assert uris([f"{top}/x/**/*.ts"]) == uris([f"{top}/x/y/z/?.ts"]) == uris([f"{top}/x/y/z/[!ab].ts"]) == [c]
    assert uris([f"{top}/**"]) == [a, b, c, f"{top}/xx/other.mp4"]
    assert uris([f"{top}/x/", a, a]) == [a, b, c]
    # As on a disk: a folder that matches stands for what lies below it.
    assert uris([f"{top}/x/*"]) == uris([f"{top}/[x]/"]) == uris([f"{top}/[x]"]) == [a, b, c]
    assert uris([f"{top}/x*/"]) == uris([f"{top}/x*"]) == [a, b, c, f"{top}/xx/other.mp4"]
    assert uris([f"{top}/*/y/"]) == [b, c]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert uris([f"{top}/x/"], since=tomorrow) == []
    assert uris([a], since=tomorrow) == [a]


def test_keys_that_begin_with_a_dot_are_passed_over(bucket: str, put: Any) -> None:
    top = f"s3://{bucket}"
    a, b, c = put("x/a.mp4"), put("x/._a.mp4"), put("x/.kept/c.mp4")
    assert uris([top]) == uris([f"{top}/x/"]) == uris([f"{top}/x/*"]) == uris([f"{top}/x/a*"]) == [a]
    assert uris([b]) == uris([f"{top}/x/._*"]) == [b]
    assert uris([f"{top}/x/.kept/"]) == uris([f"{top}/x/.k*"]) == [c]


def test_what_is_not_there(bucket: str, put: Any) -> None:
    put("a.mp4")
    assert find([f"s3://{bucket}/none/"]) == []
    with pytest.raises(UsageError, match="there is no object s3://"):
        find([f"s3://{bucket}/none.mp4"])
    with pytest.raises(UsageError, match=r"there is no object s3://.*/cam\*/"):
        find([f"s3://{bucket}/cam*/"])
    found = find([f"s3://{bucket}/none.mp4", f"s3://{bucket}/a.mp4"])
    assert [type(entry) for entry in found] == [Missing, Source]
    with pytest.raises(StorageError, match="bucket no-such-bucket: the bucket does not exist"):
        find(["s3://no-such-bucket/x/"])
    with pytest.raises(UsageError, match="ftp:// inputs are not supported"):
        find(["ftp://host/a.mp4"])


def test_odd_keys_name_nothing_on_this_machine(bucket: str, put: Any) -> None:
    for key in ODD_KEYS:
        put(key)
    found = [entry for entry in find([f"s3://{bucket}/cam 1/"]) if isinstance(entry, Source)]
    assert sorted(entry.uri for entry in found) == sorted(f"s3://{bucket}/{key}" for key in ODD_KEYS)
    assert uris([f"s3://{bucket}/{ODD_KEYS[0]}"]) == [f"s3://{bucket}/{ODD_KEYS[0]}"]
    with Spool(10**9) as spool:
        spool.expect(found)
        for entry in found:
            copy = spool.get(entry)
            key = entry.uri.removeprefix(f"s3://{bucket}/")
            assert copy.content_id == content(key)
            assert copy.path is not None
            assert copy.path.read_text() == key
            assert copy.path.parent.name.startswith("marey-spool-")
            spool.release(copy)
            assert not copy.path.exists()
        folder = copy.path.parent
    assert not folder.exists()


def test_camera_and_time_from_a_key() -> None:
    pattern = CameraPattern(pattern="{camera}/{recorded_at:%Y/%m/%d/%H%M%S}")
    at = datetime(2025, 3, 1, 22, 30, tzinfo=UTC)
    assert camera_and_time("s3://bucket/Tor 1/2025/03/01/223000.mp4", [pattern]) == ("Tor 1", at)
    assert camera_and_time("s3://bucket/..", [pattern]) == (None, None)


def test_an_object_that_changes_is_read_as_its_new_version(
    bucket: str, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = put("a.mp4", "old" * 1000)
    [listed] = find([uri])
    assert isinstance(listed, Source)
    put("a.mp4", "new")
    with Spool(10**6) as spool:
        copy = spool.get(listed)
        assert (copy.size_bytes, copy.content_id) == (3, content("new"))
        assert copy.etag != listed.etag
        spool.release(copy)
    versions = iter(range(100))
    monkeypatch.setattr(on_s3, "look", lambda source: put("a.mp4", f"{next(versions)}") and listed)
    with (
        Spool(10**6) as spool,
        pytest.raises(SourceError, match=r"keeps changing while it is read: run again"),
    ):
        spool.get(listed)


def test_one_that_vanished(s3_server: Server, bucket: str, put: Any) -> None:
    [listed] = find([put("a.mp4")])
    assert isinstance(listed, Source)
    s3_server.client().delete_object(Bucket=bucket, Key="a.mp4")
    with Spool(10**6) as spool, pytest.raises(SourceError, match="vanished"):
        spool.get(listed)


def test_an_object_that_cannot_be_read_costs_itself_only(
    s3_server: Server, bucket: str, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose encryption key is gone, or whose disk is; its bucket answers, so the others are read."""
    good, locked, lost = put("good.mp4"), put("locked.mp4"), put("lost.mp4")
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    monkeypatch.setattr(retry, "RETRY_S", 0.2)
    answers = {"locked": (400, "KMS.DisabledException"), "lost": (503, "SlowDown")}
    with refusing(s3_server, answers) as server, Spool(10**6) as spool:
        server.use(monkeypatch.setenv)
        found = [entry for entry in find([f"s3://{bucket}/"]) if isinstance(entry, Source)]
        assert [entry.uri for entry in found] == [good, locked, lost]
        for entry, code, told in zip(
            found[1:], ("unreadable", "transient"), ("planned", "over"), strict=True
        ):
            with pytest.raises(SourceError, match=rf"{entry.uri} cannot be read: .*{told}") as caught:
                spool.get(entry)
            assert caught.value.code == code
        assert spool.get(found[0]).content_id == content("good.mp4")

        named = find([good, locked, lost])
        assert [type(entry) for entry in named] == [Source, Missing, Missing]
        with pytest.raises(UsageError, match="cannot be read: Bad Request"):
            find([locked])
        with pytest.raises(TransientError, match="overloaded"):
            find([locked, lost])
    with Spool(10**6) as spool, pytest.raises(StorageError, match=rf"bucket {bucket}: the server cannot be"):
        spool.get(found[0])


def test_the_disk_is_bounded(bucket: str, put: Any) -> None:
    for number in range(8):
        put(f"{number}.mp4", str(number) * 1000)
    found = [entry for entry in find([f"s3://{bucket}/"]) if isinstance(entry, Source)]
    with Spool(3500) as spool:
        spool.expect(found)

        def on_disk() -> int:
            folder = spool._folder
            assert folder is not None
            return sum(1 for file in folder.iterdir() if file.name != "lock")

        first = spool.get(found[0])
        end = time.monotonic() + 20
        while on_disk() < 3 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)
        assert on_disk() == 3, "the next are fetched while the first is at work, and no more than fit"
        second, third = spool.get(found[1]), spool.get(found[2])
        assert not spool.ready(found[3]), "three are at work"
        assert on_disk() == 3
        spool.release(second)
        assert spool.get(found[3]).content_id == content("3" * 1000)
        for copy in (first, third, found[3]):
            spool.release(copy)
        # Asked for out of order: copies that nobody has taken make room.
        assert spool.get(found[7]).content_id == content("7" * 1000)
        spool.release(found[7])
        for entry in found[4:7]:
            assert spool.get(entry).path is not None
            spool.release(entry)
    with Spool(999) as spool, pytest.raises(SourceError, match=r"more than run\.max_spool_gb"):
        spool.get(found[0])


def test_a_full_disk_is_said_before(bucket: str, put: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    [listed] = find([put("a.mp4")])
    assert isinstance(listed, Source)
    monkeypatch.setattr(Spool, "_free_bytes", lambda self: 1)
    with Spool(10**6) as spool, pytest.raises(SourceError, match=r"more than is free in .*TMPDIR"):
        spool.get(listed)


def test_no_place_for_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where every folder for temporary files is on a full disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    source = Source("https://localhost/a.mp4", None, 1, datetime.now(UTC), None)
    with Spool(10**6) as spool, pytest.raises(StorageError, match=r"no place for copies.*set TMPDIR"):
        spool.expect([source])


def test_copies_of_killed_programs_are_removed(
    bucket: str, put: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "marey-spool-left"
    left.mkdir()
    (left / "lock").touch()
    [listed] = find([put("a.mp4")])
    assert isinstance(listed, Source)
    with Spool(10**6) as living, Spool(10**6) as other:
        kept = living.get(listed).path
        other.get(listed)
        assert kept is not None
        assert kept.exists()
        assert not left.exists()


def test_copies_of_a_program_that_begins_are_left(
    bucket: str, put: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever another one looks for those of killed ones: before every lock, as here, or after."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def lock(file: Any, how: int) -> None:
        if how == fcntl.LOCK_EX:  # of one that begins
            spool_module._remove_stale()
        flock(file, how)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lock)
    [listed] = find([put("a.mp4")])
    assert isinstance(listed, Source)
    with Spool(10**6) as spool:
        kept = spool.get(listed).path
        spool_module._remove_stale()
        assert kept is not None
        assert kept.exists()


class _Web(Quiet):
    """A file behind a signature and a password, on a server that breaks off."""

    body = b"0123456789" * 100_000
    etag = '"1"'
    breaks = 0
    ranges = True
    busy = False

    def do_GET(self) -> None:
        if self.busy and self.headers.get("Range") != "bytes=0-0":
            self.send_error(503)
            return
        if self.path.startswith("/circle"):
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/cam/a%20b.mp4?sign=s3cret")
            self.end_headers()
            return
        if "sign=s3cret" not in self.path or self.headers.get("Authorization", "Basic dTpw") != "Basic dTpw":
            self.send_error(403)
            return
        if not self.body and "Range" in self.headers:
            self.send_error(416)
            return
        if not self.ranges and self.headers.get("Range") != "bytes=0-0":
            del self.headers["Range"]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        end = 1 if self.headers.get("Range") == "bytes=0-0" else len(self.body)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", self.etag)
        self.send_header("Last-Modified", "Sat, 01 Mar 2025 22:30:00 GMT")
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(self.body)}")
        self.end_headers()
        if type(self).breaks and end > 1:
            type(self).breaks -= 1
            end = (start + end) // 2
        self.wfile.write(memoryview(self.body)[start:end])


@pytest.fixture
def web() -> Iterator[str]:
    with serving(_Web) as address:
        yield address.removeprefix("http://")


def test_a_file_on_a_web_server(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Web, "breaks", 3)
    [found] = find([f"http://u:p@{web}/cam/a%20b.mp4?sign=s3cret#t=1"])
    assert isinstance(found, Source)
    assert found.uri == f"http://{web}/cam/a%20b.mp4"
    assert (found.size_bytes, found.etag) == (1_000_000, "1")
    assert found.changed_at == datetime(2025, 3, 1, 22, 30, tzinfo=UTC)
    assert "s3cret" not in repr(found)
    with Spool(10**7) as spool:
        copy = spool.get(found)
        assert copy.content_id == hashlib.sha256(_Web.body).hexdigest()[:32]
        assert _Web.breaks == 0
        spool.release(copy)
        [moved] = find([f"http://{web}/moved.mp4"])
        assert isinstance(moved, Source)
        assert spool.get(moved).content_id == copy.content_id
        spool.release(moved)
        monkeypatch.setattr(_Web, "body", b"new")
        monkeypatch.setattr(_Web, "etag", '"2"')
        assert spool.get(found).size_bytes == 3


def test_an_empty_file_on_a_web_server(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there, and its analysis says what is wrong with it."""
    monkeypatch.setattr(_Web, "body", b"")
    [found] = find([f"http://{web}/a.mp4?sign=s3cret"])
    assert isinstance(found, Source)
    with Spool(10**7) as spool:
        copy = spool.get(found)
        assert copy.path is not None
        assert (copy.size_bytes, copy.path.stat().st_size) == (0, 0)


def test_a_file_that_does_not_come_costs_itself_only(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_S", 0.2)
    [found] = find([f"http://{web}/a.mp4?sign=s3cret"])
    assert isinstance(found, Source)
    monkeypatch.setattr(_Web, "breaks", 10**6)
    with Spool(10**7) as spool:
        with pytest.raises(SourceError, match=r"a\.mp4 came in part only: run again") as caught:
            spool.get(found)
        assert caught.value.code == "transient"
        monkeypatch.setattr(_Web, "breaks", 0)
        assert spool.get(found).content_id == hashlib.sha256(_Web.body).hexdigest()[:32]


def test_a_server_is_waited_for_in_vain_once(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand files of a server that is gone are not to cost a thousand minutes."""
    found = [entry for name in "ab" for entry in find([f"http://{web}/{name}.mp4?sign=s3cret"])]
    monkeypatch.setattr(_Web, "busy", True)
    waited_s = []
    with Spool(10**7) as spool:
        for entry, retry_s in zip(found, (0.5, 60.0), strict=True):
            assert isinstance(entry, Source)
            monkeypatch.setattr(retry, "RETRY_S", retry_s)
            began = time.monotonic()
            with pytest.raises(SourceError, match=r"cannot be read \(got 503\): the server is overloaded"):
                spool.get(entry)
            waited_s.append(time.monotonic() - began)
        monkeypatch.setattr(_Web, "busy", False)
        assert isinstance(found[1], Source)
        assert spool.get(found[1]).size_bytes == len(_Web.body)
    assert waited_s[0] >= 0.5
    assert waited_s[1] < 20


def test_a_server_that_is_away(web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has may well exist: beside others it is one that failed, alone it is the server's fault."""
    monkeypatch.setattr(retry, "RETRY_S", 0.1)
    away, local = f"http://127.0.0.1:{free_port()}/a.mp4?sign=s3cret", tmp_path / "b.mp4"
    local.write_bytes(b"x")
    [missing, there] = find([away, str(local)])
    assert isinstance(missing, Missing)
    assert (missing.error.code, type(there)) == ("transient", Source)
    told = f"{away.partition('?')[0]} cannot be reached: Connection refused"
    for inputs in ([away], [f"http://{web}/refused.mp4", away]):
        with pytest.raises(StorageError) as caught:
            find(inputs)
        assert (str(caught.value), caught.value.exit_code) == (told, 3)


def test_redirects_without_end_are_no_server_that_is_away(web: str, tmp_path: Path) -> None:
    """They are not waited for: RETRY_S is a minute here."""
    local, began = tmp_path / "b.mp4", time.monotonic()
    local.write_bytes(b"x")
    [missing, _] = find([f"http://{web}/circle.mp4?sign=s3cret", str(local)])
    assert isinstance(missing, Missing)
    assert missing.error.code == "missing"
    assert str(missing.error) == (
        f"http://{web}/circle.mp4 leads from one address to the next: "
        "check the address; some servers do so where one has to log in"
    )
    with pytest.raises(UsageError, match="leads from one address to the next"):
        find([f"http://{web}/circle.mp4"])
    assert time.monotonic() - began < 20


def test_two_addresses_of_one_name_are_refused(web: str) -> None:
    """As of a recorder that tells its clips apart behind `?`. With user and password it is the same file."""
    a, b = (f"http://{web}/download.mp4?sign=s3cret&clip={clip}" for clip in "ab")
    with pytest.raises(UsageError) as caught:
        find([a, b])
    assert str(caught.value) == (
        f"http://{web}/download.mp4 is named twice, by addresses that differ behind `?`: "
        "that is no part of a video's name: give one, or copy them to names of their own"
    )
    assert uris([a, a, a.replace("//", "//u:p@"), f"{a}#t=1"]) == [f"http://{web}/download.mp4"]


def test_a_server_without_ranges_costs_no_memory(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before it broke off is passed over, not kept."""
    monkeypatch.setattr(_Web, "body", bytes(64_000_000))
    monkeypatch.setattr(_Web, "breaks", 1)
    monkeypatch.setattr(_Web, "ranges", False)
    [found] = find([f"http://{web}/a.mp4?sign=s3cret"])
    assert isinstance(found, Source)
    with Spool(10**8) as spool:
        tracemalloc.start()
        try:
            copy = spool.get(found)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert copy.content_id == hashlib.sha256(_Web.body).hexdigest()[:32]
    assert peak < 16_000_000


def test_a_disk_that_others_fill_is_told(bucket: str, put: Any) -> None:
    [listed] = find([put("a.mp4", "x" * 100_000)])
    assert isinstance(listed, Source)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Spool(10**6) as spool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            with pytest.raises(SourceError, match=r"a\.mp4 cannot be copied to .*: File too large") as caught:
                spool.get(listed)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.code == "spool"


def test_secrets_are_not_told(web: str) -> None:
    with pytest.raises(UsageError) as caught:
        find([f"http://me:hidden@{web}/a.mp4?sign=wr0ng"])
    assert str(caught.value) == f"http://{web}/a.mp4 cannot be read (got 403): check the address"
