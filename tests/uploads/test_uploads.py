"""Uploads as queues announce them and listings show them; the queue and the bucket are moto's."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest

from pipeline import s3, sqs
from pipeline.analyze import analyze
from pipeline.cli.serve import _analyze_here
from pipeline.config import Config
from pipeline.errors import StorageError, TransientError, UsageError
from pipeline.lake import Lake
from pipeline.lake.commit import Ending, commit, start_attempts
from pipeline.lake.lookup import LOST
from pipeline.lake.records import analyses_table, names_table
from pipeline.sources import Source, bucket, find
from pipeline.sqs import Queue
from pipeline.uploads import Todo, judge, sweep_once, todo, watch_queue, watch_sweep
from pipeline.uploads import watch as watching
from pipeline.uploads.notices import created
from pipeline.uploads.sweep import Sweeper, is_being_written
from tests.analyze.build import config, prepared
from tests.helpers import ROOT
from tests.lake.build import analyse, finished, name_of, running
from tests.s3 import Server, faulty, num_requests, refusing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.getbasetemp() / "prepared-uploads")


def notice(name: str, key: str, event: str = "ObjectCreated:Put") -> str:
    record = {"eventName": event, "s3": {"bucket": {"name": name}, "object": {"key": quote_plus(key)}}}
    return json.dumps({"Records": [record]})


def test_messages_of_buckets() -> None:
    key = "gate 1/räume+höfe%41.mp4"
    uri = f"s3://up/{key}"
    assert created(notice("up", key)) == [uri]
    assert created(notice("up", key, "s3:ObjectCreated:CompleteMultipartUpload")) == [uri]
    assert created(json.dumps({"Type": "Notification", "Message": notice("up", key)})) == [uri]
    bridge = {"source": "aws.s3", "detail-type": "Object Created"}
    assert created(json.dumps(bridge | {"detail": {"bucket": {"name": "up"}, "object": {"key": key}}})) == [
        uri
    ]
    assert created(notice("up", key, "ObjectRemoved:Delete")) == []
    assert created('{"Service": "Amazon S3", "Event": "s3:TestEvent"}') == []


def half_a_letter() -> str:
    """A message about a key that no bucket can hold."""
    return notice("up", "a%s.mp4").replace("%25s", "\\ud800")


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", '{"Records": [{}]}', '{"Records": 3}', '"text"', "null", "[" * 100_000, half_a_letter()],
)
def test_what_is_no_message(body: str) -> None:
    with pytest.raises(ValueError, match="not a message of a bucket"):
        created(body)


def test_what_the_lake_says(folder: Path, tmp_path: Path) -> None:
    lake = str(tmp_path / "lake")
    video = shutil.copy(folder / "short.mp4", tmp_path / "a.mp4")
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(b"no video at all")
    first = sweep_once([str(tmp_path)], lake)
    assert [Path(item.uri).name for item in first] == ["a.mp4", "torn.mp4"]
    assert sweep_once([str(tmp_path)], lake) == first  # keys stay

    analyze([str(video), str(torn)], lake, config(folder))
    assert sweep_once([str(tmp_path)], lake) == []  # neither results nor failures are done again
    shutil.copy(folder / "long.mp4", video)
    [again] = sweep_once([str(tmp_path)], lake)
    assert again.key != first[0].key  # another version
    # An attempt that is under way has the key of its run, which is given back to who submits the video again.
    opened = Lake.open(lake)
    start_attempts(opened, [running("f" * 32, uri=again.uri)])
    assert sweep_once([str(tmp_path)], lake) == [again]
    # One that has ended makes another key, or Prefect would give back runs that are over.
    ends = (
        ("abandoned", "interrupted"),
        ("failed", "changed"),
        ("failed", "unreadable"),
        ("crashed", "bug"),
        ("abandoned", LOST),
    )
    for status, code in ends:
        [attempt] = start_attempts(opened, [running("f" * 32, uri=again.uri)])
        commit(opened, [Ending(analysis=attempt.ended(status=status, error_code=code))])
        before, [again] = again.key, sweep_once([str(tmp_path)], lake)
        assert again.key != before, status


def test_a_version_without_etag_and_a_failure_with_a_try_after_it(tmp_path: Path) -> None:
    """As on a web server that names none; and as after `--retry-failed` that was interrupted."""
    lake, uri = Lake.open(tmp_path), "https://cams.example/a.mp4"
    analyse(lake, "v1", uri=uri, rows={}, name={"etag": None, "size_bytes": 1000})
    source = Source(uri, None, 1000, datetime.now(UTC), None)
    assert todo(str(tmp_path), [source]) == []
    assert len(todo(str(tmp_path), [replace(source, size_bytes=1001)])) == 1

    other = replace(source, uri="https://cams.example/b.mp4")
    for status, code, undone in (("failed", "media_format", 0), ("abandoned", "interrupted", 1)):
        [attempt] = start_attempts(lake, [running("v2", uri=other.uri)])
        name = name_of(attempt, etag=None)
        commit(lake, [Ending(analysis=attempt.ended(status=status, error_code=code), names=(name,))])
        assert len(todo(str(tmp_path), [other])) == undone, status


def test_a_failure_is_one_under_every_name(tmp_path: Path) -> None:
    """Two recorders that wrote nothing, and a copy of a damaged file: no name is submitted for ever."""
    lake, folder = str(tmp_path / "lake"), tmp_path / "in"
    folder.mkdir()
    for name, data in (("a.mp4", b""), ("b.mp4", b""), ("c.mp4", b"torn"), ("d.mp4", b"torn")):
        (folder / name).write_bytes(data)
    found = sweep_once([str(folder)], lake)
    assert len(found) == 4
    results = analyze([item.uri for item in found], lake, Config()).results
    assert [result.state for result in results] == ["failed"] * 4
    assert sweep_once([str(folder)], lake) == []


def test_memory_does_not_grow_with_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep lists all names that there are, and nearly all of them are done."""
    lake, day = Lake.open(str(tmp_path / "lake")), datetime(2025, 3, 1, tzinfo=UTC)
    begun = [replace(running(f"v{number}"), revision=1) for number in range(600)]
    ended = [replace(finished(row), revision=2) for row in begun[2:]]
    lake.append("analyses", analyses_table([*begun, *ended]))
    lake.append("videos", names_table([name_of(row) for row in begun]))
    sources = [Source(row.uri, None, 1000, day, "1") for row in begun]

    def judged(some: Sequence[Source] = sources) -> tuple[list[Todo], int]:
        tracemalloc.start()
        found = todo(str(tmp_path / "lake"), some)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found, peak

    judged(sources[:1])  # loads what it needs
    whole, most = judged()
    assert [item.source for item in whole] == sources[:2]
    monkeypatch.setattr(judge, "_BLOCK", 120)
    parts, less = judged()
    assert parts == whole
    assert less < most / 2


