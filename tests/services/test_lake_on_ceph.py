"""The lake's own tests once more, on Ceph's RADOS Gateway over HTTP."""

# ruff: noqa: F403 - the tests are collected from here, with the fixtures of here
from __future__ import annotations

import json

import pytest

from pipeline import s3
from pipeline.errors import StorageError
from pipeline.lake.tables import Lake
from tests.lake.test_commit import *
from tests.lake.test_compact import test_what_is_current_stays_and_nothing_else  # noqa: F401
from tests.lake.test_places import *
from tests.lake.test_races import *
from tests.lake.test_staging import *
from tests.s3 import Server


@pytest.fixture
def place(s3_server: Server) -> str:
    return f"s3://{s3_server.bucket()}/lake"


@pytest.fixture
def home(place: str) -> str:
    return place


@pytest.fixture
def lake(place: str) -> Lake:
    return Lake.open(place)


def test_a_wrong_secret_is_said(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moto takes any, Ceph does not."""
    Lake.open(place)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of someone else")
    s3.forget()
    with pytest.raises(StorageError, match="the secret key does not fit the access key"):
        Lake.open(place, create=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    s3.forget()
    with pytest.raises(StorageError, match="the access key is not known there"):
        Lake.open(place)
    s3.forget()


def test_a_bucket_of_others_is_denied(ceph: Server, s3_server: Server) -> None:
    bucket = ceph.bucket()
    denied = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": [f"arn:aws:s3:::{bucket}/*"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    ceph.client().put_bucket_policy(Bucket=bucket, Policy=policy)
    with pytest.raises(StorageError, match=r"cannot be written: access is denied"):
        Lake.open(f"s3://{bucket}/lake")
