"""What a lake needs of its place, on a directory and on S3; what is refused, and how that is said."""

from __future__ import annotations

import errno
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from botocore.exceptions import ClientError
from deltalake import DeltaTable

from pipeline import s3
from pipeline.errors import ConflictError, StorageError, TransientError, UsageError
from pipeline.lake.location import Location
from pipeline.lake.query import query
from pipeline.lake.tables import Lake
from pipeline.lake.views import views
from pipeline.retry import contended
from tests.helpers import ROOT
from tests.lake.build import analyse, sample_lake
from tests.s3 import Server


def test_files(place: str) -> None:
    here = Location.parse(place)
    here.make()
    assert (here.read("a/b.bin"), here.names("a"), here.names("")) == (None, [], [])
    assert here.create("a/b.bin", b"first")
    assert not here.create("a/b.bin", b"second")
    assert here.create("a/c/d.bin", b"")
    assert (here.read("a/b.bin"), here.read("a/c/d.bin")) == (b"first", b"")
    assert here.names("a") == ["b.bin", "c/d.bin"]
    assert here.names("") == ["a/b.bin", "a/c/d.bin"]
    here.remove("a/b.bin")
    here.remove("a/b.bin")
    here.remove_folder("a")
    assert here.names("a") == []
    assert here.create("a/b.bin", b"again")


