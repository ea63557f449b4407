"""Sampled frames as pictures, and the table that says at what time each of them is shown."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from pipeline.errors import MediaError, SourceError, StorageError, UsageError, os_errors_as
from pipeline.lake.query import Reading
from pipeline.media.container import Limits
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Frame
from pipeline.report.gather import Record, stored
from pipeline.report.palette import jpeg

JPEG_QUALITY = 95
SAME_S = 1e-4
"""Times nearer than this are those of one frame."""


_PICTURE = re.compile(r"(?:^|/)(img1/)?(\d+)\.\w+$")
_FOLDER = re.compile(r"([0-9a-f]{32})/")  # of a video's pictures: its name ends with the video_id


def picture_name(frame: int, form: str = "coco") -> str:
    """File of a frame's picture in the video's folder; MOTChallenge counts from 1, and names the folder."""
    return f"img1/{frame + 1:06}.jpg" if form == "mot" else f"frames/{frame:06}.jpg"


def frame_of(name: str) -> int | None:
    """The frame of a picture that an export named, whatever folders a tool has put before; else None."""
    found = _PICTURE.search(name)
    return None if found is None else int(found[2]) - (found[1] is not None)


def video_of(name: str) -> str | None:
    """The video_id in the folder of a picture that an export named, if it is still there."""
    found = _FOLDER.search(name)
    return None if found is None else found[1]


def frame_table(lake: str | Reading, record: Record) -> pa.Table:
    """The sampled frames of a video: frame (0 is the first), sample, pts, t, time_utc."""
    rows = stored(lake, record.analysis, "frames", "sample", ["sample", "pts", "t", "time_utc"])
    return rows.add_column(0, "frame", pa.array(np.arange(rows.num_rows)))


def numbered(record: Record, frames: pa.Table) -> pa.Table:
    """TRACKS rows with a column `frame`, in order of frame and track_id; `class` is the object's."""
    column = record.tracks.schema.get_field_index("class")
    tracks = record.tracks.set_column(column, "class", record.kinds)
    at = pc.index_in(tracks["sample"], frames["sample"])
    rows = tracks.append_column("frame", frames["frame"].take(at))
    return rows.sort_by([("frame", "ascending"), ("track_id", "ascending")])


def write_csv(path: Path, rows: pa.Table) -> None:
    """Write a table of plain columns.

    Raises:
        StorageError: the file cannot be written.
    """
    out = io.BytesIO()
    pacsv.write_csv(rows, out)
    write_bytes(path, out.getvalue())


def check_new(path: Path, remedy: str) -> None:
    """Refuse to put a file in the place of one that may hold hours of somebody's work.

    Raises:
        UsageError: there is one.
    """
    if path.exists():
        raise UsageError(f"{path} is there already", remedy=remedy)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file and the folders above it.

    Raises:
        StorageError: it cannot be written.
    """
    with os_errors_as(StorageError, f"{path} cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_pictures(record: Record, wanted: Mapping[float, Path]) -> None:
    """Write frames of a video as JPEG files, upright and in displayed pixels.

    Args:
        record: whose video.
        wanted: seconds at which a frame begins to be shown -> its file.

    Raises:
        SourceError, MediaError: the video is not at hand, cannot be read, or lacks a frame of a time.
        StorageError: a file cannot be written.
    """
    if record.file is None:
        raise SourceError(f"{record.video['uri']} is not at hand", remedy="copy it here", code="missing")
    times = sorted(wanted)
    with PyavReader(record.file, Limits()) as reader:
        info = reader.info
        for event in reader.events():
            if not times:
                return
            if isinstance(event, Frame) and abs(float(event.ticks * info.time_base) - times[0]) < SAME_S:
                path = wanted[times.pop(0)]
                write_bytes(path, jpeg(event.render(info.width_px, info.height_px), JPEG_QUALITY))
    if times:
        raise MediaError(
            f"{record.video['uri']} has no frame at {times[0]:.3f} s", remedy="was the file replaced?"
        )
