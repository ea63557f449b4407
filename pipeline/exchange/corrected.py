"""Corrected boxes as other tools' files give them, and whether they are of the video as it is sampled now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from pipeline.exchange.pictures import SAME_S


@dataclass(frozen=True)
class Box:
    """A box, xyxy in pixels. COCO's flags say that it is of many objects, or of nothing that counts."""

    label: str
    sides: tuple[float, float, float, float]
    iscrowd: int = 0
    ignore: int = 0


@dataclass(frozen=True)
class Picture:
    """A frame (0 is the first) with all of its boxes, and as far as the file says its pixels and second."""

    frame: int
    boxes: tuple[Box, ...]
    size: tuple[int, int] | None = None
    t: float | None = None


def check(path: Path, picture: Picture, times: Sequence[float], size: tuple[int, int] | None) -> None:
    """Refuse what would be trained on as boxes beside their objects.

    Args:
        path: the file that the picture is from.
        picture: a picture of it.
        times: seconds of the video's sampled frames.
        size: width and height of the video in displayed pixels, if known.

    Raises:
        InputError: the video has no such frame, shows it at another time or in another size, or a box is
            none.
    """
    frame = picture.frame
    if not 0 <= frame < len(times):
        raise no_frame(path, frame, len(times))
    if picture.t is not None and abs(picture.t - times[frame]) >= SAME_S:
        raise InputError(
            f"{path}: frame {frame} was shown at {picture.t:.3f} s when it was exported",
            got=f"{times[frame]:.3f} s",
            remedy="the video was analysed again with other frames: export it anew",
        )
    if size is not None and picture.size is not None and picture.size != size:
        raise InputError(
            f"{path}: frame {frame} is {picture.size[0]} x {picture.size[1]} pixels there",
            got=f"{size[0]} x {size[1]} in the video",
            remedy="boxes must be in pixels of the pictures that were exported",
        )
    for box in picture.boxes:
        x1, y1, x2, y2 = box.sides
        if not (all(map(math.isfinite, box.sides)) and x1 < x2 and y1 < y2):
            raise InputError(
                f"{path}: frame {frame} has a {box.label!r} that is no box",
                got=f"{x1:g}, {y1:g}, {x2:g}, {y2:g}",
                remedy="its sides are left, top, right, bottom",
            )


def no_frame(path: Path, frame: int, num_frames: int) -> InputError:
    """The error of a frame that the video does not have."""
    return InputError(
        f"{path}: frame {frame} is not one of the video's {num_frames} sampled frames",
        remedy="is it of this video, and was that analysed again since the export?",
    )
