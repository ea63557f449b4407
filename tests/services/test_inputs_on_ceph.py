"""Inputs on S3 once more, on Ceph's RADOS Gateway: keys, versions, copies, and the whole way."""

# ruff: noqa: F403 - the tests are collected from here, with the fixtures of here
from __future__ import annotations

from tests.analyze.conftest import folder, lake, whole  # noqa: F401
from tests.analyze.test_remote import *
from tests.test_remote_sources import *
