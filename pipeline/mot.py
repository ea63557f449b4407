"""MOTChallenge text: one box a row, `frame,id,left,top,width,height,confidence,...`, frames from 1.

Detections have id -1; ground truth has a flag in the seventh column, and in MOT16/17 a class and a visibility
behind it. Format: Leal-Taixé et al. 2015 (arXiv 1504.01942), Milan et al. 2016 (arXiv 1603.00831).
A class is one of MOT17's (1 pedestrian, 2 person on a vehicle, 3 car, ...) or, where labels.txt lies beside
the file, as in exports of marey and CVAT, the number of a line there.
"""

from __future__ import annotations

import configparser
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError, SourceError, StorageError, UsageError, os_errors_as

MOT = pa.schema(
    [
        ("frame", pa.int64()),  # from 1
        ("id", pa.int64()),  # -1 for a detection
        ("x1", pa.float64()),  # pixels
        ("y1", pa.float64()),
        ("x2", pa.float64()),
        ("y2", pa.float64()),
        ("score", pa.float64()),  # seventh column: confidence, or the flag of ground truth; 1 if absent
        ("class", pa.int64()),  # of nine-column ground truth, else null
        ("visibility", pa.float64()),  # of nine-column ground truth, else null
    ]
)

MAX_FRAME = 10_000_000
"""Number of a frame above which it is taken for a mistake: every frame before it costs time and memory."""

MAX_FPS = 10_000

LABELS = "labels.txt"
"""File beside a ground truth with the name of each class, a line each: the first has number 1."""

NUM_CLASS_COLUMNS = 9
"""Columns of a ground truth with class and visibility (MOT16, MOT17, MOT20)."""


@dataclass(frozen=True)
class SequenceInfo:
    """What seqinfo.ini says of a sequence."""

    fps: float
    num_frames: int | None
    width_px: int | None
    height_px: int | None


def read_mot(path: Path) -> pa.Table:
    """Rows of a MOT file (`MOT` schema) in order of frame, plain or gzipped (.gz).

    Raises:
        SourceError: the file cannot be read.
        InputError: a line is malformed, not finite, or not a box; names file and line.
    """
    rows = [
        _parse(line, f"{path.name}:{number}")
        for number, line in enumerate(_read_text(path).splitlines(), 1)
        if line.strip() and not line.startswith("#")
    ]
    if not rows:
        return MOT.empty_table()
    columns = [pa.array(column, kind.type) for column, kind in zip(zip(*rows, strict=True), MOT, strict=True)]
    table = pa.table(columns, schema=MOT)
    return table.take(pa.array(np.argsort(table["frame"].to_numpy(), kind="stable")))


def read_truth(path: Path) -> pa.Table:
    """Rows of a ground truth; `class` is null where labels.txt beside it says what its numbers are.

    MOT17 counts pedestrians only, and what is like them as neither found nor missed. Of classes of one's own
    each counts, as in a truth without classes.

    Raises:
        SourceError, InputError: as `read_mot`.
    """
    rows = read_mot(path)
    if not path.with_name(LABELS).is_file():
        return rows
    at = MOT.get_field_index("class")
    return rows.set_column(at, MOT.field(at), pa.nulls(rows.num_rows, pa.int64()))


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except FileNotFoundError as exc:
        raise SourceError(f"no such file: {path}") from exc
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as exc:
        raise SourceError(f"{path} cannot be read as text", remedy=str(exc)) from exc


def _parse(line: str, where: str) -> tuple[object, ...]:
    try:
        values = [float(x) for x in line.rstrip().rstrip(",").split(",")]
    except ValueError:
        raise InputError(f"{where}: not comma-separated numbers", got=line.strip()[:60]) from None
    if len(values) < 6:
        raise InputError(
            f"{where}: {len(values)} columns", remedy="frame,id,left,top,width,height[,confidence] are needed"
        )
    if not all(np.isfinite(values)):
        raise InputError(f"{where}: a value is not finite", got=line.strip()[:60])
    frame, number, left, top, width, height = values[:6]
    if not 1 <= frame <= MAX_FRAME or frame != int(frame) or number != int(number) or abs(number) > 2**53:
        raise InputError(
            f"{where}: frame and id must be whole numbers, frames from 1 to {MAX_FRAME}",
            got=line.strip()[:60],
        )
    if width <= 0 or height <= 0:
        raise InputError(f"{where}: width and height must be above 0", got=(width, height))
    score = values[6] if len(values) > 6 else 1.0
    labelled = len(values) == NUM_CLASS_COLUMNS
    kind, seen = (int(values[7]), values[8]) if labelled else (None, None)
    return int(frame), int(number), left, top, left + width, top + height, score, kind, seen


def write_mot(path: Path, tracks: pa.Table) -> None:
    """Write TRACKS rows as a MOT result; frame = sample + 1, coordinates in pixels with two decimals.

    Raises:
        StorageError: the file cannot be written; what stood there is then lost.
    """
    names = ("sample", "track_id", "x1", "y1", "x2", "y2", "score")
    columns = (tracks[name].to_pylist() for name in names)
    lines = [
        f"{sample + 1},{number},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{score:.4f},-1,-1,-1\n"
        for sample, number, x1, y1, x2, y2, score in zip(*columns, strict=True)
    ]
    with os_errors_as(StorageError, f"{path} cannot be written"):
        path.write_text("".join(lines), encoding="utf-8")


def read_seqinfo(near: Path) -> SequenceInfo | None:
    """seqinfo.ini beside a det or gt file, or one folder above; None if there is none.

    Raises:
        InputError: the file is there but says no usable frame rate.
    """
    for folder in (near.parent, near.parent.parent):
        path = folder / "seqinfo.ini"
        if path.is_file():
            return _parse_seqinfo(path)
    return None


def _parse_seqinfo(path: Path) -> SequenceInfo:
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        section = parser["Sequence"]
        fps = float(section["frameRate"])
        sizes = [
            int(section[key]) if key in section else None for key in ("seqLength", "imWidth", "imHeight")
        ]
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError, ValueError) as exc:
        raise InputError(f"{path} has no usable [Sequence]", remedy=str(exc)) from exc
    if not 0 < fps <= MAX_FPS:
        raise InputError(f"{path}: frameRate must be above 0, up to {MAX_FPS}", got=fps)
    return SequenceInfo(fps, *sizes)


def frame_rate(given: float | None, info: SequenceInfo | None) -> float | None:
    """Frames per second: the given ones, else those of seqinfo.ini; None where neither says.

    Raises:
        UsageError: those given are no rate.
    """
    if given is not None and not 0 < given <= MAX_FPS:
        raise UsageError(f"frames per second must be above 0, up to {MAX_FPS}", got=given)
    return given if given is not None else info.fps if info else None
