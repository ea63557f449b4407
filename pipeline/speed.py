"""How fast this machine does each stage of an analysis alone and all of them together: `marey bench`.

Every measurement is a process of its own (`python -m pipeline.speed`, which takes a request and prints what
it measured), so that one stage's memory is not counted for another, and loading networks for the whole only.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.cores import usable_cores
from pipeline.config import Config
from pipeline.errors import MareyError, SourceError, UsageError

if TYPE_CHECKING:
    from pipeline.lake import Lake
    from pipeline.media import DecodeJob

STAGES = ("decode", "cnn", "track", "write", "whole")

_PICTURES = 256
"""Of which the CNN's time is measured; it does not depend on what they show."""

_LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Measured:
    """One measurement. Seconds are those of the stage's own work, the whole's from the start of its process.

    `frames` sampled frames stand for `video_s` seconds of video. `peak_bytes` is the most memory at a time of
    the process and its children (proportional set size), 0 where the system does not tell. `start_s` is how
    long the whole took until its networks were loaded.
    """

    frames: int
    video_s: float
    wall_s: float
    cpu_s: float
    start_s: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Speed:
    """Medians of several rounds, and what they say of the limit.

    `bound_s` is the least time in which decoding on one core and the CNN on another could be done: the larger
    of their CPU seconds, or their sum where there is one core. `near` is the whole's time in bounds, starting
    included, and `near_started` without.
    """

    stages: Mapping[str, Measured]
    rounds: int
    cores: int
    runtime: str
    bound_s: float
    limit: str
    near: float
    near_started: float

    @classmethod
    def of(cls, rounds: Sequence[Mapping[str, Measured]], runtime: str) -> Speed:
        """Sum up rounds that each hold all stages."""
        stages = {name: median([one[name] for one in rounds]) for name in STAGES}
        cores = usable_cores()
        whole = stages["whole"]
        # Of a stage that was measured on fewer frames the time for all of them.
        decode, cnn = (stages[name].cpu_s * whole.frames / stages[name].frames for name in ("decode", "cnn"))
        bounds = {"decoding": decode, "the CNN": cnn, "the cores": (decode + cnn) / min(2, cores)}
        limit = max(bounds, key=lambda name: bounds[name])
        bound = bounds[limit]
        near_started = (whole.wall_s - whole.start_s) / bound
        return cls(stages, len(rounds), cores, runtime, bound, limit, whole.wall_s / bound, near_started)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the rates of every stage."""
        stages = {name: asdict(one) | rates(one) for name, one in self.stages.items()}
        return {**vars(self), "stages": stages}


def rates(one: Measured) -> dict[str, float]:
    """Sampled frames per second and times real time."""
    return {"frames_per_s": one.frames / one.wall_s, "times_real_time": one.video_s / one.wall_s}


def median(values: Sequence[Measured]) -> Measured:
    """Medians, field by field."""
    columns = zip(*(vars(value).values() for value in values), strict=True)
    return Measured(*(statistics.median(column) for column in columns))


def measure(
    videos: Sequence[Path],
    config: Config,
    rounds: int = 3,
    on_progress: Callable[[str, int], None] = lambda stage, number: None,
) -> Speed:
    """Measure all stages in turn, several times; what is analysed goes to a lake that is thrown away.

    Args:
        videos: files; none of them may fail.
        config: of the analysis.
        rounds: measurements of each stage.
        on_progress: called before each, with the stage and the round from 1.

    Raises:
        UsageError: a file is not there.
        SourceError: a video cannot be analysed.
        MareyError: a stage failed for another reason.
    """
    if missing := [video for video in videos if not video.is_file()]:
        raise UsageError(f"{missing[0]} is not a file", remedy="bench takes local video files")
    done, runtime = [], ""
    with tempfile.TemporaryDirectory(prefix="marey-bench-") as folder:
        for number in range(rounds):
            lake = f"{folder}/{number}"
            found: dict[str, Measured] = {}
            for stage in ("whole", *STAGES[:-1]):  # tracking and writing take what the whole has written
                on_progress(stage, number + 1)
                said, found[stage] = _in_process(stage, videos, config, lake)
                runtime = said.get("runtime", runtime)
            done.append(found)
    return Speed.of(done, runtime)


def _in_process(
    stage: str, videos: Sequence[Path], config: Config, lake: str
) -> tuple[dict[str, Any], Measured]:
    """Let a process of its own measure a stage. What lies in the working directory is none of its modules."""
    from pipeline.media.process import python_path

    request = {"stage": stage, "lake": lake, "config": config.model_dump_json(), "began": time.monotonic()}
    request["videos"] = [str(video.resolve()) for video in videos]
    command = [sys.executable, "-P", "-m", "pipeline.speed"]
    answer, peak = watched(command, json.dumps(request), {**os.environ, "PYTHONPATH": python_path()})
    said: dict[str, Any] = json.loads(answer)
    if "error" in said:
        raise SourceError(said["error"])
    names = Measured.__dataclass_fields__
    return said, Measured(**{**{k: v for k, v in said.items() if k in names}, "peak_bytes": peak})


def watched(command: Sequence[str], given: str = "", env: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Run a command; what it said on stdout, and the most memory of its process tree in bytes.

    Raises:
        MareyError: it failed.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env, text=True) as process:
        ended, peak = threading.Event(), [0]

        def look() -> None:
            while not ended.wait(_LOOK_EVERY_S):
                peak[0] = max(peak[0], tree_bytes(process.pid))

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            answer, _ = process.communicate(given)
        finally:
            process.kill()
            ended.set()
            watcher.join()
    if process.returncode:
        raise MareyError(f"{' '.join(command)[:200]} failed", got=process.returncode)
    return answer, peak[0]


def tree_bytes(pid: int) -> int:
    """Proportional set size of a process and all below it."""
    from pipeline.media.process import memory_bytes

    below = 0
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below += sum(tree_bytes(int(child)) for child in path.read_text().split())
        except OSError:  # it ended
            continue
    return memory_bytes(pid) + below


# -- the measuring process ---------------------------------------------------------------------------------


def main() -> None:
    """Measure one stage as asked on stdin, and print what was found."""
    request = json.loads(sys.stdin.read())
    config = Config.model_validate_json(request["config"])
    try:
        found = _STAGES[request["stage"]](config, request["videos"], request["lake"], request["began"])
    except MareyError as exc:
        found = {"error": str(exc)}
    print(json.dumps(found))  # noqa: T201


def cpu_s() -> float:
    """CPU seconds of this process and of its children that ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _timed(act: Callable[[], None]) -> dict[str, float]:
    began, cpu = time.perf_counter(), cpu_s()
    act()
    return {"wall_s": time.perf_counter() - began, "cpu_s": cpu_s() - cpu}