class Place:
    """A bucket with its queue and dead-letter queue."""

    def __init__(self, server: Server) -> None:
        self.bucket, self.s3 = server.bucket(), server.client()
        keys = {"aws_access_key_id": server.key, "aws_secret_access_key": server.secret}
        self.sqs = boto3.client("sqs", endpoint_url=server.endpoint, region_name="us-east-1", **keys)
        self.dead = self.sqs.create_queue(QueueName=f"{self.bucket}-dead")["QueueUrl"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])
        policy = {"deadLetterTargetArn": found["Attributes"]["QueueArn"], "maxReceiveCount": "50"}
        self.url = self.sqs.create_queue(
            QueueName=self.bucket, Attributes={"RedrivePolicy": json.dumps(policy)}
        )["QueueUrl"]

    def put(self, key: str, data: bytes = b"x", message: str | None = None) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)
        self.sqs.send_message(QueueUrl=self.url, MessageBody=message or notice(self.bucket, key))

    def left(self) -> int:
        asked = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=asked)["Attributes"]
        return sum(map(int, found.values()))


@pytest.fixture
def site(s3_server: Server) -> Place:
    return Place(s3_server)


def run(site: Place, submit: Any, rounds: int = 3, said: list[str] | None = None) -> None:
    left = iter([True] * rounds + [False])
    prefix = f"s3://{site.bucket}/up/"
    lines = said if said is not None else []
    watch_queue(
        prefix,
        f"s3://{site.bucket}/up/lake",
        Queue(site.url),
        submit,
        lines.append,
        more=lambda: next(left),
        wait_s=0,
    )


