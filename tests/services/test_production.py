"""Everything together, and what goes wrong in production: exactly the right rows come of twenty uploads.

Two are damaged, one message comes twice, one object is overwritten, one content has two names, one is no
video; the worker is killed in the middle of a run, the server is restarted, all messages are delivered again,
and the crashed run is submitted again. No part is a mock of ours; S3 and the queue are moto's server.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import boto3
import psutil
import pytest

from pipeline import s3
from pipeline.config import load
from pipeline.config_text import to_toml
from pipeline.lake.query import query
from tests.s3 import Server
from tests.services.media import SAMPLE_FPS, tiny_settings, write_clip, write_weights
from tests.services.stack import AUTH, Stack, postgres_programs, production

CLIP_S = 2.0
PATIENCE_S = 900.0
"""Far more than it takes: a busy machine must not fail the test."""


@pytest.fixture
def stack(tmp_path: Path, moto: Server) -> Iterator[Stack]:
    with production(tmp_path, moto) as made:
        yield made


class Site:
    """Bucket, queue, and footage to upload."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stack = stack
        stack.s3.use(monkeypatch.setenv)
        self.bucket, self.client = stack.s3.bucket(), stack.s3.client()
        keys = {"aws_access_key_id": stack.s3.key, "aws_secret_access_key": stack.s3.secret}
        self.sqs = boto3.client("sqs", endpoint_url=stack.s3.endpoint, region_name="us-east-1", **keys)
        self.queue = self.sqs.create_queue(QueueName=self.bucket)["QueueUrl"]
        self.source, self.lake = f"s3://{self.bucket}/up/", f"s3://{self.bucket}/lake"
        self.media = stack.folder / "media"
        self.media.mkdir()
        write_weights(self.media / "tiny.safetensors")
        self.config = stack.folder / "site.toml"
        settings = tiny_settings(self.media / "tiny.safetensors") | {"lake.commit_interval_s": 0.2}
        self.config.write_text(to_toml(load(None, settings)))
        self.sent: list[str] = []

    def clip(self, number: int) -> bytes:
        path = self.media / f"{number}.mp4"
        if not path.exists():
            write_clip(path, CLIP_S, shade=20 + 9 * number)
        return path.read_bytes()

    def upload(self, name: str, data: bytes) -> None:
        """Put an object, and say so as a bucket does."""
        key = f"up/{name}"
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)
        found = {"bucket": {"name": self.bucket}, "object": {"key": quote_plus(key), "size": len(data)}}
        record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": found}
        self.tell(json.dumps({"Records": [record]}))

    def tell(self, body: str) -> None:
        self.sent.append(body)
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=body)

    def messages_left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)["Attributes"]
        return sum(map(int, found.values()))

    def deploy(self) -> Counter[str]:
        done = self.stack.marey(
            "deploy",
            "--source",
            self.source,
            "--lake",
            self.lake,
            "--config",
            self.config,
            "--queue",
            self.queue,
        )
        assert done.returncode == 0, done.stderr
        return Counter(line.split()[1] for line in done.stdout.splitlines())

    def settle(self, what: str) -> None:
        """All messages are worked on, and no run is under way."""
        ready = lambda: self.messages_left() == 0 and self.stack.idle()  # noqa: E731
        self.stack.wait_until(ready, what, PATIENCE_S)

    def ask(self, sql: str) -> list[dict[str, Any]]:
        return list(query(self.lake, sql).to_pylist())


def reconcile_by_http(stack: Stack) -> None:
    """The documented way: one POST, here by curl."""
    deployment = stack.ask("/deployments/name/reconcile/marey")["id"]
    url = f"{stack.api}/deployments/{deployment}/create_flow_run"
    command = ["curl", "--silent", "--fail", "--user", AUTH, "--json", "{}", url]
    assert (
        json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["state_type"]
        == "SCHEDULED"
    )


