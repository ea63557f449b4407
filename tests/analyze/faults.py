"""Short videos on S3 through a failing network, beside an undisturbed run from local files."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pipeline.analyze import analyze
from pipeline.lake import Lake
from pipeline.lake.schema import PARTITIONED
from tests.analyze.build import ask, config, rows, write_clip
from tests.s3 import Server, faulty


def complete_in_spite_of_faults(
    server: Server,
    folder: Path,
    clips: Path,
    set_variable: Callable[[str, str], None],
    videos: int,
    seed: int,
) -> dict[str, int]:
    """Analyse clips with a fault in every fifth request; gives how many faults of which kind were met."""
    bucket, settings = server.bucket(), config(folder, run__segment_s=1, lake__commit_interval_s=0.5)
    for number in range(videos):
        path = write_clip(clips / f"{number:02}.mp4", 1.5 + number % 3 / 2, seed=number)
        server.client().put_object(Bucket=bucket, Key=f"in/{path.name}", Body=path.read_bytes())
    assert analyze([str(clips)], str(clips / "lake"), settings).exit_code() == 0
    with faulty(server, seed) as proxy:
        proxy.use(set_variable)
        lake = f"s3://{bucket}/lake"
        summary = analyze([f"s3://{bucket}/in/"], lake, settings)
        with urllib.request.urlopen(f"{proxy.endpoint}/_faults") as answer:
            met: dict[str, int] = json.load(answer)
        server.use(set_variable)
    assert [result.state for result in summary.results] == ["ok"] * videos, summary
    assert rows(lake) == rows(clips / "lake")
    ended = ask(lake, "SELECT video_id, count(*) AS n FROM analyses WHERE status = 'ok' GROUP BY video_id")
    assert [row["n"] for row in ended] == [1] * videos
    for name in PARTITIONED:
        there = ask(lake, f"SELECT (SELECT count(*) FROM {name}) AS seen, count(*) AS n FROM {name}_all")
        assert there[0]["seen"] == there[0]["n"], f"rows of {name} are there twice"
    assert Lake.open(lake).location.names("_staging") == []
    return met
