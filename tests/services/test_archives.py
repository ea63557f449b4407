"""What `marey watch` submits to a Prefect server: few videos one by one, an archive in shards, all once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.s3 import Server
from tests.services.media import write_clip
from tests.services.stack import Stack, production


def runs(stack: Stack, flow: str) -> list[dict[str, Any]]:
    wanted = {"flows": {"name": {"any_": [flow]}}, "limit": 200}
    return list(stack.ask("/flow_runs/filter", wanted))


def test_few_come_one_by_one_and_many_in_shards(tmp_path: Path, moto: Server) -> None:
    folder, lake = tmp_path / "in", tmp_path / "lake"
    folder.mkdir()
    write_clip(tmp_path / "clip.mp4", 1.0, shade=60)
    clip = (tmp_path / "clip.mp4").read_bytes()

    def paths(first: int, end: int) -> list[str]:
        return [str(folder / f"{number:03}.mp4") for number in range(first, end)]

    def add(first: int, end: int) -> None:
        for path in paths(first, end):
            Path(path).write_bytes(clip)

    with production(tmp_path, moto) as stack:

        def watch() -> None:
            done = stack.marey("watch", folder, "--lake", lake, "--once")
            assert done.returncode == 0, done.stderr

        assert stack.marey("deploy", "--source", folder, "--lake", lake).returncode == 0
        add(0, 3)
        watch()
        watch()
        single = runs(stack, "analyze-video")
        assert {run["parameters"]["video"] for run in single} == {
            str(folder / f"00{n}.mp4") for n in range(3)
        }
        assert len(single) == 3
        assert {run["work_queue_name"] for run in single} == {"uploads"}
        add(3, 70)
        watch()
        watch()
        assert len(runs(stack, "analyze-video")) == 3  # no worker has begun them: they are in work
        shards = runs(stack, "analyze-batch")
        videos = [video for run in shards for video in run["parameters"]["inputs"]]
        assert sorted(videos) == paths(3, 70)
        assert len(shards) == 5
        assert {run["work_queue_name"] for run in shards} == {"backfill"}
