"""`marey watch` and `marey deploy`: what has to do with a Prefect server is handed over to `flows`, by name.

Nothing of pipeline imports flows; the command stands above both and loads what it is asked for.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.allowed import sealed
from pipeline.cli.app import ConfigFile, DryRun, Lake, Settings, app, command, put, read_config, say
from pipeline.errors import UsageError


def flows(module: str) -> Any:
    """A module of flows, which loads Prefect."""
    return importlib.import_module(f"flows.{module}")


@command(
    app,
    "watch",
    "marey watch incoming/ --lake ./lake",
    "marey watch s3://uploads/ --lake s3://archive/lake --queue https://sqs.eu-west-1.amazonaws.com/1/uploads",
)
def watch_command(
    source: Annotated[str, typer.Argument(help="A directory, or s3://bucket/prefix.", show_default=False)],
    lake: Lake = "./lake",
    config: ConfigFile = None,
    settings: Settings = None,
    queue: Annotated[
        str | None, typer.Option(help="URL of the SQS queue that the bucket's notifications go to.")
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Without a queue: seconds between listings.")] = 10.0,
    settle: Annotated[
        float, typer.Option(min=0, help="Seconds for which a local file must not have changed.")
    ] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="List once, submit what is undone, and end.")] = False,
) -> int:
    """Analyse videos as they arrive, until interrupted.

    With a Prefect server (PREFECT_API_URL) each becomes a run of analyze-video/marey, with the deployment's
    config; more than 64 at once become runs of analyze-batch/marey, behind the uploads. Without a server this
    process analyses them. What has a result or a failure in the lake is left alone.
    """
    from pipeline.sqs import Queue
    from pipeline.uploads import sweep_once, watch_queue, watch_sweep
    from pipeline.uploads.watch import check_source

    if queue is not None and not source.startswith("s3://"):
        raise UsageError("--queue needs a bucket to watch", got=source, remedy="give s3://bucket/prefix")
    source, lake = _absolute(source), _absolute(lake)
    check_source(source)
    check_source(lake, is_lake=True)
    messages = Queue(queue) if queue is not None else None
    submit = _submitter(lake, config, settings)
    if messages is not None:
        watch_queue(source, lake, messages, submit, say)
    elif once:
        return submit(sweep_once([source], lake, say)) or 0
    else:
        watch_sweep([source], lake, submit, say, every_s=every, settle_s=settle)
    return 0


def _submitter(lake: str, config: Path | None, settings: Sequence[str] | None) -> Any:
    """What takes videos: the server's runs, or the analysis in this process, which returns an exit code."""
    resolved = read_config(config, settings)
    if flows("server").is_configured():
        if config is not None or settings:
            remedy = "give it to `marey deploy`"
            raise UsageError("with a Prefect server the deployment holds the config", remedy=remedy)
        flows("submit").check_deployment("analyze-video")
        say("videos are submitted to the Prefect server")
        return flows("submit").Uploads(lake).submit
    say("no Prefect server is configured: videos are analysed here")
    return partial(_analyze_here, lake=lake, config=resolved)


def _analyze_here(todo: Sequence[Any], *, lake: str, config: Any) -> int:
    from pipeline.analyze import analyze
    from pipeline.cli.progress import reporter

    if not todo:
        return 0
    try:
        with reporter(quiet=True) as lines:
            # What a bucket has listed is not asked for once more, object by object.
            inputs = [item.source if item.source.is_remote else item.uri for item in todo]
            summary = analyze(inputs, lake, config, reporter=lines)
        # Of files that are all gone since they were listed, too, nothing is left to be done.
        gone = all(result.error_code == "missing" for result in summary.results)
        return 0 if gone else summary.exit_code()
    except UsageError as exc:
        if exc.code != "missing":
            raise
        say(str(exc))
        return 0


@command(
    app,
    "deploy",
    "marey deploy --source s3://uploads/ --lake s3://archive/lake",
    "marey deploy --source /footage --lake /lake --allow /footage --allow /lake --config site.toml",
    "marey deploy --dry-run --source /footage --lake /lake",
)
def deploy_command(
    source: Annotated[str, typer.Option(help="What `reconcile` lists: a directory, prefix or glob.")],
    lake: Annotated[str, typer.Option("--lake", "-l", help="The lake of all deployments.")],
    config: ConfigFile = None,
    queue: Annotated[str | None, typer.Option(help="SQS queue of the bucket's notifications.")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Prefix of URIs that runs may use; may be repeated. Default: source and lake."),
    ] = None,
    file: Annotated[Path, typer.Option(help="Pools, queues, schedules.")] = Path("deploy/prefect.yaml"),
    dry_run: DryRun = False,
) -> None:
    """Put pools, queues, deployments and schedules onto the Prefect server. Again: only what differs."""
    from pipeline.sqs import Queue
    from pipeline.uploads.watch import check_source

    spec = flows("spec").read_spec(file)
    resolved = read_config(config, None)
    source, lake = _absolute(source), _absolute(lake)
    check_source(source)
    check_source(lake, is_lake=True)
    if queue is not None:
        Queue(queue)
    place = str(config.resolve()) if config is not None else None
    values = {"source": source, "lake": lake, "queue": queue, "config": place}
    # What the config names is the deployer's choice, not that of who submits a run; so is the queue.
    settings = flows("settings")
    named = [place, *map(_entry, _absolute_only(config, settings.files(resolved)))] if place else []
    named += map(sealed, settings.receivers(resolved).values()) if place else ()
    named += [queue] if queue is not None else []
    allowed = [*(map(_absolute, allow) if allow else (_folder(source), lake)), *named]
    with flows("server").server() as client:
        for change in flows("deploy").deploy(client, spec, values, allowed, dry_run=dry_run):
            put(
                f"{change.kind:11} {change.state:9} {change.name}"
                + (f"  {change.note}" if change.note else "")
            )


def _absolute(name: str) -> str:
    """A name that means the same in every folder, as runs start in one of their own; addresses as they are.

    Raises:
        UsageError: it is empty.
    """
    if not name:
        raise UsageError("a name is empty", remedy="give a directory or s3://bucket/prefix")
    if "://" in name:
        return name
    path = Path(os.path.expanduser(name))
    return str(path.resolve() if ".." in path.parts else path.absolute())


def _absolute_only(config: Path | None, names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if "://" not in name and not Path(name).is_absolute():
            remedy = "give its absolute path: runs start in folders of their own"
            raise UsageError(f"config {config} names {name}", remedy=remedy)
    return names


def _entry(name: str) -> str:
    """What lists weights in a pool, which everyone may read who may ask the server: no query, no password."""
    return sealed(name) if "://" in name and {"?", "@"} & set(name) else name


def _folder(source: str) -> str:
    """The part of a pattern before its first wild card's folder; what exists under the name is no pattern."""
    if "://" not in source and Path(source).exists():
        return source
    wild = min((source.index(sign) for sign in "*?[" if sign in source), default=None)
    return source if wild is None else source[: source.rindex("/", 0, wild) + 1]
