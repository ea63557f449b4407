"""Flows that find videos: `reconcile` lists what no message announced, `watch` works on a queue a while."""

from __future__ import annotations

import time
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from flows.orphans import free, orphans
from flows.server import server
from flows.submit import SHARD_SIZE, Submitted, Uploads, submit_shards
from flows.tags import named_by, tag_run
from pipeline import allowed
from pipeline.cli.text import printable
from pipeline.sqs import Queue
from pipeline.uploads import sweep_once, watch_queue


@flow(name="reconcile", flow_run_name=named_by("source"))
def reconcile(source: str, lake: str, shard_size: Annotated[int, Field(ge=1)] = SHARD_SIZE) -> dict[str, int]:
    """Submit what a listing shows and the lake does not know, except what is in work.

    Runs whose process is gone are marked as crashed before, so that their videos are not taken for in work.

    Args:
        source: directory, prefix or glob.
        lake: the lake.
        shard_size: videos per run.

    Returns:
        How many videos are undone, submitted, and left alone until tomorrow, since run after run for them
        ended without a word in the lake; the others are in work.
    """
    tag_run(lake)
    for uri in (source, lake):
        allowed.check(uri)
    with server() as client:
        lost = orphans(client)
        free(client, lost)
    log = get_run_logger()
    todo = sweep_once([source], lake, lambda text: log.warning("%s", printable(text)))
    found = submit_shards(todo, lake, shard_size) if todo else Submitted(0, ())
    submitted, left = found.num_videos, len(found.left_alone)
    if left:
        text = "runs for %d videos end without a word in the lake, and they get one a day: see those for %s"
        log.warning(text, left, printable(", ".join(found.left_alone[:5])))
    text = "%d undone, %d submitted, %d left alone, %d in work; %d runs without a process were freed"
    log.info(text, len(todo), submitted, left, len(todo) - submitted - left, len(lost))
    return {"undone": len(todo), "submitted": submitted, "left_alone": left}


@flow(name="watch", flow_run_name=named_by("source"))
def watch(source: str, lake: str, queue: str, minutes: Annotated[float, Field(gt=0)] = 55) -> None:
    """Work on a queue's messages for some minutes: for those who rather schedule this than run a service.

    Args:
        source: prefix below which objects count.
        lake: the lake.
        queue: URL of the queue.
        minutes: how long.
    """
    tag_run(lake)
    for uri in (source, lake, queue):
        allowed.check(uri)
    end, log = time.monotonic() + 60 * minutes, get_run_logger()
    watch_queue(
        source,
        lake,
        Queue(queue),
        Uploads(lake).submit,
        lambda text: log.info("%s", printable(text)),
        more=lambda: time.monotonic() < end,
    )