@pytest.mark.parametrize(
    ("number", "named"), [(errno.EPERM, True), (errno.ENOTSUP, True), (errno.ENOSPC, False)]
)
def test_a_file_system_without_hard_links_is_named(
    number: int, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As exFAT on most external disks: deltalake says of it that something is not permitted."""

    def refuse(*names: str) -> None:
        raise OSError(number, os.strerror(number))

    here, said = Location.parse(tmp_path), "Unable to rename file"
    assert str(here.failure("lake cannot be made", OSError(said))) == f"lake cannot be made: {said}"
    monkeypatch.setattr(os, "link", refuse)
    assert str(here.failure("events cannot be read", OSError(said))) == f"events cannot be read: {said}"
    told = str(here.failure("lake cannot be made", OSError(said)))
    assert ("its file system has no hard links" in told) == named
    assert (said in told) != named
    assert list(tmp_path.iterdir()) == []


def test_files_are_listed_while_folders_come_and_go(tmp_path: Path) -> None:
    """As those of staged segments do, beside a compaction."""
    location, stop = Location.parse(tmp_path), threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for number in range(50):
                (tmp_path / "_staging" / str(number)).mkdir()
            for number in range(50):
                (tmp_path / "_staging" / str(number)).rmdir()

    location.create("_staging/ff/0-9.parquet", b"")
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(500):
            assert "ff/0-9.parquet" in location.names("_staging")
    finally:
        stop.set()
        thread.join()


def test_there_is_a_lake_or_not(place: str) -> None:
    here = Location.parse(place)
    assert not here.exists()
    assert not Lake(here).is_made()
    with pytest.raises(UsageError, match="there is no lake at"):
        Lake.open(place, create=False)
    Lake.open(place)
    assert here.exists()
    assert Lake(here).is_made()
    assert Lake.open(place, create=False).table("events").version() == 0


def test_the_same_lake_on_both(tmp_path: Path, s3_server: Server) -> None:
    """The sample lake of all other tests, and what is current in it."""
    sample_lake(tmp_path / "lake")
    bucket = sample_lake(f"s3://{s3_server.bucket()}/some/prefix")
    for name in ("videos", "tracks", "events", "events_all"):
        sql = f"SELECT * FROM {name} ORDER BY video_id"
        columns = [c for c in query(tmp_path / "lake", sql).schema.names if c not in ("run_id", "seen_at")]
        local, remote = (
            query(where, sql).select(columns).to_pylist()
            for where in (tmp_path / "lake", str(bucket.location))
        )
        assert sorted(map(repr, remote)) == sorted(map(repr, local))
        assert local


def _create(arguments: tuple[str, int]) -> bool:
    place, number = arguments
    return Location.parse(place).create("a/segment", str(number).encode())


def test_of_many_that_create_a_file_one_succeeds(place: str) -> None:
    Location.parse(place).make()
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.map(_create, [(place, number) for number in range(12)], chunksize=1)
    assert won.count(True) == 1
    assert Location.parse(place).read("a/segment") == str(won.index(True)).encode()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://bucket-a", "a lake needs a prefix of its own"),
        ("s3://bucket-a/", "a lake needs a prefix of its own"),
        ("s3://bucket-a/a b", "a lake's prefix .*a b.*: use letters"),
        ("s3://bucket-a/a/../b", "a lake's prefix"),
        ("s3://bucket-a/50%", "a lake's prefix"),
        ("s3://a/b", "no bucket of that name can exist"),
        ("s3:///b", "no bucket of that name can exist"),
        ("gs://bucket/b", "a lake is a directory or s3://bucket/prefix"),
    ],
)
def test_uris_that_are_no_place(uri: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Location.parse(uri)


def test_a_server_that_ignores_if_none_match_is_refused(
    s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"s3://{s3_server.bucket()}/lake"

    def strip(params: dict[str, Any], **_: object) -> None:
        params["headers"].pop("If-None-Match", None)

    s3.client().meta.events.register("before-call.s3.PutObject", strip)
    with pytest.raises(StorageError, match=r"ignores If-None-Match.*conditional_put = false"):
        Lake.open(uri)
    assert Location.parse(uri).names("") == []
    assert Lake.open(uri, conditional_put=False).table("videos").version() == 0


def test_errors_in_one_line(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3_server.bucket()

    def said(uri: str = f"s3://{bucket}/lake", **settings: str) -> str:
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            s3.forget()
            with pytest.raises(StorageError) as caught:
                Lake.open(uri)
        s3.forget()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert said("s3://no-such-bucket/lake") == "bucket no-such-bucket: the bucket does not exist"
    assert "no usable credentials" in said(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert "no usable credentials" in said(AWS_PROFILE="nobody")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound, and nothing listens
        monkeypatch.setattr(s3, "ATTEMPTS", 2)
        monkeypatch.setattr("pipeline.retry.RETRY_S", 0.1)
        port = silent.getsockname()[1]
        assert "cannot be reached" in said(AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
    assert said(AWS_ENDPOINT_URL="localhost") == "S3: Invalid endpoint: localhost"


@pytest.mark.parametrize(
    ("code", "status", "reason", "transient"),
    [
        ("AccessDenied", 403, "access is denied", False),
        ("ExpiredToken", 400, "the credentials have expired", False),
        ("SignatureDoesNotMatch", 403, "the secret key does not fit", False),
        ("PermanentRedirect", 301, "the bucket is in another region: set AWS_REGION", False),
        ("AuthorizationHeaderMalformed", 400, "the bucket is in another region", False),
        ("SlowDown", 503, "the server is overloaded", True),
        ("TooManyRequests", 429, "the server is overloaded", True),
        ("429", 429, "the server is overloaded", True),  # to a HEAD, which has no body
        ("InternalError", 500, "the server failed", True),
        ("OperationAborted", 409, "others keep writing the same object", True),
        ("NewError", 400, "of some kind", False),
    ],
)
def test_what_servers_answer(code: str, status: int, reason: str, transient: bool) -> None:
    answer = {
        "Error": {"Code": code, "Message": "of some kind"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    with pytest.raises(StorageError, match=f"it: {reason}") as caught, s3.errors("it"):
        raise ClientError(answer, "PutObject")  # type: ignore[arg-type]
    assert isinstance(caught.value, TransientError) is transient
    told = (
        "Generic S3 error\n \x1b[31m↳\x1b[0m Server returned non-2xx status code\n "
        f"\x1b[31m↳\x1b[0m {status} Of Some Kind\n <Error><Code>{code}</Code></Error>"
    )
    if code != "NewError":
        assert str(s3.failure("it", told)).startswith(f"it: {reason}")


ALONE = """
import sys
from pipeline.lake.query import query
assert query(sys.argv[1], "SELECT count(*) AS n FROM tracks")["n"].to_pylist() == [140]
print(sorted({"boto3", "botocore", "pydantic"} & set(sys.modules)))
"""


def test_a_query_loads_no_boto3(s3_server: Server) -> None:
    """Nor the config: half of the time of a short query was their loading."""
    lake = sample_lake(f"s3://{s3_server.bucket()}/lake")
    command = [sys.executable, "-c", ALONE, str(lake.location)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_failed_check_point_is_tried_again() -> None:
    """What was committed before it is found by whoever tries again."""
    told = "Kernel error: File already exists: lake/detections/_delta_log/_last_checkpoint"
    assert isinstance(s3.failure("it", told), TransientError)


def test_a_query_says_what_is_wrong_with_the_bucket(s3_server: Server) -> None:
    with pytest.raises(StorageError, match="bucket no-such-bucket: the bucket does not exist"):
        query("s3://no-such-bucket/lake", "SELECT 1")
    with pytest.raises(UsageError, match="there is no lake at s3://"):
        query(f"s3://{s3_server.bucket()}/lake", "SELECT 1")


def test_what_deltalake_says_is_made_plain(s3_server: Server) -> None:
    uri = f"s3://{s3_server.bucket()}/lake"
    lake = Lake.open(uri)
    s3_server.client().delete_object(
        Bucket=uri.split("/")[2], Key="lake/events/_delta_log/00000000000000000000.json"
    )
    with pytest.raises(UsageError, match="is not a lake"):
        lake.table("events")


def test_settings_come_from_profiles(
    tmp_path: Path, s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One profile with endpoint and keys is enough, for boto3 and for deltalake."""
    uri = f"s3://{s3_server.bucket()}/lake"
    (tmp_path / "config").write_text(
        f"[profile archive]\nregion = us-east-1\nendpoint_url = {s3_server.endpoint}\n"
        f"aws_access_key_id = {s3_server.key}\naws_secret_access_key = {s3_server.secret}\n"
    )
    for name in s3_server.settings:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "archive")
    s3.forget()
    Lake.open(uri)
    assert query(uri, "SELECT count(*) AS n FROM videos").to_pylist() == [{"n": 0}]
    s3.forget()


