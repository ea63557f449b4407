"""A video is forgotten on a real S3 server while another process writes to the same tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline.config import LakeConfig
from pipeline.lake.forget import forget
from pipeline.lake.query import query
from pipeline.lake.tables import Lake
from tests.cli.run import environment
from tests.helpers import ROOT
from tests.lake.build import analyse
from tests.lake.test_forget import holding
from tests.s3 import Server
from tests.services.test_lake_kills import FULL

SECRETS = ("secret-a", "secret-b", "secret-c")
WRITER = """
import sys, time
from pathlib import Path
from pipeline.lake.tables import Lake
from tests.lake.build import analyse
lake, number = Lake.open(sys.argv[1], create=False), 0
while not Path(sys.argv[2]).exists():
    analyse(lake, f"v{number}")
    number += 1
    time.sleep(5)  # as lake.commit_interval_s
print(number)
"""


def copied(server: Server, bucket: str, folder: Path) -> Path:
    """All objects of a bucket as files."""
    client = server.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", ()):
            file = folder / item["Key"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read())
    return folder


def wait_for_commit(lake: Lake, version: int, writer: subprocess.Popen[str]) -> None:
    while lake.table("analyses").version() == version:
        assert writer.poll() is None


def test_a_writer_that_commits_meanwhile_loses_nothing(s3_server: Server, tmp_path: Path) -> None:
    bucket = s3_server.bucket()
    place = f"s3://{bucket}/lake"
    lake = Lake.open(place)
    for video in ("v-before", *SECRETS):
        analyse(lake, video)
    assert len(holding(copied(s3_server, bucket, tmp_path / "before"), "secret-")) > 20
    versions = lake.table("analyses").version()
    stop = tmp_path / "stop"
    command = [sys.executable, "-c", WRITER, place, str(stop)]
    writer = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        wait_for_commit(lake, versions, writer)
        for video in SECRETS:
            assert forget(place, f"/archive/{video}.mp4", LakeConfig()).checked
            wait_for_commit(lake, lake.table("analyses").version(), writer)
        stop.touch()
        written = int(writer.communicate()[0])
        assert writer.returncode == 0
    finally:
        writer.kill()
        writer.wait()
    assert written > len(SECRETS)
    expected = {"v-before", *(f"v{number}" for number in range(written))}
    for name, number in {**FULL, "events": 2}.items():
        rows = query(place, f"SELECT video_id, count(*) AS n FROM {name} GROUP BY video_id").to_pylist()
        assert {row["video_id"]: row["n"] for row in rows} == dict.fromkeys(expected, number), name
    # Not by what the receipt says: every object, live or left over, is read.
    assert holding(copied(s3_server, bucket, tmp_path / "after"), "secret-") == []
