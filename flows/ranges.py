"""A long video by several workers: ranges of its segments as runs of their own, interpreted once.

The run of the video perceives, too. It takes back every range that no worker has begun, so it needs no other
worker to come to its end, and it waits only for ranges that somebody works on. What a worker that died leaves
undone is perceived by the analysis that follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx
from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelled

from flows import report
from flows.gpu import one_per_gpu
from flows.orphans import lost
from flows.report import LogReporter
from flows.server import server
from flows.settings import Settings, read_settings
from flows.submit import submit
from flows.tags import tag_run
from pipeline import allowed
from pipeline.analyze import Options
from pipeline.analyze import ranges as work
from pipeline.cli.text import printable
from pipeline.config import Config
from pipeline.sources import name_of

QUEUE = "ranges"
"""Queue that comes before uploads: what is begun is finished first."""

TIMEOUT_S = 24 * 3600
"""Seconds after which a shard or a range is broken off: its decoders end, what is finished stays."""

RANGE_SEGMENTS = 10
POLL_S = 2.0


def _name() -> str:
    given = flow_run.parameters
    return f"{report.named([given['video']])} {given['first']}-{given['end']}"


@flow(name="perceive-range", flow_run_name=_name, timeout_seconds=TIMEOUT_S)
def perceive_range(video: str, lake: str, first: int, end: int, config: Settings = None) -> int:
    """Perceive a range of a video's segments into the lake's staging; no row tells of it.

    Args:
        video: the video.
        lake: the lake.
        first: first tick, of the grid of `video.sample_fps`.
        end: tick after the last.
        config: as for the analysis.

    Returns:
        How many segments were perceived.
    """
    tag_run(lake)
    for uri in (video, lake):
        allowed.check(uri)
    return _perceive(video, lake, read_settings(config), work.Range(first, end))


def perceive_together(
    video: str,
    lake: str,
    settings: Settings,
    config: Config,
    options: Options,
    range_segments: int = RANGE_SEGMENTS,
) -> work.Shared | None:
    """Perceive a video that is longer than a range with the help of whoever takes its ranges.

    Returns:
        What was begun for it, with whose attempt its analysis is to go on; None: nothing was.
    """
    shared = work.share(video, lake, config, range_segments, options)
    if shared is None:
        return None
    parts, log = shared.ranges, get_run_logger()
    log.info(
        "perceived in %d ranges of %d segments: %s", len(parts), range_segments, printable(name_of(video))
    )
    with shared.breaking_off(), server() as client, _taking_back(client) as runs:
        for part in parts[1:]:
            runs[part] = _submitted(client, video, lake, settings, part)
        _perceive(video, lake, config, parts[0])
        for part in reversed(parts[1:]):
            if _taken_back(client, runs[part]):
                del runs[part]
                _perceive(video, lake, config, part)
        _wait(client, list(runs.values()), log.info)
    return shared


@contextmanager
def _taking_back(client: SyncPrefectClient) -> Iterator[dict[work.Range, UUID | None]]:
    """Runs by range; those not begun are taken back if the run of the video breaks off, or is cancelled.

    They come before all uploads, and nobody would make rows of what they perceive.
    """
    runs: dict[work.Range, UUID | None] = {}
    try:
        yield runs
    except BaseException:
        with suppress(httpx.HTTPError, ObjectNotFound):  # why it broke off is what is to be told
            for run in runs.values():
                _taken_back(client, run)
        raise


def _perceive(video: str, lake: str, config: Config, part: work.Range) -> int:
    log = get_run_logger()
    with one_per_gpu(config, log.info):
        count = work.perceive_range(video, lake, config, part, LogReporter(log))
    text = "segments perceived in ticks %d to %d of %s: %d"
    log.info(text, part.first, part.end, name_of(video), count)
    return count


def _submitted(
    client: SyncPrefectClient, video: str, lake: str, settings: Settings, part: work.Range
) -> UUID | None:
    parameters = {"video": video, "lake": lake, "first": part.first, "end": part.end, "config": settings}
    name = f"{report.named([video])} {part.first}-{part.end}"
    key = f"{flow_run.id}-{part.first}"
    run = submit(client, "perceive-range", parameters, key=key, name=name, queue=QUEUE)
    return run.id if run is not None else None


def _taken_back(client: SyncPrefectClient, run: UUID | None) -> bool:
    """Whether no worker has begun the run; then none will."""
    if run is None:
        return True
    state = client.read_flow_run(run).state
    if state is not None and state.type is not StateType.SCHEDULED:
        return False
    client.set_flow_run_state(run, Cancelled(message="perceived by the run of the video"), force=True)
    return True


def _wait(client: SyncPrefectClient, runs: list[UUID | None], say: Callable[[str], None]) -> None:
    """Wait for runs that are at work, as long as they show signs of life."""
    open_runs = [run for run in runs if run is not None]
    while open_runs:
        for found in [client.read_flow_run(run) for run in open_runs]:
            if found.state is not None and found.state.is_final():
                open_runs.remove(found.id)
            elif why := lost(client, found):
                say(f"{found.name} is waited for no longer: {why}")
                open_runs.remove(found.id)
        if open_runs:
            time.sleep(POLL_S)
