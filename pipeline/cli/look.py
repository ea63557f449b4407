"""`marey show`: pages for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Lake, app, command, put, say

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
        bool, typer.Option("--copy", help="Put the video beside the page, so that the folder can be sent.")
    ] = False,
    opened: OpenPage = False,
) -> None:
    """Make the page of a video: playback with boxes, timeline, events. It needs no network."""
    from pipeline.report.curves import score_curves
    from pipeline.report.gather import find, gather
    from pipeline.report.show import write_show

    video_id, event = find(lake, wanted)
    record = gather(lake, video_id)
    folder = out or Path(f"show-{video_id[:12]}")
    page = write_show(record, folder, event=event, curves=score_curves(lake, record), copy=copy)
    hand_over(page, opened)
