"""Time from an upload to its committed row, split by cause: `python -m bench.upload_latency [ROUNDS]`.

A production of its own on loopback addresses: PostgreSQL, the Prefect server, one process worker, the loop
of `marey watch --queue`; bucket, queue and notifications are moto's. The worker polls as deploy/README.md
sets it, everything else is as it is by default. Each upload is 10 s of the demo's street with other looks,
so that nothing is known of it. One goes before and is not counted: then worker and caches are warm.

Prints Markdown: medians of the rounds.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3

from pipeline.demo.render import render_demo
from pipeline.lake.query import query
from tests.s3 import moto_server
from tests.services.stack import FINAL, Stack, documented, production

ROUNDS, CLIP_S = 5, 10.0
PATIENCE_S = 1800.0

CAUSES = {
    "seen": "the upload itself, the bucket's message, the watcher's long poll",
    "submitted": "the lake is asked, the run is made",
    "picked up": "the worker's poll",
    "process": "the worker starts a process",
    "running": "Python, Prefect and marey are loaded, the flow is entered",
    "opened": "task entered, lake opened, digests of the weights",
    "copied": "object copied and hashed, container read",
    "began": "networks loaded",
    "perceived": "decoded, perceived, tracked, events",
    "committed": "rows and the row that decides",
}
"""Moments in order, each with what happens between the one before and it."""

ANALYSIS = ("copied", "began", "perceived", "committed")
"""What `marey analyze` of the same object does as well."""


@dataclass
class Bench:
    """The parts that an upload passes."""

    stack: Stack
    folder: Path
    bucket: str
    queue: str
    seen: list[float] = field(default_factory=list)

    @property
    def source(self) -> str:
        return f"s3://{self.bucket}/up/"

    @property
    def lake(self) -> str:
        return f"s3://{self.bucket}/lake"

    def watch(self) -> None:
        """The loop of `marey watch --queue`, in a thread, noting when each message arrives."""
        from functools import partial

        from flows.submit import submit_videos
        from pipeline.sqs import Message, Queue
        from pipeline.uploads import watch_queue

        times = self.seen

        class Noting(Queue):
            def receive(self, *arguments: Any) -> list[Message]:
                found = super().receive(*arguments)
                times.extend([time.time()] * len(found))
                return found

        submit = partial(submit_videos, lake=self.lake)
        loop = partial(watch_queue, self.source, self.lake, Noting(self.queue), submit, print)
        threading.Thread(target=loop, daemon=True).start()

    def upload(self, number: int) -> dict[str, float]:
        """Upload a clip and wait for its row; the moments, in seconds since the epoch."""
        clip = self.folder / f"{number}.mp4"
        render_demo(clip, seed=number, duration_s=CLIP_S)
        self.seen.clear()
        began = time.time()
        self.stack.s3.client().put_object(Bucket=self.bucket, Key=f"up/{number}.mp4", Body=clip.read_bytes())
        uri = f"{self.source}{number}.mp4"
        self.stack.wait_until(lambda: self._ended(uri), f"the run of {uri} ends", PATIENCE_S)
        [run] = self._ended(uri)
        sql = f"SELECT started_at, committed_at, seconds FROM analyses WHERE uri = '{uri}' AND status = 'ok'"
        [row] = query(self.lake, sql).to_pylist()
        seconds = {k: v for k, v in dict(row["seconds"]).items() if k != "perceive"}  # that is within another
        commit = row["committed_at"].timestamp()
        begins = row["started_at"].timestamp()
        moments = {"uploaded": began, "seen": self.seen[0]} | _of_run(self.stack, run)
        moments |= {"began": begins, "perceived": begins + sum(seconds.values()), "committed": commit}
        told = ", ".join(f"{name} {moments[name] - began:.2f}" for name in CAUSES)
        print(f"upload {number}: {told} s", file=sys.stderr)
        return moments

    def _ended(self, uri: str) -> list[dict[str, Any]]:
        return [run for run in self.stack.runs(*FINAL) if run["parameters"].get("video") == uri]


def _of_run(stack: Stack, run: dict[str, Any]) -> dict[str, float]:
    """Moments of a run, by its states, its tag and its log."""
    states = stack.ask(f"/flow_run_states/?flow_run_id={run['id']}")
    at = {state["type"]: _seconds(state["timestamp"]) for state in states}
    ticks = next(tag for tag in run["tags"] if tag.startswith("process:")).rsplit(":", 1)[1]
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    process = time.time() - uptime_s + int(ticks) / os.sysconf("SC_CLK_TCK")
    wanted = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200}
    lines: dict[str, float] = {}

    def told() -> bool:
        found = stack.ask("/logs/filter", wanted)
        lines.update({line["message"].split()[0]: _seconds(line["timestamp"]) for line in found})
        return {"inputs:", "begins"} <= set(lines)

    stack.wait_until(told, "the log of the run")
    return {
        "submitted": _seconds(run["created"]),
        "picked up": at["PENDING"],
        "process": process,
        "running": at["RUNNING"],
        "opened": lines["inputs:"],
        "copied": lines["begins"],
    }


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main(rounds: int = ROUNDS) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, moto_server() as s3, production(Path(folder), s3) as stack:
        os.environ.update({k: v for k, v in stack.environment.items() if k.startswith(("AWS", "PREFECT"))})
        bench = Bench(stack, Path(folder), s3.bucket(), "")
        bench.queue = notified(bench.bucket)
        done = stack.marey("deploy", "--source", bench.source, "--lake", bench.lake, "--queue", bench.queue)
        if done.returncode:
            sys.exit(done.stderr)
        polls = documented("PREFECT_WORKER_QUERY_SECONDS")
        stack.start_worker(PREFECT_WORKER_QUERY_SECONDS=polls)
        bench.watch()
        bench.upload(0)
        moments = [bench.upload(number) for number in range(1, rounds + 1)]
    _tell(moments, polls)


def notified(bucket: str) -> str:
    """A queue that a bucket tells of its new objects; its URL."""
    sqs, s3 = boto3.client("sqs"), boto3.client("s3")
    url = str(sqs.create_queue(QueueName=bucket)["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    wanted = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
    sqs.purge_queue(QueueUrl=url)
    return url


def _tell(moments: Sequence[dict[str, float]], polls: str) -> None:
    parts = {
        name: [after[name] - after[before] for after in moments]
        for before, name in pairwise(["uploaded", *CAUSES])
    }
    total = [one["committed"] - one["uploaded"] for one in moments]
    outside = [whole - sum(parts[name][n] for name in ANALYSIS) for n, whole in enumerate(total)]
    what = f"{len(moments)} uploads of {CLIP_S:g} s, the worker polls every {polls} s"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {what}; median, least and most\n")
    print("| until | seconds | | what happens |\n|---|---:|---:|---|")
    for name, what in CAUSES.items():
        print(f"| {name} | {_spread(parts[name])} | {what} |")
    print(f"| **in all** | {_spread(total)} | |")
    print(f"| **outside the analysis** | {_spread(outside)} | all but {', '.join(ANALYSIS)} |")


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f}"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
