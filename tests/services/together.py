"""One long video by two process workers through the Prefect server, and by one run without it."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import psutil

from pipeline.analyze import analyze
from pipeline.config import Config
from tests.analyze.build import LONG_S, config, prepared, rows
from tests.cli.run import write_config
from tests.s3 import Server
from tests.services.stack import Stack, production

PATIENCE_S = 1800.0
"""Far more than it takes: a busy machine must not fail the test."""

_SEGMENT = re.compile(r"segment (\d+)-(\d+) of video \w+ decoded")


def repeated(clip: Path, path: Path, times: int) -> Path:
    """A clip several times in a row in one file, its packets copied."""
    with av.open(str(path), "w") as out:
        stream = None
        for number in range(times):
            with av.open(str(clip)) as source:
                given = source.streams.video[0]
                stream = stream or out.add_stream_from_template(given)
                shift = round(number * LONG_S / (given.time_base or Fraction(1)))
                for packet in source.demux(given):
                    if packet.dts is not None and packet.pts is not None:
                        packet.dts, packet.pts = packet.dts + shift, packet.pts + shift
                        packet.stream = stream
                        out.mux(packet)
    return path


@dataclass
class Together:
    """A stack with two workers, one video, and the rows that one run makes of it."""

    stack: Stack
    video: Path
    config: Config
    range_segments: int
    whole: dict[str, list[dict[str, Any]]]

    def submit(self, lake: Path) -> str:
        """A run of analyze-video; its id."""
        given = {"video": str(self.video), "lake": str(lake), "range_segments": self.range_segments}
        return self.stack.submit("analyze-video", **given)

    def ended(self, key: str) -> str:
        """The state in which a run ends."""
        return str(self.stack.ended(key, PATIENCE_S)["type"])

    def helped(self, lake: Path, *states: str) -> list[dict[str, Any]]:
        """Runs of ranges for a lake that are in some state."""
        found = [run for run in self.stack.runs(*states) if "first" in run["parameters"]]
        return [run for run in found if run["parameters"]["lake"] == str(lake)]

    def kill_a_helper(self, lake: Path) -> set[tuple[int, int]]:
        """Kill -9 a worker, and so its run, in the middle of a range; the segments that were staged then."""
        begun: dict[str, Any] = {}

        def in_the_middle() -> bool:
            for run in self.helped(lake, "RUNNING"):
                first, end = run["parameters"]["first"], run["parameters"]["end"]
                mine = {part for part in staged(lake) if first <= part[0] < end}
                left = (end - first) // self.ticks - len(mine)
                if mine and left > 1 and any(tag.startswith("process:") for tag in run["tags"]):
                    begun.update(run)
                    return True
            return False

        self.stack.wait_until(in_the_middle, "a range is perceived by another worker", PATIENCE_S)
        process = next(tag for tag in begun["tags"] if tag.startswith("process:")).split(":")
        flow = psutil.Process(int(process[2]))
        above = {parent.pid for parent in flow.parents()}
        [name] = [name for name, made in self.stack.processes.items() if made.pid in above]
        self.stack.stop(name, signal.SIGKILL)
        psutil.wait_procs([flow], timeout=30)
        return staged(lake)

    @property
    def ticks(self) -> int:
        """Ticks of a segment."""
        return round(self.config.run.segment_s * self.config.video.sample_fps)

    def decoded_since(self, moment: float) -> set[tuple[int, int]]:
        """Segments that some run said to have decoded after a moment (seconds since the epoch)."""
        found: set[tuple[int, int]] = set()
        offset = 0
        while lines := self.stack.ask("/logs/filter", {"limit": 200, "offset": offset}):
            offset += len(lines)
            for line in lines:
                if datetime.fromisoformat(line["timestamp"]).timestamp() > moment:
                    found |= {(int(a), int(b)) for a, b in _SEGMENT.findall(line["message"])}
        return found

    def lose_a_worker(self, lake: Path) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
        """Analyse with a worker that is killed; the segments staged then, and those decoded afterwards."""
        key = self.submit(lake)
        kept = self.kill_a_helper(lake)
        moment = time.time()
        freed = self.stack.marey("doctor", "--free")
        assert freed.returncode == 0, freed.stderr
        assert self.ended(key) == "COMPLETED"
        return kept, self.decoded_since(moment)


def staged(lake: Path) -> set[tuple[int, int]]:
    """First and last tick of the segments that are staged."""
    names = [path.stem for path in lake.glob("_staging/*/*.parquet")]
    return {(int(name.split("-")[0]), int(name.split("-")[1])) for name in names}


@contextmanager
def two_workers(
    folder: Path, s3: Server, times: int, segment_s: float, range_segments: int
) -> Iterator[Together]:
    """Everything is up, and the rows of one run are there to compare."""
    made = prepared(folder / "prepared")
    video = repeated(made / "long.mp4", folder / "footage.mp4", times)
    settings = config(made, run__segment_s=segment_s)
    analyze([str(video)], str(folder / "whole"), settings)
    site = write_config(folder / "site.toml", settings)
    with production(folder, s3) as stack:
        options = ("--source", folder, "--lake", folder / "lake", "--allow", folder, "--config", site)
        done = stack.marey("deploy", *options)
        assert done.returncode == 0, done.stderr
        for name in ("one", "other"):
            stack.start_worker(name)
        yield Together(stack, video, settings, range_segments, rows(folder / "whole"))
