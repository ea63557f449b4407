"""The allow-list of a server, and addresses that are never asked, whatever names and redirects say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from flows.settings import files
from models.files import CheckpointError
from pipeline import allowed
from pipeline.config import load
from pipeline.errors import SourceError, UsageError
from pipeline.pool import pool
from pipeline.sources import Missing, find, web
from pipeline.weights import detector_path, weights_path
from tests.web import Quiet, serving


@pytest.mark.parametrize(
    "uri",
    [
        "s3://uploads/a/b.mp4",
        "s3://uploads",
        "s3://uploads/%2e%2e/b.mp4",  # a key, of which nothing is decoded
        "/footage/a.mp4",
        "/footage",
        "file:///footage/a%20b",
        "https://cams.example/x/1.mp4",
        "https://cams.example/x/%C3%A4.mp4?a=/../b",
    ],
)
def test_below_a_prefix(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(allowed.VARIABLE, "s3://uploads/ /footage https://cams.example/x/")
    allowed.check(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://uploads-of-others/a.mp4",
        "s3://uploads/../other/a.mp4",
        "/footage/../etc/passwd",
        "/etc/passwd",
        "file:///etc/passwd",
        "file://elsewhere/footage/a.mp4",
        "https://cams.example.evil/x/1.mp4",
        "https://user:word@cams.example/x/1.mp4",
        "http://169.254.169.254/latest/meta-data",
        "https://cams.example/x/%2e%2e/1.mp4",
        "https://cams.example/x/..%2f1.mp4",
        "https://cams.example/x/%252E%252e/1.mp4",
        "https://cams.example/x/..%5c1.mp4",
    ],
)
def test_not_below_a_prefix(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(allowed.VARIABLE, "s3://uploads/ /footage https://cams.example/x/")
    with pytest.raises(UsageError, match="may not be used here: MAREY_ALLOWED lists what may") as caught:
        allowed.check(uri)
    assert "word" not in str(caught.value)


def test_one_address_is_allowed_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "https://hooks.example/T/word?key=word"
    monkeypatch.setenv(allowed.VARIABLE, allowed.setting(["/footage", allowed.sealed(address)]))
    allowed.check(address)
    for other in ("https://hooks.example/T/word", f"{address}/x", allowed.sealed(address)):
        with pytest.raises(UsageError, match="may not be used here"):
            allowed.check(other)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (tmp_path / "in" / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    monkeypatch.setenv(allowed.VARIABLE, str(tmp_path / "in"))
    with pytest.raises(UsageError):
        allowed.check(str(tmp_path / "in" / "link.mp4"))


@pytest.mark.parametrize("name", ["lake/../secret", "lake/%2e%2e/secret", "lake/link"])
def test_file_uris_lead_where_they_lead(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "link").symlink_to(tmp_path)
    monkeypatch.setenv(allowed.VARIABLE, f"file://{tmp_path}/lake")
    allowed.check(f"file://{tmp_path}/lake/tables")
    with pytest.raises(UsageError, match="may not be used here"):
        allowed.check(f"file://{tmp_path}/{name}")


@pytest.mark.parametrize("uri", ["https://user:word@[x/1.mp4", "~nosuchuser/x.mp4", "/footage/loop/x.mp4"])
def test_what_cannot_be_read_is_refused(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setenv(allowed.VARIABLE, "/nowhere https://user.example/")
    with pytest.raises(UsageError, match="may not be used here") as caught:
        allowed.check(uri.replace("/footage", str(tmp_path)))
    assert "word" not in str(caught.value)


def test_a_prefix_may_hold_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And allows itself only: neither its first word nor its last."""
    footage, lake = tmp_path / "My Footage", "s3://archive/the lake"
    monkeypatch.setenv(allowed.VARIABLE, allowed.setting([str(footage), lake]))
    allowed.check(str(footage / "a.mp4"))
    allowed.check(f"{lake}/videos")
    for uri in (
        tmp_path / "My",
        tmp_path / "My" / "a.mp4",
        Path("Footage"),
        Path.cwd() / "Footage" / "a.mp4",
    ):
        with pytest.raises(UsageError):
            allowed.check(str(uri))
    with pytest.raises(UsageError):
        allowed.check("s3://archive/the")


