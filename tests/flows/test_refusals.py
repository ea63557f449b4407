"""What is missing on the way to production is named in one line, with the remedy; nothing was begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.spec import filled, read_spec
from pipeline.errors import UsageError
from tests.cli.run import is_one_line, marey, within
from tests.helpers import ROOT
from tests.s3 import Server

AWAY = "http://127.0.0.1:9/api"
FILE = ROOT / "deploy" / "prefect.yaml"


def refused(tmp_path: Path, *arguments: object, server: str = "") -> tuple[int, str]:
    """Exit code and line of the command; in processes of their own each would load Prefect."""
    url: dict[str, Any] = (
        {"updates": {PREFECT_API_URL: server}} if server else {"restore_defaults": {PREFECT_API_URL}}
    )
    with temporary_settings(**url):
        done = within(*arguments, cwd=tmp_path)
    assert is_one_line(done), done.stderr
    return done.returncode, done.stderr


def deploy(tmp_path: Path, *more: object, server: str = "", source: object = None) -> tuple[int, str]:
    place = tmp_path if source is None else source
    arguments = ("deploy", "--file", FILE, "--source", place, "--lake", tmp_path / "lake", *more)
    return refused(tmp_path, *arguments, server=server)


def test_no_server_is_configured(tmp_path: Path) -> None:
    code, text = deploy(tmp_path)
    assert code == 2
    assert "no Prefect server is configured: set PREFECT_API_URL" in text


def test_the_server_is_away(tmp_path: Path) -> None:
    """In a process of its own, which finds the server by its environment."""
    arguments = ("deploy", "--file", FILE, "--source", tmp_path, "--lake", tmp_path / "lake")
    env = {"PREFECT_HOME": str(tmp_path / "home"), "DO_NOT_TRACK": "1", "PREFECT_API_URL": AWAY}
    done = marey(*arguments, cwd=tmp_path, **env)
    assert is_one_line(done), done.stderr
    told = f"the Prefect server {AWAY} cannot be reached: start it, or correct PREFECT_API_URL"
    assert (done.returncode, done.stderr) == (3, f"marey: {told}\n")


def test_a_password_in_the_address_of_the_server_is_not_told(tmp_path: Path) -> None:
    code, text = deploy(tmp_path, server=AWAY.replace("//", "//admin:hunter2@"))
    assert (code, text.count(f"the Prefect server {AWAY} cannot be reached"), "hunter2" in text) == (
        3,
        1,
        False,
    )


def test_watching_with_a_server_that_is_away(tmp_path: Path) -> None:
    code, text = refused(tmp_path, "watch", tmp_path, "--lake", tmp_path / "lake", server=AWAY)
    assert (code, text.count("cannot be reached")) == (3, 1)


def test_orphans_of_a_server_that_is_away_or_not_configured(tmp_path: Path) -> None:
    code, text = refused(tmp_path, "doctor", "--runs", server=AWAY)
    assert (code, text.count("cannot be reached")) == (3, 1)
    code, text = refused(tmp_path, "doctor", "--free")
    assert code == 2
    assert "no Prefect server is configured" in text


def test_watching_what_is_not_there(tmp_path: Path, s3_server: Server) -> None:
    lake = ("--lake", tmp_path / "lake")
    gone = tmp_path / "gone"
    told = f"marey: {gone} does not exist: check the name, or make it\n"
    assert refused(tmp_path, "watch", gone, *lake) == (2, told)
    bucket = f"s3://{s3_server.bucket()}/up/"
    told = "marey: bucket no-such-bucket: the bucket does not exist\n"
    assert refused(tmp_path, "watch", "s3://no-such-bucket/up/", *lake) == (3, told)
    assert refused(tmp_path, "watch", bucket, "--lake", "s3://no-such-bucket/lake") == (3, told)
    queue = f"{s3_server.endpoint}/123456789012/no-such-queue"
    code, told = refused(tmp_path, "watch", bucket, *lake, "--queue", queue)
    assert (code, told.startswith(f"marey: queue {queue}: ")) == (3, True)
    code, told = refused(tmp_path, "watch", tmp_path, *lake, "--queue", queue)
    assert (code, told.startswith("marey: --queue needs a bucket to watch (got ")) == (2, True)


@pytest.mark.parametrize("scheme", ["gs", "S3", "ftp"])
def test_schemes_that_nobody_can_list(tmp_path: Path, scheme: str) -> None:
    """They were waited for in silence."""
    place = f"{scheme}://bucket/up/"
    told = f"marey: {scheme}:// cannot be watched (got {place!r}): give a directory, a glob or s3://bucket/prefix\n"
    assert refused(tmp_path, "watch", place, "--lake", tmp_path / "lake") == (2, told)
    assert deploy(tmp_path, source=place) == (2, told)
    told = f"marey: a lake is a directory or s3://bucket/prefix (got {place!r}): give one\n"
    assert refused(tmp_path, "watch", tmp_path, "--lake", place) == (2, told)


def test_the_source_is_not_there(tmp_path: Path) -> None:
    code, text = deploy(tmp_path, source=tmp_path / "gone")
    assert (code, text) == (2, f"marey: {tmp_path / 'gone'} does not exist: check the name, or make it\n")


def test_bucket_and_queue_are_not_there(tmp_path: Path, s3_server: Server) -> None:
    code, text = deploy(tmp_path, source="s3://no-such-bucket/up/")
    assert (code, text) == (3, "marey: bucket no-such-bucket: the bucket does not exist\n")
    queue = f"{s3_server.endpoint}/123456789012/no-such-queue"
    code, text = deploy(tmp_path, "--queue", queue, source=f"s3://{s3_server.bucket()}/up/")
    assert code == 3
    assert text.startswith(f"marey: queue {queue}: ")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    arguments = ("deploy", "--source", tmp_path, "--lake", tmp_path / "lake")
    code, text = refused(tmp_path, *arguments)
    assert (code, text) == (2, "marey: deploy/prefect.yaml cannot be read: No such file or directory\n")
    code, text = deploy(tmp_path, "--config", tmp_path / "gone.toml")
    assert code == 2


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("perceive.weights", "own.safetensors"),
        ("perceive.detector", "models/own.onnx"),
        ("track.weights", "~/own.safetensors"),
        ("events.models", "./own.safetensors"),
    ],
)
def test_a_config_that_names_relative_files(tmp_path: Path, key: str, name: str) -> None:
    """Runs would look for them in folders of their own."""
    section, field = key.split(".")
    value = f'["{name}"]' if key == "events.models" else f'"{name}"'
    (tmp_path / "site.toml").write_text(f"[{section}]\n{field} = {value}\n")
    told = (
        f"marey: config site.toml names {name}: give its absolute path: runs start in folders of their own\n"
    )
    assert deploy(tmp_path, "--config", "site.toml") == (2, told)


def test_empty_names(tmp_path: Path) -> None:
    told = (2, "marey: a name is empty: give a directory or s3://bucket/prefix\n")
    assert refused(tmp_path, "deploy", "--file", FILE, "--source", tmp_path, "--lake", "") == told
    assert deploy(tmp_path, "--allow", "") == told
    assert refused(tmp_path, "watch", "") == told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("concurrency_limit: 4", "concurrency_limit: 0"), "definitions.pools.0.concurrency_limit"),
        (("cron:", "corn:"), "deployments.3.schedules.0.c"),
        (("work_queue_name: uploads", "work_queue_name: downloads"), "queue downloads: name both"),
        (("name: marey\n", "name: [\n"), "is not YAML"),
        (
            ("7 * * * *", "7 25 * * *"),
            "deployments.3.schedules.0.cron (got '7 25 * * *'): Invalid cron string",
        ),
        (
            ("timezone: UTC", "timezone: Europe/Berln"),
            "deployments.3.schedules.0.timezone (got 'Europe/Berln'): Invalid timezone",
        ),
    ],
)
def test_a_wrong_file(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(FILE.read_text().replace(*change))
    with pytest.raises(UsageError) as caught:
        read_spec(file)
    assert told in str(caught.value)


def test_the_file_that_is_shipped() -> None:
    spec = read_spec(FILE)
    schedules = {d.entrypoint: [s.cron for s in d.schedules] for d in spec.deployments if d.schedules}
    assert schedules == {"flows.watch.reconcile": ["7 * * * *"], "flows.maintain.compact": ["23 3 * * *"]}


def test_what_stands_for_an_option() -> None:
    values = {"lake": "s3://b/lake", "source": "s3://b/up/", "queue": None, "config": None}
    assert filled({"lake": "{lake}", "config": "{config}", "n": 3}, values) == {"lake": "s3://b/lake", "n": 3}
    assert filled({"lake": "{lake}", "queue": "{queue}"}, values) is None
