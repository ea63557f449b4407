"""What a bucket with versioning keeps of removed files goes, too, when a video is forgotten."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.config import LakeConfig
from pipeline.lake.compact import compact
from pipeline.lake.forget import forget
from pipeline.lake.tables import Lake
from tests.cli.run import marey
from tests.lake.build import analyse
from tests.lake.test_compact import seen
from tests.s3 import Server, refusing

USUAL = LakeConfig()


def versions_holding(server: Server, bucket: str, word: str) -> list[str]:
    """Keys of versions, kept or current, whose bytes, or values if they are Parquet, hold a word."""
    client, found = server.client(), []
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix="lake/"):
        for version in page.get("Versions", ()):
            key = version["Key"]
            data = client.get_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])["Body"].read()
            if key.endswith(".parquet") and data[:4] == b"PAR1":
                data = repr(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
            found += [key] if word.encode() in data else []
    return found


@pytest.fixture
def s3_server(moto: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Not Ceph: in a bucket that keeps versions it ignores If-None-Match, and a lake there is refused."""
    moto.use(monkeypatch.setenv)
    return moto


@pytest.fixture
def versioned(s3_server: Server) -> str:
    """A bucket that keeps versions."""
    bucket = s3_server.bucket()
    s3_server.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def test_versions_that_a_bucket_keeps_go_too(s3_server: Server, versioned: str) -> None:
    uri = f"s3://{versioned}/lake"
    lake = Lake.open(uri)
    for video in ("v1", "v-secret"):
        analyse(lake, video, uri=f"/archive/{video}.mp4")
        lake.location.create(f"_outbox/{video}.json", json.dumps({"video_id": video}).encode())
        lake.location.remove(f"_outbox/{video}.json")  # as one that was delivered
    compact(uri, LakeConfig(history_days=0))
    others = {k: [row for row in v if "v-secret" not in row] for k, v in seen(lake).items()}
    assert len(versions_holding(s3_server, versioned, "v-secret")) > 20
    receipt = forget(uri, "/archive/v-secret.mp4", USUAL)
    assert (receipt.checked, receipt.unchecked) == (True, "")
    assert receipt.old_versions > 20
    assert versions_holding(s3_server, versioned, "v-secret") == []
    assert "lake/_outbox/v1.json" in versions_holding(s3_server, versioned, "v1")
    assert seen(lake) == others


def test_versions_that_may_not_be_removed_are_told(s3_server: Server, versioned: str, tmp_path: Path) -> None:
    """And the next call goes on."""
    uri, name = f"s3://{versioned}/lake", "/archive/v-secret.mp4"
    analyse(Lake.open(uri), "v-secret", uri=name)
    with refusing(s3_server, {"versioning": (403, "AccessDenied")}) as proxy:
        done = marey("forget", name, "--lake", uri, cwd=tmp_path, **proxy.settings)
    assert done.returncode == 3, done.stderr
    receipt = json.loads(done.stdout)
    assert not receipt["checked"]
    denied = "access is denied: these credentials may not do this"
    told = f"bucket {versioned} cannot be asked for old versions: {denied}"
    remedy = "give the rights to ask for versioning, list versions and delete them, and run again"
    assert receipt["unchecked"] == f"{told}; {remedy}"
    assert done.stderr.splitlines()[-1] == f"marey: old versions may be left: {told}; {remedy}"
    assert "nothing is left" not in done.stderr
    assert forget(uri, name, USUAL).checked
    assert versions_holding(s3_server, versioned, "v-secret") == []


def test_a_server_that_knows_no_versions_has_none(s3_server: Server, tmp_path: Path) -> None:
    uri, name = f"s3://{s3_server.bucket()}/lake", "/archive/v-secret.mp4"
    analyse(Lake.open(uri), "v-secret", uri=name)
    with refusing(s3_server, {"versioning": (501, "NotImplemented")}) as proxy:
        done = marey("forget", name, "--lake", uri, cwd=tmp_path, **proxy.settings)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checked"]
