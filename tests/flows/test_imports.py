"""Where Prefect is imported, and that its telemetry is off there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.helpers import ROOT

CI_VARIABLES = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE")  # Prefect sends nothing under these either


def run(program: str, **variables: str) -> object:
    """What a program prints as JSON, in a process without our settings of telemetry."""
    unwanted = {"DO_NOT_TRACK", *CI_VARIABLES}
    kept = {k: v for k, v in os.environ.items() if k not in unwanted and not k.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=kept | variables, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_program_does_without_prefect() -> None:
    program = (
        "import json, sys, pipeline.cli.commands, pipeline.analyze, flows.report, flows.settings;"
        "print(json.dumps([name for name in sys.modules if name.partition('.')[0] == 'prefect']))"
    )
    assert run(program) == []


TELEMETRY = (
    "import json, flows.analyze;"
    "from prefect._internal.analytics import is_telemetry_enabled;"
    "from prefect.settings import get_current_settings;"
    "print(json.dumps([is_telemetry_enabled(), get_current_settings().server.analytics_enabled]))"
)


def test_telemetry_is_off() -> None:
    assert run(TELEMETRY) == [False, False]


def test_telemetry_can_be_switched_on() -> None:
    chosen = {"DO_NOT_TRACK": "0", "PREFECT_SERVER_ANALYTICS_ENABLED": "true"}
    assert run(TELEMETRY, **chosen) == [True, True]
