"""What the files of deploy/ say, tried where no container runs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import Settings

from flows.deploy import _is_closed
from tests.helpers import ROOT
from tests.s3 import Server


def test_compose_makes_the_bucket_that_its_services_name(s3_server: Server) -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    [python, option, script] = services["bucket"]["command"]
    assert (python, option) == ("python", "-c")
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script.replace("${BUCKET:-footage}", "of-compose")], check=True)
    s3_server.client().head_bucket(Bucket="of-compose")
    assert services["deploy"]["depends_on"]["bucket"] == {"condition": "service_completed_successfully"}


JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"labels": {}},
    "spec": {
        "template": {
            "spec": {
                "parallelism": 1,
                "completions": 1,
                "restartPolicy": "Never",
                "containers": [{"name": "prefect-job"}],
            }
        }
    },
}
"""What prefect-kubernetes, `_get_base_job_manifest` in worker.py, wants of a manifest; 0.2 to 0.8 agree."""


def test_the_server_in_a_container_may_unpack_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside its program, where Prefect would, only root may write: the server had an API and no pages."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    [block] = re.findall(r"^ENV (.*?[^\\])$", text, re.S | re.M)
    for name, value in (pair.split("=", 1) for pair in block.replace("\\\n", " ").split()):
        if name.startswith("PREFECT_"):
            monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.server.ui.static_directory == "/home/marey/.prefect/ui"
    assert settings.home == Path("/home/marey/.prefect")


@pytest.mark.parametrize(("file", "sign"), [("compose.yaml", ": "), ("README.md", "=")])
def test_the_server_forgets_old_runs(file: str, sign: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of itself Prefect keeps them, their logs and pictures for ever. It takes the settings as they stand."""
    text = (ROOT / "deploy" / file).read_text(encoding="utf-8")
    found = re.findall(rf'(PREFECT_SERVER_SERVICES_DB_VACUUM_\w+){sign}"?([\w,]+)', text)
    assert len(found) == 2
    for name, value in found:
        monkeypatch.setenv(name, value)
    vacuum = Settings().server.services.db_vacuum
    assert {"events", "flow_runs"} <= vacuum.enabled_vacuum_types
    assert vacuum.retention_period == timedelta(days=30)


def test_workers_of_compose_find_the_config_where_it_was_deployed() -> None:
    """Runs are given its path, and read it themselves."""
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    [place] = re.findall(r"\$\{SITE_CONFIG:\+--config (\S+)\}", services["deploy"]["command"])
    assert services["deploy"]["volumes"] == [f"${{SITE_CONFIG:-/dev/null}}:{place}:ro"]
    assert services["worker"]["volumes"] == services["deploy"]["volumes"]


def lacking(found: Any, wanted: Any, at: str = "") -> list[str]:
    """Where a manifest lacks something, or has something else."""
    if isinstance(wanted, list):
        wanted, found = dict(enumerate(wanted)), dict(enumerate(found or ()))
    if not isinstance(wanted, dict):
        return [] if found == wanted else [at]
    if found is None:
        return [at]
    return [place for key, part in wanted.items() for place in lacking(found.get(key), part, f"{at}/{key}")]


def test_the_job_for_kubernetes_is_one_that_prefects_worker_takes() -> None:
    """It refuses another at each run. The template is made as the file says."""
    text = (ROOT / "deploy" / "kubernetes" / "job.yaml").read_text(encoding="utf-8")
    comments = re.sub(r"^# ?", "", text, flags=re.M)
    [command] = re.findall(r"^    (python -c .*?) > template\.json$", comments, re.S | re.M)
    command = shlex.quote(sys.executable) + command.removeprefix("python")
    made = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=True, text=True)
    template = json.loads(made.stdout)
    assert lacking(template["job_configuration"]["job_manifest"], JOB) == []
    assert _is_closed(template)
    assert template["job_configuration"]["command"] == "python -m flows.engine"
