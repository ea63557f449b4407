"""Messages after a commit: their form, the filter of events, and that none is lost when somebody dies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from pipeline import allowed, notify
from pipeline.analyze import analyze
from pipeline.config import NotifyConfig
from pipeline.errors import StorageError, UsageError
from pipeline.lake import Lake
from pipeline.lake.commit import Ending, commit, start_attempts
from pipeline.lake.records import Place, place_rows
from pipeline.lake.tables import OUTBOX
from pipeline.notify import Notifier
from pipeline.pool import pool
from tests.analyze.build import Ticking, ask, config, prepared, write_clip
from tests.lake.build import RECORDED, finished, name_of, running, stage_rows
from tests.lake.test_forget import holding
from tests.s3 import Server, free_port
from tests.web import Quiet, serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.getbasetemp() / "prepared-notify")


class Hook:
    """A web server that keeps what it is sent.

    It answers 403 if it is `refusing`, 422 about the camera `unknown`, 503 as often as it is to stumble.
    """

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.refusing = False
        self.unknown = "no such camera"
        self.stumbles = 0
        self.asked = 0
        hook = self

        class Handler(Quiet):
            def do_POST(self) -> None:
                hook.asked += 1
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = hook.status(message["JobTag"])
                if status == 204:
                    hook.got.append(message)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.handler = Handler
        self.url = ""

    def status(self, camera: str | None) -> int:
        if self.stumbles:
            self.stumbles -= 1
            return 503
        return 403 if self.refusing else 422 if camera == self.unknown else 204


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    with serving(made.handler) as address:
        made.url = f"{address}/planted-token?key=planted-key"
        yield made


def test_messages(folder: Path, tmp_path: Path, hook: Hook) -> None:
    """One per analysis, good or bad, and one per event that the filter takes."""
    lake, torn = tmp_path / "lake", tmp_path / "torn.mp4"
    torn.write_bytes(b"no video at all")
    settings = config(folder, notify__webhook=hook.url, notify__events=["gate"])
    videos = [str(folder / "short.mp4"), str(torn)]
    analyze(videos, str(lake), settings)
    by_uri = {m["Video"]["Uri"]: m for m in hook.got if m["API"] == "marey/Analysis"}
    assert set(by_uri) == set(videos)
    good, bad = by_uri[videos[0]], by_uri[videos[1]]
    assert (good["Status"], good["AnalysisStatus"], bad["Status"]) == ("SUCCEEDED", "ok", "FAILED")
    assert good["Rows"]["frames"] == ask(lake, "SELECT count(*) AS n FROM frames")[0]["n"]
    assert str(torn) in bad["Error"]["Message"]
    events = [m for m in hook.got if m["API"] == "marey/Event"]
    found = ask(lake, "SELECT event_id FROM events WHERE label = 'gate'")
    assert found
    assert sorted(m["Id"].partition(f"{good['JobId']}-")[2] for m in events) == sorted(
        row["event_id"] for row in found
    )
    assert Lake.open(str(lake)).location.names(OUTBOX) == []

    before = len(hook.got)
    analyze(videos, str(lake), settings)
    assert len(hook.got) == before  # nothing new, nothing told


def test_an_event_is_told_with_its_direction_and_times_in_utc() -> None:
    """Whoever gets it need not ask the lake when it was, and which way; null where nobody knows."""
    row, rows = finished(running("v1")), stage_rows(objects=1)["events"]
    for recorded_at, start, end in (
        (RECORDED, "2025-03-01T22:30:00.000000+00:00", "2025-03-01T22:30:00.500000+00:00"),
        (None, None, None),
    ):
        place = Place(row.video_id, row.camera, row.date, row.run_id, recorded_at)
        [event] = place_rows("events", rows, place).to_pylist()
        told = json.loads(json.dumps(notify.event_message(row, event)))["Event"]
        assert (told["direction"], told["start_utc"], told["end_utc"]) == ("left_to_right", start, end)


def test_what_was_not_delivered_is_by_the_next_run(folder: Path, tmp_path: Path, hook: Hook) -> None:
    lake = tmp_path / "lake"
    settings = config(folder, notify__webhook=hook.url)
    hook.refusing = True
    analyze([str(folder / "short.mp4")], str(lake), settings)
    [name] = Lake.open(str(lake)).location.names(OUTBOX)
    hook.refusing = False
    analyze([str(folder / "short.mp4")], str(lake), settings)
    [message] = hook.got
    assert f"{message['Id']}.json" == name
    assert Lake.open(str(lake)).location.names(OUTBOX) == []


def test_a_success_that_was_not_committed_is_not_told(folder: Path, tmp_path: Path, hook: Hook) -> None:
    """What is to be told was noted before the commit that failed; the end that is then written is another."""
    lake = tmp_path / "lake"
    settings = config(folder, notify__webhook=hook.url)
    log = lake / "detections" / "_delta_log"

    def break_it() -> None:
        log.rename(log.with_name("away"))

    with pytest.raises((StorageError, UsageError)):
        analyze([str(folder / "short.mp4")], str(lake), settings, reporter=Ticking(3.0, break_it))
    log.with_name("away").rename(log)
    assert [row["status"] for row in ask(lake, "SELECT status FROM analyses ORDER BY revision")] == [
        "running",
        "abandoned",
    ]
    assert hook.got == []
    assert Lake.open(str(lake)).location.names(OUTBOX) == []


def test_a_receiver_that_is_away_is_not_asked_for_each_message(
    folder: Path, tmp_path: Path, hook: Hook
) -> None:
    """It would hold up the work by some seconds each time; what is left is delivered by a later run."""
    lake, videos = tmp_path / "lake", []
    for number in range(3):
        videos.append(str(shutil.copy(folder / "short.mp4", tmp_path / f"{number}.mp4")))
        write_clip(Path(videos[-1]), 1, seed=number)
    settings = config(folder, notify__webhook=hook.url)
    hook.refusing = True
    for _ in range(2):
        hook.asked = 0
        analyze(videos, str(lake), settings)
        assert hook.asked == 1
    assert len(Lake.open(str(lake)).location.names(OUTBOX)) == 3
    hook.refusing = False
    analyze(videos, str(lake), settings)
    assert sorted(message["Video"]["Uri"] for message in hook.got) == videos


def one_run(lake: Lake, settings: NotifyConfig, camera: str) -> list[str]:
    """Deliver what was left, then the message about one video; returns what was said."""
    said: list[str] = []
    notifier = Notifier(lake, settings, said.append)
    notifier.deliver_left()
    [row] = start_attempts(lake, [running(f"video {camera}", camera=camera)])
    notifier.expect(finished(row), ())
    [outcome] = commit(lake, [Ending(analysis=finished(row), names=(name_of(row),))])
    notifier.committed(outcome.analysis.attempt_id)
    return said


def test_a_message_that_is_refused_for_good_holds_up_no_other(tmp_path: Path, hook: Hook) -> None:
    """A receiver that is away says nothing of the message; one that answers 422 will each time."""
    lake, settings = Lake.open(str(tmp_path / "lake")), NotifyConfig(webhook=hook.url)
    hook.refusing = True
    for camera in ("yard", "gate"):
        one_run(lake, settings, camera)
    assert len(lake.location.names(OUTBOX)) == 2
    hook.refusing, hook.unknown = False, "yard"
    [line] = one_run(lake, settings, "hall")
    assert line.startswith("message ")
    assert line.endswith(" is given up: webhook 127.0.0.1 refuses it (got 422)")
    assert [message["JobTag"] for message in hook.got] == ["gate", "hall"]
    assert lake.location.names(OUTBOX) == []


def test_a_queue_that_refuses_a_message(tmp_path: Path, hook: Hook, s3_server: Server) -> None:
    """It is too large for it; the webhook gets it nevertheless."""
    attributes = {"MaximumMessageSize": "1024"}
    url = boto3.client("sqs").create_queue(QueueName=s3_server.bucket(), Attributes=attributes)["QueueUrl"]
    lake, settings = Lake.open(str(tmp_path / "lake")), NotifyConfig(webhook=hook.url, queue=url)
    assert one_run(lake, settings, "gate") == []
    [line] = one_run(lake, settings, "a name of 1100 bytes" * 55)
    assert f" is given up: queue {url} refuses it: " in line
    assert len(hook.got) == 2
    assert lake.location.names(OUTBOX) == []


def test_addresses_are_not_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under Prefect warnings of all libraries go to the console."""
    monkeypatch.setattr(notify, "_PAUSES_S", (0.0,))
    caplog.set_level("INFO")
    address = f"http://127.0.0.1:{free_port()}/services/planted-token?key=planted-key"
    with pytest.raises(StorageError, match=r"^webhook 127\.0\.0\.1 cannot be reached: Connection refused$"):
        notify.send(NotifyConfig(webhook=address), {"Id": "1"})
    assert "planted" not in caplog.text