def _jobs(config: Config, videos: Sequence[str]) -> Iterator[DecodeJob]:
    """A job for each whole video."""
    from pipeline.analyze.perception import job_of

    for path in videos:
        yield job_of(path, path, config)


def _decode(config: Config, videos: Sequence[str], lake: str, began: float) -> dict[str, Any]:
    """Decode, sample, shrink, feel motion: in as many processes as an analysis, and nobody looks at it."""
    from pipeline.analyze.tools import num_decoders
    from pipeline.media import Feed, JobEnd, SampledFrame
    from pipeline.perceive import resolved

    config = config.model_copy(update={"perceive": resolved(config.perceive)})
    jobs, counts = list(_jobs(config, videos)), {"frames": 0, "video_s": 0.0}

    def act() -> None:
        size = config.perceive.input_width * config.perceive.input_height
        with Feed(num_decoders(config), max_pixels=size) as feed:
            for item in feed.run(jobs):
                if isinstance(item, SampledFrame):
                    counts["frames"] += 1
                elif isinstance(item, JobEnd):
                    counts["video_s"] += item.end_t or item.last_t or 0.0

    return _timed(act) | counts


def _cnn(config: Config, videos: Sequence[str], lake: str, began: float) -> dict[str, Any]:
    """The CNN on batches of pictures that are decoded already, boxes selected."""
    import numpy as np

    from pipeline.analyze.tools import Tools

    tools = Tools(config)
    pictures = np.stack(_some_pictures(tools.config, videos))
    perceiver = tools.perceiver
    perceiver(pictures[: perceiver.batch_size])

    def act() -> None:
        for begin in range(0, len(pictures), perceiver.batch_size):
            perceiver(pictures[begin : begin + perceiver.batch_size])

    share = len(pictures) / (config.video.sample_fps or 25.0)
    return _timed(act) | {"frames": len(pictures), "video_s": share, "runtime": perceiver.network.runtime}