def test_prefixes_without_spaces_are_written_as_ever() -> None:
    assert allowed.setting(["s3://uploads/", "/footage"]) == "s3://uploads/ /footage"


@pytest.mark.parametrize("text", ['["/a"', "[1]", '[""]', '["/a"] /b'])
def test_a_list_that_is_none_allows_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(allowed.VARIABLE, text)
    with pytest.raises(UsageError, match="MAREY_ALLOWED is no JSON list of prefixes"):
        allowed.check("/a")


def test_everything_may_be_named_at_ones_own_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(allowed.VARIABLE, raising=False)
    allowed.check("/etc/passwd")


@pytest.mark.parametrize(
    ("address", "forbidden"),
    [
        ("169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("::ffff:169.254.169.254", True),
        ("fd00:ec2::254", True),
        ("100.100.100.200", True),
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("not-an-address", False),
    ],
)
def test_metadata_addresses(address: str, forbidden: bool) -> None:
    assert allowed.is_forbidden_address(address) is forbidden


@pytest.fixture
def redirecting() -> Iterator[str]:
    """A server that sends everybody elsewhere on itself."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "/elsewhere/secret.mp4")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler) as address:
        yield address


def test_redirects_are_held_to_the_list(redirecting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(allowed.VARIABLE, f"{redirecting}/videos/")
    found = web.look(f"{redirecting}/videos/1.mp4")
    assert isinstance(found, Missing)
    assert found.error.code == "forbidden"
    assert "/elsewhere/secret.mp4 may not be used here" in str(found.error)


def test_a_name_that_resolves_to_a_forbidden_address(
    redirecting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is whom the connection reached; here the loopback stands for a metadata service."""
    monkeypatch.setattr(allowed, "_METADATA", frozenset({"127.0.0.1"}))
    web._pool.cache_clear()
    address = redirecting.replace("127.0.0.1", "localhost")
    with pytest.raises((UsageError, SourceError), match=r"may not be asked: 127\.0\.0\.1 is link-local"):
        find([f"{address}/1.mp4"])
    web._pool.cache_clear()


def test_weights_are_fetched_through_the_same_connections(
    redirecting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAREY_CACHE", str(tmp_path / "cache"))
    name = f"{redirecting}/ok/w.safetensors?key=word#sha256={64 * '0'}"
    for entry in (f"{redirecting}/ok/", allowed.sealed(name.partition("#")[0])):
        monkeypatch.setenv(allowed.VARIABLE, entry)
        with pytest.raises(CheckpointError, match=r"fetched: .*/elsewhere/secret\.mp4 may not be used") as no:
            weights_path(name)
        assert "word" not in str(no.value)
    monkeypatch.delenv(allowed.VARIABLE)
    monkeypatch.setattr(allowed, "_METADATA", frozenset({"127.0.0.1"}))
    pool.cache_clear()
    with pytest.raises(CheckpointError, match=r"may not be fetched: 127\.0\.0\.1 is link-local"):
        weights_path(name)
    pool.cache_clear()
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


@pytest.mark.parametrize("query", ["", "?key=a.b/word"])
def test_a_detector_that_is_allowed_comes_with_its_description(
    query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `marey deploy` lists what a config names."""
    (tmp_path / "my.x.onnx").write_bytes(b"network")
    (tmp_path / "my.x.toml").write_bytes(b"words")
    monkeypatch.setenv("MAREY_CACHE", str(tmp_path / "cache"))
    with serving(partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as address:
        name = f"{address}/my.x.onnx{query}#sha256={hashlib.sha256(b'network').hexdigest()}"
        named = files(load(None, {"perceive.detector": name}))
        monkeypatch.setenv(allowed.VARIABLE, allowed.setting([allowed.sealed(uri) for uri in named]))
        assert detector_path(name).with_suffix(".toml").read_bytes() == b"words"