def test_a_webhook_that_leads_to_a_metadata_service(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever names it; here the loopback stands for one. What may be named was judged with the config."""
    settings = NotifyConfig(webhook=hook.url.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv(allowed.VARIABLE, "/footage/")
    assert notify.send(settings, {"Id": "1", "JobTag": "gate"}) == []
    monkeypatch.setattr(allowed, "_METADATA", frozenset({"127.0.0.1"}))
    pool.cache_clear()  # of connections that were made before
    told = r"^webhook localhost may not be asked: 127\.0\.0\.1 is link-local"
    with pytest.raises(StorageError, match=told):
        notify.send(settings, {"Id": "2", "JobTag": "gate"})
    pool.cache_clear()
    assert hook.asked == 1


def test_a_receiver_that_stumbles_is_asked_again(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_PAUSES_S", (0.0, 0.0, 0.0))
    hook.stumbles = 3
    assert notify.send(NotifyConfig(webhook=hook.url), {"Id": "1", "JobTag": "gate"}) == []
    assert (hook.asked, len(hook.got)) == (4, 1)
    hook.stumbles = 4
    with pytest.raises(StorageError, match=r"does not take it \(got 503\)"):
        notify.send(NotifyConfig(webhook=hook.url), {"Id": "1", "JobTag": "gate"})
    assert (hook.asked, len(hook.got)) == (8, 1)


def test_to_a_queue(folder: Path, tmp_path: Path, s3_server: Server) -> None:
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName=s3_server.bucket())["QueueUrl"]
    [result] = analyze([str(folder / "short.mp4")], str(tmp_path), config(folder, notify__queue=url)).results
    [message] = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    told = json.loads(message["Body"])
    assert (told["API"], told["Status"], told["VideoId"]) == ("marey/Analysis", "SUCCEEDED", result.video_id)
    assert told["Rows"] == dict(result.rows)


def test_addresses_are_not_stored(folder: Path, tmp_path: Path, hook: Hook) -> None:
    lake = tmp_path / "lake"
    settings = config(folder, notify__webhook=hook.url)
    hook.refusing = True
    analyze([str(folder / "short.mp4")], str(lake), settings)
    assert len(holding(lake, "short.mp4")) > 2  # names are found in the files, packed as they are
    assert holding(lake, "planted") == []


def test_a_bucket_is_named_as_rekognition_does() -> None:
    assert notify._video("s3://up/a b/c.mp4") == {
        "Uri": "s3://up/a b/c.mp4",
        "S3Bucket": "up",
        "S3ObjectName": "a b/c.mp4",
    }