def _some_pictures(config: Config, videos: Sequence[str]) -> list[Any]:
    from pipeline.media import SampledFrame, decode_inline

    found: list[Any] = []
    for job in _jobs(config, videos):
        for item in decode_inline(job):
            if isinstance(item, SampledFrame):
                found.append(item.picture)
            if len(found) == _PICTURES:
                return found
    return found


def _track(config: Config, videos: Sequence[str], lake: str, began: float) -> dict[str, Any]:
    """Both passes of the tracker over the detections of the whole."""
    from pipeline.analyze.interpret import stored_perception
    from pipeline.analyze.tools import Tools
    from pipeline.lake.lookup import current_analyses
    from pipeline.track import Tracker

    tools, opened, sizes = Tools(config), _opened(lake), _videos(lake)
    perceived = {
        video: list(stored_perception(opened, analysis, tools))
        for video, analysis in current_analyses(opened, sizes).items()
    }
    motion = tools.motion

    def act() -> None:
        for video, pairs in perceived.items():
            tracker = Tracker(config.track, motion, (sizes[video]["width_px"], sizes[video]["height_px"]))
            for pair in pairs:
                tracker.update(*pair)
            tracker.finish()

    return _timed(act) | _counted(lake)


def _write(config: Config, videos: Sequence[str], lake: str, began: float) -> dict[str, Any]:
    """All rows of the whole into the tables of a new lake."""
    from pipeline.lake import Lake
    from pipeline.lake.lookup import run_sql
    from pipeline.lake.schema import PARTITIONED, TABLES

    opened = _opened(lake)
    rows = {
        name: run_sql(opened.table(name), name, f"SELECT * FROM {name}").cast(TABLES[name])
        for name in PARTITIONED
    }
    with tempfile.TemporaryDirectory(prefix="marey-bench-") as fresh:
        target = Lake.open(f"{fresh}/lake")

        def act() -> None:
            for name, part in rows.items():
                target.append(name, part)

        return _timed(act) | _counted(lake)


def _opened(lake: str) -> Lake:
    from pipeline.lake import Lake

    return Lake.open(lake, create=False)


def _videos(lake: str) -> dict[str, dict[str, Any]]:
    """Size and length of the videos that were analysed, by id."""
    from pipeline.lake.query import query

    rows = query(lake, "SELECT video_id, width_px, height_px, duration_s FROM videos").to_pylist()
    return {row["video_id"]: row for row in rows}


def _counted(lake: str) -> dict[str, Any]:
    """Sampled frames and seconds of what was analysed."""
    from pipeline.lake.query import query

    [row] = query(lake, "SELECT count(*) AS frames FROM frames").to_pylist()
    return {"frames": row["frames"], "video_s": sum(v["duration_s"] or 0.0 for v in _videos(lake).values())}


def _whole(config: Config, videos: Sequence[str], lake: str, began: float) -> dict[str, Any]:
    """`marey analyze` from the start of the process."""
    from pipeline.analyze import analyze
    from pipeline.analyze.tools import Tools

    tools = Tools(config)
    tools.load(perceiver=True)
    start_s = time.monotonic() - began
    summary = analyze(videos, lake, config)
    took = {"start_s": start_s, "wall_s": time.monotonic() - began, "cpu_s": cpu_s()}
    if failed := next((result for result in summary.results if result.error), None):
        raise SourceError(failed.error or failed.uri)
    return took | _counted(lake) | {"runtime": tools.perceiver.network.runtime}


_STAGES = {"decode": _decode, "cnn": _cnn, "track": _track, "write": _write, "whole": _whole}


if __name__ == "__main__":
    main()
