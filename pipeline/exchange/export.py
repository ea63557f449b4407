"""Tracks of videos in other tools' formats.

Each video has a folder `<name>-<video_id>` with `frames.csv`, the time of every frame; there lie

    mot    gt/gt.txt and gt/labels.txt (flag, class and visibility in columns 7 to 9), tracks.txt (a result:
           the score in column 7), seqinfo.ini; frame numbers are those of frames.csv + 1, and so are the
           names of pictures: img1/000001.jpg is frame 0. frameRate is the true one, so it may be a fraction
    cvat   annotations.xml, "CVAT for video 1.1"
    csv    tracks.csv, objects.csv, events.csv: the tables' rows, with their times in UTC
    coco   one annotations.json for all videos, beside the folders

and where pictures are asked for `frames/<frame>.jpg`: what a task of CVAT or a COCO tool is made from. The
class is the object's throughout, but in tracks.csv.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.exchange.coco import CocoFile
from pipeline.exchange.cvat import to_cvat
from pipeline.exchange.pictures import (
    check_new,
    frame_table,
    numbered,
    picture_name,
    write_bytes,
    write_csv,
    write_pictures,
)
from pipeline.lake.query import Reading
from pipeline.lake.records import Place, place_rows
from pipeline.report.gather import Record

_DATA = "annotations.json"
_LAST = {"mot": "gt/gt.txt", "cvat": "annotations.xml", "csv": "events.csv"}
"""What is written last of a video: where it is, the export is whole."""


def check_unwritten(out: Path, form: str, videos: Iterable[str]) -> None:
    """Refuse to write over an earlier export of one of these videos (ids): somebody may have corrected it.

    Raises:
        UsageError: there is one; nothing is written.
    """
    folders = [folder for video in videos for folder in out.glob(f"*-{video}")]
    for path in [out / _DATA] if form == "coco" else [folder / _LAST[form] for folder in folders]:
        check_new(path, "give another --out, or remove it")


def export(
    lake: str | Reading, records: Iterable[Record], form: str, out: Path, *, pictures: bool = False
) -> list[Path]:
    """Write videos as mot, coco, cvat or csv; returns the folders, one per video.

    What is there is written over: see `check_unwritten`.

    Raises:
        InputError: a video has no result.
        SourceError, MediaError: pictures are wanted, and a video is not at hand or cannot be read.
        StorageError: a file cannot be written.
    """
    folders, coco = [], CocoFile()
    videos: list[dict[str, Any]] = []  # of the COCO file
    for record in records:
        if record.analysis is None:
            last = record.failures[-1]["error"] if record.failures else None
            raise InputError(f"{record.video['uri']} was never analysed with success", got=last)
        folder = out / folder_name(record)
        frames = frame_table(lake, record)
        rows = numbered(record, frames)
        write_csv(folder / "frames.csv", frames)
        if pictures:
            times = zip(frames["t"].to_pylist(), frames["frame"].to_pylist(), strict=True)
            write_pictures(record, {t: folder / picture_name(number, form) for t, number in times})
        if form == "mot":
            _write_mot(folder, record, rows, frames.num_rows)
        elif form == "cvat":
            name = Path(record.video["uri"]).name
            write_bytes(folder / _LAST[form], to_cvat(rows, frames.num_rows, record.size, name))
        elif form == "csv":
            _write_tables(folder, record)
        else:
            _add_to_coco(coco, videos, record, rows, frames, folder.name)
        folders.append(folder)
    if form == "coco":
        write_bytes(out / _DATA, coco.text(videos=videos).encode("utf-8"))
    return folders


def folder_name(record: Record) -> str:
    """Folder of a video: its name in plain letters, and its id, by which an import finds it again."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", Path(record.video["uri"]).stem).strip("._")[:80]
    return f"{plain or 'video'}-{record.video['video_id']}"


def _write_mot(folder: Path, record: Record, rows: pa.Table, num_frames: int) -> None:
    labels = sorted(set(rows["class"].to_pylist()))
    truth, result = [], []
    for row in rows.to_pylist():
        x, y = row["x1"], row["y1"]
        w, h = row["x2"] - x, row["y2"] - y
        head = f"{row['frame'] + 1},{row['track_id']},{x:.9g},{y:.9g},{w:.9g},{h:.9g}"
        truth.append(f"{head},1,{labels.index(row['class']) + 1},{int(row['observed'])}\n")
        result.append(f"{head},{row['score']:.9g},-1,-1,-1\n")
    width, height = record.size
    # Of a stream slower than the grid each frame is sampled once.
    rates = (record.config.get("video", {}).get("sample_fps"), record.video["fps_mean"])
    fps = min(filter(None, rates), default=25)
    info = (
        f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate={fps:g}\nseqLength={num_frames}\n"
        f"imWidth={width}\nimHeight={height}\nimExt=.jpg\n"
    )
    plain = [re.sub(r"[\r\n]", " ", label) + "\n" for label in labels]
    files = {"gt/labels.txt": plain, "tracks.txt": result, "seqinfo.ini": [info], _LAST["mot"]: truth}
    for name, lines in files.items():
        write_bytes(folder / name, "".join(lines).encode("utf-8"))


def _write_tables(folder: Path, record: Record) -> None:
    """The tables' rows; lists as JSON, since CSV has none."""
    write_csv(folder / "tracks.csv", _timed("tracks", record))
    for name, nested in (("objects", "trajectory"), ("events", "track_ids")):
        table = _timed(name, record)
        texts = [json.dumps(value) for value in table[nested].to_pylist()]
        at = table.schema.get_field_index(nested)
        write_csv(folder / f"{name}.csv", table.set_column(at, nested, pa.array(texts, pa.string())))


def _timed(name: str, record: Record) -> pa.Table:
    """Rows of a table with its columns of UTC times, which are null where the recording time is not known."""
    video = record.video
    place = Place(video["video_id"], video["camera"], video["date"], "", video["recorded_at"])
    rows = place_rows(name, getattr(record, name), place)
    return rows.drop_columns(["video_id", "camera", "date", "run_id"])  # the folder's name tells the video


def _add_to_coco(
    coco: CocoFile, videos: list[dict[str, Any]], record: Record, rows: pa.Table, frames: pa.Table,
    folder: str,
) -> None:  # fmt: skip
    number, first = len(videos) + 1, len(coco.images) + 1
    videos.append({"id": number, "name": record.video["uri"], "video_id": record.video["video_id"]})
    for row in frames.to_pylist():
        file_name = f"{folder}/{picture_name(row['frame'])}"
        coco.add_image(file_name, record.size, video_id=number, frame_id=row["frame"], t=row["t"])
    for row in rows.to_pylist():
        coco.add_box(
            first + row["frame"],
            row["class"],
            (row["x1"], row["y1"], row["x2"], row["y2"]),
            iscrowd=0,
            score=row["score"],
            track_id=row["track_id"],
            observed=row["observed"],
        )