def test_queue(site: Place) -> None:
    """Videos below the prefix are submitted, the rest is ignored, and all messages are deleted."""
    twice = json.loads(notice(site.bucket, "up/gate 1.mp4"))["Records"] * 2
    site.put("up/gate 1.mp4", message=json.dumps({"Records": twice}))
    site.put("up/lakeside.mp4")
    site.put("up/notes.txt")
    site.put("other/gate.mp4")
    site.put("up/lake/clips/own.mp4")
    site.put("up/gone.mp4")
    site.s3.delete_object(Bucket=site.bucket, Key="up/gone.mp4")
    got: list[str] = []
    run(site, lambda items: got.extend(item.uri for item in items))
    assert sorted(got) == [f"s3://{site.bucket}/up/{name}.mp4" for name in ("gate 1", "lakeside")]
    assert site.left() == 0


def test_uploads_that_come_together_are_submitted_together(site: Place) -> None:
    """Also where one of their messages is none."""
    for number in range(4):
        site.put(f"up/{number}.mp4")
    got: list[list[str]] = []
    run(site, lambda items: got.append([item.uri for item in items]), rounds=1)
    assert [sorted(uris) for uris in got] == [[f"s3://{site.bucket}/up/{n}.mp4" for n in range(4)]]
    site.put("up/4.mp4", message="what is this")
    site.put("up/5.mp4")
    got.clear()
    run(site, lambda items: got.append([item.uri for item in items]), rounds=1)
    assert got == [[f"s3://{site.bucket}/up/5.mp4"]]
    assert site.left() == 1


