"""Videos on S3 into a lake on S3: the same rows as from local files, and nothing is read twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import retry
from pipeline.analyze import Options, analyze, reinterpret
from pipeline.analyze.plan import Planner, VideoPlan
from pipeline.config import LakeConfig
from pipeline.lake import Lake
from pipeline.lake.compact import compact
from pipeline.sources import Source, Spool
from tests.analyze.build import LONG_S, ask, config, counts, rows, write_clip
from tests.s3 import Server, refusing
from tests.web import Quiet, serving


@pytest.fixture
def archive(folder: Path, s3_server: Server) -> str:
    """Holds in/cam 1/long+ü.mp4 and in/short.mp4."""
    bucket = s3_server.bucket()
    for name, key in (("long.mp4", "in/cam 1/long+ü.mp4"), ("short.mp4", "in/short.mp4")):
        s3_server.client().put_object(Bucket=bucket, Key=key, Body=(folder / name).read_bytes())
    return bucket


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The inputs whose bytes were read."""
    found: list[str] = []
    fetch = Spool._fetch
    monkeypatch.setattr(Spool, "_fetch", lambda self, s: found.append(s.uri) or fetch(self, s))  # type: ignore[func-returns-value]
    return found


def test_from_s3_to_s3(folder: Path, archive: str, whole: Path, s3_server: Server, reads: list[str]) -> None:
    lake, top = f"s3://{archive}/lake", f"s3://{archive}/in/"
    settings = config(folder, run__segment_s=7, run__decoders=2)
    [one, two] = analyze([top], lake, settings, Options(dry_run=True)).results
    assert (one.state, two.state, reads) == ("planned", "planned", [])
    assert not Lake.open(f"s3://{archive}/other").location.names("in")

    summary = analyze([top], lake, settings)
    assert [result.state for result in summary.results] == ["ok", "ok"]
    long, short = f"{top}cam 1/long+ü.mp4", f"{top}short.mp4"
    assert sorted(reads) == [long, short]
    [video] = [row["video_id"] for row in ask(lake, f"SELECT video_id FROM videos WHERE uri = '{long}'")]
    assert rows(lake, video=video) == rows(whole)
    assert Lake.open(lake).location.names("_staging") == []

    before = counts(lake)
    reads.clear()
    assert {r.state for r in analyze([top], lake, settings).results} == {"current"}
    assert (counts(lake), reads) == (before, [])

    # The same bytes again: another version to S3, none to us. Other bytes under the old name are new.
    client = s3_server.client()
    client.put_object(Bucket=archive, Key="in/copy.mp4", Body=(folder / "long.mp4").read_bytes())
    client.put_object(Bucket=archive, Key="in/short.mp4", Body=(folder / "long.mp4").read_bytes())
    states = {r.uri: (r.state, r.note) for r in analyze([top], lake, settings).results}
    assert states[long] == ("current", "")
    assert states[f"{top}copy.mp4"] == ("current", "")
    assert states[short] == ("current", "")
    assert sorted(reads) == [f"{top}copy.mp4", short]
    assert {row["uri"] for row in ask(lake, f"SELECT uri FROM videos WHERE video_id = '{video}'")} == {
        long,
        short,
        f"{top}copy.mp4",
    }

    reads.clear()
    other = config(folder, rules=[])
    assert {r.note for r in reinterpret(lake, other).results} == {"events anew"}
    assert reads == []


def test_copies_of_videos_at_work_fit_the_spool(folder: Path, archive: str, s3_server: Server) -> None:
    """Room for one and a half: the next waits until the first is decoded, and nothing hangs."""
    sizes = [(folder / name).stat().st_size for name in ("long.mp4", "short.mp4")]
    room = max(sizes) + min(sizes) // 2
    settings = config(folder, run__decoders=2, run__max_spool_gb=room / 1e9)
    summary = analyze([f"s3://{archive}/in"], f"s3://{archive}/lake", settings)
    assert [result.state for result in summary.results] == ["ok", "ok"]
    small = config(folder, run__max_spool_gb=(max(sizes) - 1) / 1e9)
    states = {r.uri: r for r in analyze([f"s3://{archive}/in"], f"s3://{archive}/small", small).results}
    failed = states[f"s3://{archive}/in/cam 1/long+ü.mp4"]
    assert (failed.state, failed.error_code) == ("failed", "spool")
    assert states[f"s3://{archive}/in/short.mp4"].state == "ok"