def test_a_stumbling_server_is_tried_again(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked may have been done or not; the rows are there once."""
    calls = []
    lake = Lake.open(place)
    write = Lake._write

    def stumbling(self: Lake, *args: Any) -> None:
        calls.append(len(calls))
        if len(calls) % 3 == 1:
            raise TransientError("nothing happened")
        write(self, *args)
        if len(calls) % 3 == 2:
            raise TransientError("it happened")

    monkeypatch.setattr(Lake, "_write", stumbling)
    analyse(lake, "v1")
    monkeypatch.setattr(Lake, "_write", write)
    assert len(calls) > 10
    for name, rows in (("frames", 20), ("detections", 40), ("tracks", 40), ("objects", 2), ("events", 2)):
        assert lake.table(name).count() == rows
    assert lake.table("analyses").count() == 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TransientError("the server is away"), "^the server is away$"),
        (ConflictError("another was first"), "^table frames is written by too many: try again$"),
    ],
)
def test_who_tried_for_a_minute_is_told_what_kept_it(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.retry.RETRY_S", 0.02)

    def call() -> None:
        raise error

    with pytest.raises(type(error), match=told):
        contended("table frames", call)


def test_other_engines_read_a_lake_on_s3(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polars and DuckDB by the printed views, pyarrow and pandas on the tables, all agree with `query`."""
    lake = sample_lake(f"s3://{s3_server.bucket()}/lake")
    uri = str(lake.location)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    sql = "SELECT video_id, count(*) AS n FROM tracks GROUP BY video_id ORDER BY video_id"
    expected = query(uri, sql).to_pylist()
    assert [row["n"] for row in expected] == [40, 60, 40]

    polars: dict[str, Any] = {}
    exec(views(uri, "polars"), polars)
    assert polars["marey"].execute(sql, eager=True).to_dicts() == expected
    duck: dict[str, Any] = {}
    exec(views(uri, "duckdb-python"), duck)
    assert duck["marey"].sql(sql).to_arrow_table().to_pylist() == expected

    runs = query(uri, "SELECT tracking_run_id FROM analyses_current")["tracking_run_id"].to_pylist()
    table = DeltaTable(lake.location.table("tracks"))  # by the environment alone
    current = table.to_pyarrow_dataset().to_table(filter=ds.field("run_id").isin(runs))
    counted = current.group_by("video_id").aggregate([("video_id", "count")]).sort_by("video_id").to_pylist()
    assert [{"video_id": row["video_id"], "n": row["video_id_count"]} for row in counted] == expected
    frame = table.to_pandas(filters=[("run_id", "in", runs)])
    assert frame.groupby("video_id").size().to_dict() == {row["video_id"]: row["n"] for row in expected}
    # Polars' own reader takes what stands before a `=` for a column.
    objects = s3_server.client()
    [bucket, _] = uri.removeprefix("s3://").split("/")
    for entry in objects.list_objects_v2(Bucket=bucket, Prefix="lake/")["Contents"]:
        key = entry["Key"]
        objects.copy_object(Bucket=bucket, Key=f"env=prod/{key}", CopySource=f"{bucket}/{key}")
    exec(views(f"s3://{bucket}/env=prod/lake", "polars"), polars)
    assert polars["marey"].execute(sql, eager=True).to_dicts() == expected
    for engine, start in {"spark": "s3a://", "athena": "s3://", "trino": "s3://", "duckdb": "s3://"}.items():
        assert f"{start}{uri.removeprefix('s3://')}/tracks" in views(uri, engine)
        assert s3_server.secret not in views(uri, engine)
