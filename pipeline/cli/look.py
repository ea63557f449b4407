"""`marey show`, `clip`, `report` and `zones`: for people to look at."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Cameras, ConfigFile, Json, Lake, app, command, put, say
from pipeline.cli.text import complain
from pipeline.cli.videos import originals

OpenPage = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


def hand_over(page: Path, opened: bool) -> None:
    """Print where a page is; open it if asked for."""
    put(str(page))
    if opened:
        import webbrowser

        if not webbrowser.open(page.absolute().as_uri()):
            say("no browser was found: open the page yourself")


@command(
    app,
    "show",
    "marey show gate.mp4 --lake ./lake --open",
    "marey show 3f2a9c01 --out look       # a video's or an event's id, eight digits are enough",
)
def show_command(
    wanted: Annotated[
        str, typer.Argument(metavar="VIDEO|EVENT_ID", help="A video's path, address or id; an event's id.")
    ],
    lake: Lake = "./lake",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the page; by default show-<video id>.")
    ] = None,
    copy: Annotated[
        bool | None,
        typer.Option(
            "--copy/--no-copy",
            help="Put the video beside the page, so that the folder can be sent; done with videos of buckets "
            "and web servers, without --no-copy.",
            show_default=False,
        ),
    ] = None,
    opened: OpenPage = False,
) -> None:
    """Make the page of a video: playback with boxes, timeline, events. It needs no network.

    Where the video is gone, or is not what was analysed, the tracks are shown over a small picture.
    """
    from dataclasses import replace

    from pipeline.errors import InputError
    from pipeline.lake.query import Reading
    from pipeline.report.curves import score_curves
    from pipeline.report.gather import find, gather
    from pipeline.report.show import write_show

    ask = Reading(lake)
    video_id, event = find(ask, wanted)
    record = gather(ask, video_id, wanted)
    folder = out or Path(f"show-{video_id[:12]}")
    curves = score_curves(lake, record)
    with originals() as videos:
        try:
            if copy is not False or "://" not in record.video["uri"]:
                record = videos.at_hand(record)
        except InputError as exc:
            complain(f"the page is without the video: {exc}", "WARNING")
            record = replace(record, file=None)
        remote = "://" in record.video["uri"]
        if remote and copy is False:
            record = replace(record, file=None)
        page = write_show(record, folder, event=event, curves=curves, copy=remote or bool(copy))
    hand_over(page, opened)


@command(
    app,
    "clip",
    "marey clip 3f2a9c01d4e5 --lake ./lake",
    "marey clip --where \"label = 'gate' and score > 0.9\" --annotate --out clips",
)
def clip_command(
    event_id: Annotated[
        str | None, typer.Argument(metavar="EVENT_ID", help="An event's id; eight digits are enough.")
    ] = None,
    lake: Lake = "./lake",
    where: Annotated[
        str | None, typer.Option("--where", help="All events of this condition, in SQL over `events`.")
    ] = None,
    annotate: Annotated[
        bool, typer.Option("--annotate", help="Draw boxes, trails, lines and captions on it.")
    ] = False,
    around: Annotated[
        float, typer.Option("--around", min=0, max=86_400, help="Seconds before the event and after it.")
    ] = 2.0,
    out: Annotated[Path, typer.Option("--out", help="Folder of the clips.")] = Path("clips"),
    as_json: Json = False,
) -> int:
    """Cut the video around events; beside each clip lies a JSON that says what it shows.

    Without --annotate packets are copied, without loss, from the key frame before, where the file allows it.
    """
    from pipeline.cli.output import to_json
    from pipeline.errors import InputError
    from pipeline.lake.query import Reading
    from pipeline.media.scan import Scanner
    from pipeline.report.clips import find_events, write_clip
    from pipeline.report.gather import gather

    ask, scanner = Reading(lake), Scanner()
    events = find_events(ask, event_id, where)
    if not events:
        say(f"no event of lake {lake} is such: {where}")
    written, failed = [], 0
    record = None
    with originals() as videos:
        for event in events:
            if record is None or record.video["video_id"] != event["video_id"]:
                record = gather(ask, event["video_id"])
            try:
                found = videos.at_hand(record)
                told = write_clip(found, event, out, scanner, around_s=around, drawn=annotate)
            except InputError as exc:
                failed += 1
                complain(f"event {event['event_id']}: {exc}")
                continue
            written.append(told)
            if not as_json:
                put(told["clip"]["file"])
    if as_json:
        put(to_json(written))
    return 1 if failed else 0


@command(
    app,
    "report",
    "marey report --lake ./lake --since 2025-03-01 --open",
    "marey report --camera 'gate*' --date 2025-03-01 --pages --out today",
)
def report_command(
    lake: Lake = "./lake",
    since: Annotated[
        datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="Recorded since (UTC).")
    ] = None,
    camera: Cameras = "*",
    on: Annotated[
        datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="Recorded on this date (UTC).")
    ] = None,
    pages: Annotated[
        bool, typer.Option("--pages", help="Also the page of each video, with links to them.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder of the page.")] = Path("report"),
    opened: OpenPage = False,
) -> None:
    """Make the page over many videos: events by hour, crossings, occupancy, heat maps, failures."""
    from pipeline.errors import UsageError
    from pipeline.lake.query import Reading
    from pipeline.report.gather import gather
    from pipeline.report.overview import write_overview
    from pipeline.report.show import write_show
    from pipeline.report.survey import Choice, survey

    ask = Reading(lake)
    found = survey(ask, Choice(since.date() if since else None, on.date() if on else None, camera))
    if not found.videos:
        raise UsageError(f"no video of lake {lake} is such", remedy="check --since, --date and --camera")
    for row in found.videos if pages else ():
        write_show(gather(ask, row["video_id"]), out / "videos" / row["video_id"])
    words = [
        camera if camera != "*" else "",
        f"since {since:%Y-%m-%d}" if since else "",
        f"{on:%Y-%m-%d}" if on else "",
    ]
    page = write_overview(found, out, " ".join(["Report", *filter(None, words)]))
    hand_over(page, opened)


@command(
    app,
    "zones",
    "marey zones gate-1 --lake ./lake --open",
    "marey zones gate.mp4 --config site.toml --out draw",
)
def zones_command(
    wanted: Annotated[
        str, typer.Argument(metavar="VIDEO|CAMERA", help="A camera's name, or a video's path, address or id.")
    ],
    lake: Lake = "./lake",
    config: ConfigFile = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the page.")] = Path("zones"),
    opened: OpenPage = False,
) -> None:
    """Make the page on which lines and zones are drawn, and counted at once against the stored tracks.

    Drawn at first are the rules of --config, else those that the video was analysed with.
    """
    from pipeline.config import load
    from pipeline.report.zones import find_scene, write_zones

    records = find_scene(lake, wanted)
    rules = load(config).rules_for(records[0].video["camera"]) if config is not None else None
    hand_over(write_zones(records, out, rules), opened)