def test_an_old_copy_of_an_object_does_not_replace_its_new_version(
    folder: Path, archive: str, s3_server: Server, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between copy and plan of one worker the object is replaced, and another analyses the new bytes."""
    uri, settings, get = f"s3://{archive}/in/short.mp4", config(folder), Spool.get
    new = (folder / "long.mp4").read_bytes()
    others: list[str] = []

    def late(self: Spool, source: Source) -> Source:
        copy = get(self, source)
        monkeypatch.setattr(Spool, "get", get)
        s3_server.client().put_object(Bucket=archive, Key="in/short.mp4", Body=new)
        others.extend(result.state for result in analyze([uri], str(lake), settings).results)
        return copy

    monkeypatch.setattr(Spool, "get", late)
    analyze([uri], str(lake), settings)
    assert others == ["ok"]
    [newest] = ask(lake, "SELECT etag, size_bytes FROM videos")
    assert newest["size_bytes"] == len(new)
    compact(str(lake), LakeConfig(history_days=0, grace_h=0))
    assert len(rows(lake, "_all")["frames"]) == 10 * LONG_S
    assert [result.state for result in analyze([uri], str(lake), settings).results] == ["current"]


def test_a_damaged_object_is_named_by_its_key(
    folder: Path, archive: str, s3_server: Server, lake: Path
) -> None:
    s3_server.client().put_object(Bucket=archive, Key="in/broken.mp4", Body=b"no video at all")
    uri = f"s3://{archive}/in/broken.mp4"
    [result] = analyze([uri], str(lake), config(folder)).results
    assert (result.state, result.error_code) == ("failed", "media_format")
    assert uri in (result.error or "")
    assert "marey-spool" not in (result.error or "")
    assert [row["error"] for row in ask(lake, "SELECT error FROM analyses WHERE status = 'failed'")] == [
        result.error
    ]


def test_inputs_that_cannot_be_read_cost_themselves_only(
    folder: Path, archive: str, s3_server: Server, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose encryption key is disabled, and one of a web server that says how long it is and no more."""
    monkeypatch.setattr(retry, "RETRY_S", 0.2)
    client = s3_server.client()
    client.put_object(Bucket=archive, Key="x/locked.mp4", Body=b"x")
    local = str(folder / "long.mp4")
    with refusing(s3_server, {"locked": (400, "KMS.DisabledException")}) as server, stumbling() as web:
        server.use(monkeypatch.setenv)
        summary = analyze([f"{web}/a.mp4", f"s3://{archive}/x/", local], str(lake), config(folder))
    assert summary.exit_code() == 1
    assert [(r.uri, r.state, r.error_code) for r in summary.results] == [
        (f"{web}/a.mp4", "failed", "transient"),
        (f"s3://{archive}/x/locked.mp4", "failed", "unreadable"),
        (local, "ok", None),
    ]


@contextmanager
def stumbling() -> Iterator[str]:
    """A web server that answers who asks for one byte, and 503 who asks for more."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            probed = self.headers.get("Range") == "bytes=0-0"
            self.send_response(206 if probed else 503)
            self.send_header("Content-Length", str(int(probed)))
            self.send_header("Content-Range", "bytes 0-0/1000")
            self.end_headers()
            self.wfile.write(b"x" * probed)

    with serving(Handler) as address:
        yield address


def test_rows_that_go_before_they_are_taken(
    folder: Path, tmp_path: Path, s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker replaces the perception that was to be taken over: then the video itself is read."""
    bucket, lake = s3_server.bucket(), str(tmp_path / "lake")
    clip = write_clip(tmp_path / "clip.mp4", 1).read_bytes()
    s3_server.client().put_object(Bucket=bucket, Key="cam/20250301.mp4", Body=clip)
    uri = f"s3://{bucket}/cam/20250301.mp4"
    assert [r.state for r in analyze([uri], lake, config(folder)).results] == ["ok"]
    plan, other = Planner.plan, config(folder, perceive__min_score=0.5)
    upgraded: list[str] = []

    def late(self: Planner, source: Source) -> VideoPlan | None:
        if not upgraded:
            upgraded.append(uri)
            upgraded.extend(r.state for r in analyze([uri], lake, other, Options(upgrade=True)).results)
        return plan(self, source)

    monkeypatch.setattr(Planner, "plan", late)
    renamed = config(folder, cameras=[{"pattern": "{camera}/{recorded_at:%Y%m%d}"}])
    [result] = analyze([uri], lake, renamed, Options(upgrade=True)).results
    assert upgraded == [uri, "ok"]
    assert (result.state, result.error, result.note) == ("ok", None, "")
