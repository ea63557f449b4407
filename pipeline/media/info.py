"""What a video says of itself: `VideoInfo`, and how a stored picture is turned upright."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any, Literal

TimeSource = Literal["pts", "dts", "duration"]

_MAX_ASPECT = 32


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is shown: mirrored left-right first, then turned counter-clockwise.

    `rotation` is 0, 90, 180 or 270 degrees; other angles are taken to the nearest of these.
    """

    rotation: int = 0
    mirrored: bool = False

    def __post_init__(self) -> None:
        if self.rotation not in (0, 90, 180, 270):
            raise ValueError(f"rotation is 0, 90, 180 or 270 degrees, got {self.rotation}")

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places."""
        return self.rotation in (90, 270)

    @classmethod
    def of_matrix(cls, data: bytes) -> Orientation:
        """From a display matrix: nine int32, of which the first 2x2 part (a b; c d) turns and mirrors.

        A point goes from (x, y) to (a x + c y, b x + d y), y downwards (ISO/IEC 14496-12, 8.2.2). A matrix
        without a direction counts as upright.
        """
        a, b, _, c, d, *_ = struct.unpack("=9i", data[:36])
        mirrored = a * d - b * c < 0
        if mirrored:
            a, b = -a, -b
        if a == b == 0:
            return cls()
        clockwise = math.degrees(math.atan2(b, a))
        return cls(rotation=round(-clockwise / 90) % 4 * 90, mirrored=mirrored)


@dataclass(frozen=True)
class VideoInfo:
    """One video stream, as its headers and its first frame tell.

    Sizes named `width_px`, `height_px` are displayed pixels: after sample aspect (which changes the width),
    mirroring and rotation. `streams` describes every stream of the file in a few words, by its index; the one
    that is read is `stream_index`, the largest video stream. `duration_s`, `fps_mean` and `creation_time` are
    what the container claims: hints, None where it claims nothing credible.
    """

    container: str
    codec: str
    pix_fmt: str | None
    stream_index: int
    streams: tuple[str, ...]
    width_px: int
    height_px: int
    coded_width: int
    coded_height: int
    sample_aspect: Fraction
    rotation: int
    mirrored: bool
    time_base: Fraction
    fps_mean: float | None
    duration_s: float | None
    creation_time: datetime | None

    def to_json(self) -> dict[str, Any]:
        """Plain values that JSON can carry between processes; `from_json` is its inverse."""
        values = dict(vars(self))
        values["sample_aspect"] = str(self.sample_aspect)
        values["time_base"] = str(self.time_base)
        values["creation_time"] = self.creation_time.isoformat() if self.creation_time else None
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> VideoInfo:
        created = values["creation_time"]
        return cls(
            **{
                **values,
                "streams": tuple(values["streams"]),
                "sample_aspect": Fraction(values["sample_aspect"]),
                "time_base": Fraction(values["time_base"]),
                "creation_time": datetime.fromisoformat(created) if created else None,
            }
        )


def credible_aspect(aspect: Fraction | None) -> Fraction:
    """The width of a pixel by its height; 1 where nothing is said, or what no camera makes."""
    if not aspect or not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        return Fraction(1)
    return aspect


def displayed_size(width: int, height: int, aspect: Fraction, orientation: Orientation) -> tuple[int, int]:
    """Width and height in displayed pixels of a stored picture of `width` x `height`."""
    shown = max(1, round(width * aspect)), max(1, height)
    return shown[::-1] if orientation.swaps_sides else shown
