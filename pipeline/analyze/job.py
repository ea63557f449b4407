"""Analysing videos into a lake, from its call to its summary."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack

from pipeline.analyze.outcome import Options, Reporter, Silent, Summary
from pipeline.analyze.plan import Planner
from pipeline.analyze.probing import open_prober
from pipeline.analyze.run import Run
from pipeline.analyze.tools import Tools
from pipeline.config import Config
from pipeline.lake import Lake
from pipeline.lake.location import Location
from pipeline.sources import Source, Spool, find


def analyze(
    inputs: Sequence[str | Source],
    lake_uri: str,
    config: Config,
    options: Options | None = None,
    reporter: Reporter | None = None,
) -> Summary:
    """Analyse videos into a lake. What is done stays done whenever this is interrupted.

    Args:
        inputs: files, directories and globs; objects and prefixes on s3://; https:// files; or what
            `sources.find` found.
        lake_uri: a directory or s3://bucket/prefix; made if it is not there.
        config: the resolved config.
        options: which videos are taken.
        reporter: where progress goes.

    Raises:
        UsageError: nothing to work on, or wrong config; nothing was begun.
        ModelError: weights cannot be used; nothing was begun.
        StorageError: the lake cannot be written; videos committed before stay.
    """
    options, reporter = options or Options(), reporter or Silent()
    began = time.monotonic()
    entries = find(inputs, since=options.since, say=reporter.note)
    tools = Tools(config)
    with ExitStack() as stack:
        lake = _open_lake(lake_uri, config, options, stack)
        prober = stack.enter_context(open_prober())
        spool = stack.enter_context(Spool(int(config.run.max_spool_gb * 1e9)))
        run = Run(lake, tools, options, reporter, spool)
        # Plans are made in a thread of their own, and a lake is not for several.
        run.analyze_all(entries, Planner(Lake(lake.location), tools, options, prober, spool))
    return Summary(tuple(run.results), time.monotonic() - began)


def _open_lake(lake_uri: str, config: Config, options: Options, stack: ExitStack) -> Lake:
    """The lake; for a dry run, which makes none, an empty one for as long as it takes."""
    if not options.dry_run:
        return Lake.open(lake_uri, conditional_put=config.lake.conditional_put)
    if Lake(Location.parse(lake_uri)).is_made():
        return Lake.open(lake_uri, create=False)
    return Lake.open(stack.enter_context(tempfile.TemporaryDirectory(prefix="marey-")))
