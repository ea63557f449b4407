"""`marey export` and `marey import`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import Lake, app, command, put, say
from pipeline.cli.videos import originals

if TYPE_CHECKING:
    from pipeline.report.gather import Record


class ExportFormat(StrEnum):
    mot = "mot"
    coco = "coco"
    cvat = "cvat"
    csv = "csv"


class ImportFormat(StrEnum):
    coco = "coco"
    cvat = "cvat"


@command(
    app,
    "export",
    "marey export gate.mp4 --format mot --lake ./lake",
    "marey export gate.mp4 yard.mp4 --format coco --pictures --out to-correct",
)
def export_command(
    videos: Annotated[
        list[str], typer.Argument(metavar="VIDEO...", help="Paths, addresses or ids.", show_default=False)
    ],
    form: Annotated[ExportFormat, typer.Option("--format", "-f", help="What to write.")],
    lake: Lake = "./lake",
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("export"),
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Also the sampled frames, as JPEG files.")
    ] = False,
) -> None:
    """Write tracks in the formats of other tools, with a table of each frame's time.

    Frames count from 0, and from 1 in MOT: img1/000001.jpg is frame 0. MOT's classes are the lines of
    gt/labels.txt, and frameRate in seqinfo.ini is the true one, which may be a fraction. An export that is
    there already, in the same format, is not written over: somebody may have corrected it.
    """
    from pipeline.exchange.export import check_unwritten, export
    from pipeline.lake.query import Reading
    from pipeline.report.gather import find, gather

    ask, names = Reading(lake), dict[str, str]()
    for video in videos:
        names.setdefault(find(ask, video)[0], video)
    check_unwritten(out, form.value, names)
    with originals() as copies:
        found = (gather(ask, key, video) for key, video in names.items())
        records = map(copies.at_hand, found) if pictures else found
        for folder in export(ask, records, form.value, out, pictures=pictures):
            put(str(folder))


@command(
    app,
    "import",
    "marey import corrected.json --format coco --lake ./lake --out mine",
    "marey import annotations.xml --format cvat --video gate.mp4 --out mine",
)
def import_command(
    file: Annotated[Path, typer.Argument(help="What the tool wrote.", show_default=False)],
    form: Annotated[ImportFormat, typer.Option("--format", "-f", help="What it is.")],
    lake: Lake = "./lake",
    video: Annotated[
        str | None, typer.Option("--video", help="Of which video; a CVAT file does not say.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("training"),
) -> None:
    """Make training data for `marey train detector` of corrected boxes: a COCO file with its pictures.

    Of a CVAT task with tracks ("CVAT for video 1.1") all frames are taken, of one with pictures ("CVAT for
    images 1.1") and of a COCO file those in it; without boxes they are background. Boxes are refused that
    are not of the video's frames as it was last analysed.
    """
    from pipeline.errors import UsageError
    from pipeline.exchange.training import import_boxes
    from pipeline.lake.query import Reading
    from pipeline.report.gather import find, gather

    ask = Reading(lake)

    def record_of(video_id: str | None) -> Record:
        wanted = video_id or video
        if wanted is None:
            raise UsageError("--format cvat needs --video")
        return gather(ask, find(ask, wanted)[0], wanted)

    with originals() as copies:
        made = import_boxes(ask, file, form.value, record_of, copies.at_hand, out)
    say(f"{made.images} pictures, {made.boxes} boxes")
    put(str(made.data))
