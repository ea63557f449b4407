"""`marey watch --once` without a server: what it exits with, and where relative names lead."""

from __future__ import annotations

import shutil
from pathlib import Path

from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.analyze.build import ask
from tests.cli.conftest import Site
from tests.cli.run import marey, within


def test_once_fails_as_analyze_does_where_a_video_fails(site: Site, tmp_path: Path) -> None:
    home = {"PREFECT_HOME": str(tmp_path / "home")}
    command = ("watch", "incoming", "--lake", "lake", "--config", site.toml, "--once")
    (tmp_path / "incoming").mkdir()
    shutil.copy(site.video, tmp_path / "incoming" / "good.mp4")
    done = marey(*command, cwd=tmp_path, **home)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (tmp_path / "incoming" / "torn.mp4").write_text("no video at all")
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        done = within(*command, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert f"failed   {tmp_path}/incoming/torn.mp4" in done.stderr
        assert within(*command, cwd=tmp_path).returncode == 0  # nothing is undone
    states = ask(tmp_path / "lake", "SELECT status FROM analyses WHERE status <> 'running' ORDER BY status")
    assert [row["status"] for row in states] == ["failed", "ok"]
