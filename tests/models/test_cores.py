"""Cores that a process may use: bound by affinity, or by the quota of a control group."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.cores import granted_cores, usable_cores
from tests.helpers import ROOT

IN_CONTAINER = "0::/\n"
IN_SLICE = "0::/system.slice/marey.service\n"
VERSION_1 = "7:memory:/docker/a1\n4:cpu,cpuacct:/docker/a1\n1:name=systemd:/docker/a1\n"


QUOTA, PERIOD = "cpu,cpuacct/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_period_us"
SERVICE, SLICE = "system.slice/marey.service/cpu.max", "system.slice/cpu.max"


@pytest.mark.parametrize(
    ("groups", "files", "granted"),
    [
        (IN_CONTAINER, {"cpu.max": "200000 100000"}, 2.0),
        (IN_CONTAINER, {"cpu.max": "50000 100000"}, 0.5),
        (IN_CONTAINER, {"cpu.max": "max 100000"}, math.inf),
        (IN_CONTAINER, {}, math.inf),
        (IN_SLICE, {SERVICE: "150000 100000"}, 1.5),
        (IN_SLICE, {SERVICE: "max 100000", SLICE: "300000 100000"}, 3.0),
        (VERSION_1, {QUOTA: "400000", PERIOD: "100000"}, 4.0),
        (VERSION_1, {QUOTA: "-1", PERIOD: "100000"}, math.inf),
        ("", {"cpu.max": "200000 100000"}, math.inf),
    ],
)
def test_the_least_quota_of_its_groups_counts(
    tmp_path: Path, groups: str, files: dict[str, str], granted: float
) -> None:
    (tmp_path / "groups").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert granted_cores(tmp_path / "groups", tmp_path / "mounted") == granted


def test_where_the_system_lists_no_groups_all_cores_count(tmp_path: Path) -> None:
    assert granted_cores(tmp_path / "none", tmp_path) == math.inf


def test_no_more_cores_than_it_is_bound_to() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
    code = (  # of the 64 that the machine has
        "import os; os.cpu_count = lambda: 64; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from models.cores import usable_cores; from pipeline.analyze.tools import num_decoders; "
        "from pipeline.config import Config; print(usable_cores(), num_decoders(Config()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"]