def test_production(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(stack, monkeypatch)
    assert set(site.deploy()) == {"created"}
    assert set(site.deploy()) == {"unchanged"}

    whole = {f"{number}.mp4": number for number in range(13)} | {"räume 1+2.mp4": 13}
    for name, number in list(whole.items())[:4]:
        site.upload(name, site.clip(number))
    site.upload("torn.mp4", site.clip(0)[: len(site.clip(0)) // 3])
    site.upload("noise.mp4", bytes(range(256)) * 40)
    site.upload("notes.txt", b"no video")
    site.upload("again.mp4", site.clip(14))
    site.tell(site.sent[-1])  # the message comes twice

    stack.start("watcher", "pipeline.cli", "watch", site.source, "--lake", site.lake, "--queue", site.queue)
    stack.start_worker()
    kill_the_worker_in_the_middle_of_a_run(stack)
    stack.wait_until(
        lambda: "are freed" in stack.marey("doctor", "--free").stderr, "the run is freed", PATIENCE_S
    )
    stack.start_worker()

    for name, number in list(whole.items())[4:]:
        site.upload(name, site.clip(number))
    site.upload("changes.mp4", site.clip(15))
    stack.stop("server")
    stack.start_server()
    site.settle("the uploads are worked on")

    site.upload("changes.mp4", site.clip(16))
    site.upload("twin.mp4", site.clip(5))
    for body in list(site.sent):
        site.tell(body)
    site.settle("the messages that came again are worked on")
    reconcile_by_http(stack)
    site.settle("what crashed is done")

    names = {*whole, "again.mp4", "changes.mp4", "twin.mp4"}
    check_rows(site, names)
    before = site.ask("SELECT count(*) AS n FROM analyses")
    reconcile_by_http(stack)
    site.settle("nothing is left")
    assert site.ask("SELECT count(*) AS n FROM analyses") == before
    for name in ("watcher", "worker"):
        stack.stop(name)
    no_secret_is_anywhere(stack, site)


def kill_the_worker_in_the_middle_of_a_run(stack: Stack) -> None:
    stack.wait_until(lambda: stack.runs("RUNNING"), "a run begins", PATIENCE_S)
    worker = psutil.Process(stack.processes["worker"].pid)
    flows = [child for child in worker.children(recursive=True) if "flows.engine" in child.cmdline()]
    assert flows
    stack.stop("worker", signal.SIGKILL)
    _, alive = psutil.wait_procs(flows, timeout=30)
    assert not alive  # they die with it, and so do their decoders
    assert stack.runs("RUNNING", "PENDING")  # as the server believes


def check_rows(site: Site, videos: set[str]) -> None:
    frames = site.ask(
        "SELECT v.uri, count(*) AS n, count(DISTINCT f.sample) AS d FROM frames f JOIN videos v"
        " ON f.video_id = v.video_id GROUP BY v.uri"
    )
    found = {row["uri"].removeprefix(site.source): (row["n"], row["d"]) for row in frames}
    wanted = round(CLIP_S * SAMPLE_FPS)
    assert found == dict.fromkeys(videos, (wanted, wanted))
    failed = site.ask(
        "SELECT uri, count(DISTINCT attempt_id) AS n FROM analyses WHERE status = 'failed' GROUP BY uri"
    )
    assert {row["uri"].removeprefix(site.source): row["n"] for row in failed} == {
        "torn.mp4": 1,
        "noise.mp4": 1,
    }
    done = site.ask("SELECT video_id, count(*) AS n FROM analyses WHERE status = 'ok' GROUP BY video_id")
    assert {row["n"] for row in done} == {1}  # no result was made twice
    names = f"'{site.source}5.mp4', '{site.source}twin.mp4'"
    [twins] = site.ask(f"SELECT count(DISTINCT video_id) AS n FROM videos WHERE uri IN ({names})")
    assert twins["n"] == 1


def no_secret_is_anywhere(stack: Stack, site: Site) -> None:
    """Not in logs, the server's database, or any object or row of the lake."""
    port, user = stack.database.rsplit(":", 1)[1].split("/")[0], "postgres"
    command = [postgres_programs() / "pg_dump", "-h", "127.0.0.1", "-p", port, "-U", user, "postgres"]
    texts = {"database": subprocess.run(command, capture_output=True, check=True).stdout}
    texts |= {path.name: path.read_bytes() for path in stack.folder.glob("*.log")}
    for table in ("videos", "analyses", "configs"):
        view = f"{table}_all" if table == "videos" else table
        texts[table] = json.dumps(site.ask(f"SELECT * FROM {view}"), default=str).encode()
    for item in s3.listed(site.bucket, "lake/"):
        texts[item["Key"]] = site.client.get_object(Bucket=site.bucket, Key=item["Key"])["Body"].read()
    for secret in (stack.s3.secret, AUTH, AUTH.split(":")[1]):
        told = [name for name, text in texts.items() if secret.encode() in text]
        assert not told, f"a secret is in {told}"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == stack.s3.secret
