"""What the files of deploy/ say, tried where no container runs."""

from __future__ import annotations

import subprocess
import sys

import yaml

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