def test_a_lake_is_opened_once_for_all_messages(
    site: Place, s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables were opened three times for each upload, which is most of what a queue cost on S3."""
    with faulty(s3_server, seed=1, rate=0) as proxy:
        proxy.use(monkeypatch.setenv)
        analyse(Lake.open(f"s3://{site.bucket}/up/lake"), "v1")
        asked: list[int] = []

        def submit(items: Sequence[Todo]) -> None:
            asked.append(num_requests(proxy))
            if len(asked) < 4:
                site.put(f"up/{len(asked)}.mp4")

        site.put("up/0.mp4")
        run(site, submit, rounds=4)
    steps = [after - before for before, after in itertools.pairwise(asked)]
    assert max(steps) < 20


def test_objects_that_a_bucket_listed_are_not_asked_for_one_by_one(site: Place, tmp_path: Path) -> None:
    for number in range(12):
        site.put(f"up/{number}.mp4", b"no video %d" % number)
    items, asked = sweep_once([f"s3://{site.bucket}/up/"], str(tmp_path / "lake")), Counter[str]()

    def count(model: Any, **_: Any) -> None:
        asked[model.name] += 1

    s3.client().meta.events.register("before-call.s3", count)
    try:
        assert _analyze_here(items, lake=str(tmp_path / "lake"), config=Config()) == 1
    finally:
        s3.client().meta.events.unregister("before-call.s3", count)
    assert asked == {"GetObject": len(items)} == {"GetObject": 12}


def test_what_a_source_names(site: Place) -> None:
    """A prefix ends at a slash, and a pattern matches, as where the bucket is listed."""
    top, lake = f"s3://{site.bucket}", f"s3://{site.bucket}/lake"
    for source, keys in (
        (top, ["a.mp4", "up/a.mp4", "up2/a.mp4"]),
        (f"{top}/up", ["up/a.mp4"]),
        (f"{top}/up/", ["up/a.mp4"]),
        (f"{top}/up*/*.mp4", ["up/a.mp4", "up2/a.mp4"]),
        (f"{top}/up*/", ["up/a.mp4", "up2/a.mp4"]),
        (f"{top}/u?", ["up/a.mp4"]),
        (f"{top}/up/a.mp4", ["up/a.mp4"]),
        (f"{top}/up/._a.mp4", ["up/._a.mp4"]),
        (f"{top}/.up", [".up/a.mp4"]),
    ):
        for key in ("a.mp4", "up/a.mp4", "up2/a.mp4", "up/._a.mp4", ".up/a.mp4"):
            site.put(key)
            assert watching.wanted(f"{top}/{key}", source, lake) == (key in keys), (source, key)
        assert [found.uri for found in find([source])] == [f"{top}/{key}" for key in keys]
    assert not watching.wanted("s3://no such bucket/a.mp4", f"{top}/up", lake)
    with pytest.raises(UsageError, match="no pattern of keys"):
        find([f"{top}/[z-a].mp4"])


def test_the_region_of_a_queue(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    s3.forget()
    for url, region in (
        ("http://127.0.0.1:9/1/uploads", "eu-west-1"),
        ("https://sqs.us-west-2.amazonaws.com/1/uploads", "us-west-2"),
    ):
        assert sqs._client(url).meta.region_name == region
        assert sqs._client(url) is sqs._client(url)


def test_a_message_waits_in_hand_for_a_server_that_starts_anew(
    site: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given back to the queue it would be hidden for five minutes."""
    monkeypatch.setattr(watching, "_PAUSE_S", 0.0)
    site.put("up/gate.mp4")
    tries = iter([TransientError("the server is away")] * 3)
    got: list[str] = []

    def back_after_three(items: Sequence[Todo]) -> None:
        for error in tries:
            raise error
        got.extend(item.uri for item in items)

    run(site, back_after_three, rounds=1)
    assert len(got) == 1 and site.left() == 0


def test_a_message_is_deleted_only_after_the_submission_answered(
    site: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_PAUSE_S", 0.0)
    monkeypatch.setattr(watching, "_HELD_S", -1.0)
    site.put("up/gate.mp4")
    said: list[str] = []

    def away(_: Sequence[Todo]) -> None:
        raise TransientError("the server is away")

    run(site, away, said=said)
    assert site.left() == 1
    assert said == ["waiting: the server is away"]

    def wrong(_: Sequence[Todo]) -> None:
        raise UsageError("there is no deployment")

    site.put("up/yard.mp4")
    with pytest.raises(UsageError):
        run(site, wrong)
    assert site.left() == 2


def test_poison_goes_to_the_dead_letter_queue_with_the_reason(
    site: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Queue,
        "again",
        lambda self, message, after_s: self._client.change_message_visibility(
            QueueUrl=self.url, ReceiptHandle=message.receipt, VisibilityTimeout=0
        ),
    )
    site.sqs.send_message(QueueUrl=site.url, MessageBody="what is this")
    said: list[str] = []
    run(site, lambda _: None, rounds=watching.MAX_TRIES, said=said)
    assert site.left() == 0
    [message] = site.sqs.receive_message(QueueUrl=site.dead, MessageAttributeNames=["All"])["Messages"]
    assert message["Body"] == "what is this"
    assert "not a message of a bucket" in message["MessageAttributes"]["reason"]["StringValue"]
    told = "a message went to the dead-letter queue: not a message of a bucket: "
    assert [line[: len(told)] for line in said] == [told]


def test_a_queue_that_is_away_while_a_message_is_given_back(
    site: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message comes again by itself; those behind it are worked on."""
    monkeypatch.setattr(watching, "_PAUSE_S", 0.0)

    def lost(self: Queue, message: sqs.Message, after_s: int) -> None:
        raise TransientError("the queue is away")

    monkeypatch.setattr(Queue, "again", lost)
    site.sqs.send_message(QueueUrl=site.url, MessageBody="what is this")
    site.put("up/gate.mp4")
    got: list[str] = []
    said: list[str] = []
    run(site, lambda items: got.extend(item.uri for item in items), rounds=1, said=said)
    assert (got, said) == ([f"s3://{site.bucket}/up/gate.mp4"], ["waiting: the queue is away"])
    assert site.left() == 1


def test_an_object_that_cannot_be_read_holds_up_no_other(
    site: Place, s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is encrypted with a key of its owner's: asked for, S3 answers 400."""
    site.put("up/locked.mp4")
    site.put("up/gate.mp4")
    got: list[str] = []
    said: list[str] = []
    with refusing(s3_server, {"locked": (400, "InvalidRequest")}) as server:
        server.use(monkeypatch.setenv)
        run(site, lambda items: got.extend(item.uri for item in items), rounds=1, said=said)
    assert (got, said) == ([f"s3://{site.bucket}/up/gate.mp4"], [])
    assert site.left() == 1


def test_a_queue_that_is_not_there(site: Place) -> None:
    with pytest.raises(StorageError, match=r"queue .*-gone: "):
        Queue(f"{site.url}-gone")


def test_bucket_and_queue_as_they_are_documented(s3_server: Server) -> None:
    """The files of deploy/bucket, applied: what is uploaded is announced, what lies elsewhere is not."""
    folder, region = ROOT / "deploy" / "bucket", "eu-west-1"
    keys = {"aws_access_key_id": s3_server.key, "aws_secret_access_key": s3_server.secret}
    made = partial(boto3.client, endpoint_url=s3_server.endpoint, region_name=region, **keys)
    sqs, s3 = made("sqs"), made("s3")
    sqs.create_queue(QueueName="uploads-dead")
    attributes = json.loads((folder / "queue.json").read_text())
    url = sqs.create_queue(QueueName="uploads", Attributes=attributes)["QueueUrl"]
    s3.create_bucket(Bucket="footage", CreateBucketConfiguration={"LocationConstraint": region})
    wanted = json.loads((folder / "notify.json").read_text())
    s3.put_bucket_notification_configuration(Bucket="footage", NotificationConfiguration=wanted)
    s3.put_object(Bucket="footage", Key="uploads/räume 1+2.mp4", Body=b"x")
    s3.put_object(Bucket="footage", Key="lake/own.mp4", Body=b"x")
    bodies = [
        message["Body"] for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    ]
    assert [uri for body in bodies for uri in created(body)] == ["s3://footage/uploads/räume 1+2.mp4"]


def test_an_object_as_it_is_now(site: Place) -> None:
    site.put("up/a.mp4", b"12")
    found = bucket.look(f"s3://{site.bucket}/up/a.mp4")
    assert isinstance(found, Source)
    [item] = todo(f"s3://{site.bucket}/lake", [found])
    site.put("up/a.mp4", b"123")
    [other] = todo(f"s3://{site.bucket}/lake", [bucket.look(found)])
    assert other.key != item.key


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    sweeper = Sweeper([str(tmp_path)], settle_s=0.0)
    assert sweeper.whole() == []  # an empty directory is no error
    with (tmp_path / "a.mp4").open("wb") as file:
        file.write(b"first half")
        file.flush()
        assert is_being_written(tmp_path / "a.mp4")
        assert sweeper.whole() == sweep_once([str(tmp_path)], str(tmp_path / "lake")) == []
    assert not is_being_written(tmp_path / "a.mp4")
    [source] = sweeper.whole()
    sweeper.mark([source])
    assert sweeper.whole() == []
    (tmp_path / "a.mp4").write_bytes(b"other bytes")
    assert [found.size_bytes for found in sweeper.whole()] == [11]


def test_a_wrong_use_is_not_waited_for(tmp_path: Path) -> None:
    """As the files that are not there yet, or cannot be read yet, are."""
    with pytest.raises(UsageError, match="gs:// inputs are not supported"):
        Sweeper(["gs://bucket/up/"], settle_s=0.0).whole()
    (tmp_path / "\udcff.mp4").write_bytes(b"a name that cannot be told")
    assert Sweeper([str(tmp_path), str(tmp_path / "gone.mp4")], settle_s=0.0).whole() == []


def test_asking_whether_a_file_is_being_written_survives_its_writer(tmp_path: Path) -> None:
    """A lease that is broken is told by a signal, whose default ends the process."""
    video = tmp_path / "growing.mp4"
    video.write_bytes(b"x")
    code = f"""
import time
from pathlib import Path
from pipeline.uploads.sweep import is_being_written
end = time.monotonic() + 1
while time.monotonic() < end:
    is_being_written(Path({str(video)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    while process.poll() is None:
        with video.open("ab") as file:
            file.write(b"x")
    assert process.returncode == 0


def test_nothing_has_arrived_yet(tmp_path: Path) -> None:
    """As in the first hour of a folder, and where what is done is moved away."""
    assert sweep_once([str(tmp_path)], str(tmp_path / "lake")) == []
    with pytest.raises(UsageError, match="does not exist"):
        sweep_once([str(tmp_path / "gone")], str(tmp_path / "lake"))


def test_files_that_are_gone_are_not_remembered(tmp_path: Path) -> None:
    sweeper = Sweeper([str(tmp_path)], settle_s=0.0)
    for number in range(3):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(b"x")
        sweeper.mark(sweeper.whole())
        path.unlink()
    assert len(sweeper._given) == 1
    assert sweeper.whole() == []
    assert sweeper._given == set()


def test_a_file_that_is_removed_before_its_turn_ends_no_watch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    items = sweep_once([str(tmp_path)], str(tmp_path / "lake"))
    path.unlink()
    _analyze_here(items, lake=str(tmp_path / "lake"), config=Config())
    assert f"{path} does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("ahead_s", [0, 86_400], ids=["now", "clock ahead"])
def test_a_file_that_still_changes_has_to_settle(tmp_path: Path, ahead_s: int) -> None:
    """Also one from a camera whose clock is ahead: it waited until that time came."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    os.utime(path, times=(time.time() + ahead_s,) * 2)
    sweeper = Sweeper([str(tmp_path)], settle_s=0.4)
    assert sweeper.whole() == []
    end = time.monotonic() + 30
    while not sweeper.whole():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_file_that_changed_has_to_settle_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one to which somebody adds now and then, and closes it in between."""
    path, clock = tmp_path / "a.mp4", SimpleNamespace(now=0.0)
    monkeypatch.setattr("pipeline.uploads.sweep.time", SimpleNamespace(monotonic=lambda: clock.now))
    sweeper = Sweeper([str(tmp_path)], settle_s=10)
    given = []
    for clock.now, size in ((0.0, 1), (6.0, 2), (12.0, 2), (17.0, 2)):
        if not path.exists() or path.stat().st_size != size:
            path.write_bytes(b"x" * size)
        given.append(len(sweeper.whole()))
    assert given == [0, 0, 0, 1]


def test_watching_a_directory_without_a_server(folder: Path, tmp_path: Path) -> None:
    """A slow copy is analysed once, whole; what was there before, too."""
    incoming, lake = tmp_path / "in", str(tmp_path / "lake")
    incoming.mkdir()
    shutil.copy(folder / "short.mp4", incoming / "before.mp4")
    data = (folder / "long.mp4").read_bytes()
    stop = threading.Event()
    results: list[tuple[str, str]] = []

    def submit(items: Sequence[Todo]) -> None:
        if items:
            done = analyze([item.uri for item in items], lake, config(folder)).results
            results.extend((Path(result.uri).name, result.state) for result in done)

    loop = partial(
        watch_sweep,
        [str(incoming)],
        lake,
        submit,
        print,
        every_s=0.1,
        settle_s=0.1,
        more=lambda: not stop.is_set(),
    )
    thread = threading.Thread(target=loop)
    thread.start()
    with (incoming / "slow.mp4").open("wb") as file:
        for start in range(0, len(data), len(data) // 8 + 1):
            file.write(data[start : start + len(data) // 8 + 1])
            file.flush()
            time.sleep(0.2)
    end = time.monotonic() + 120
    while len(results) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    stop.set()
    thread.join()
    assert sorted(results) == [("before.mp4", "ok"), ("slow.mp4", "ok")]
