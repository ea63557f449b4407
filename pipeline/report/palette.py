"""Colours and lettering that clips and timelines share."""

from __future__ import annotations

import zlib

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
"""(H, W, 3) RGB, uint8."""

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

CLASS_COLOURS: dict[str, Colour] = {
    "person": (255, 176, 0),
    "cycle": (220, 95, 225),
    "car": (64, 160, 255),
    "bus": (255, 92, 92),
    "truck": (48, 200, 140),
}
EVENT_COLOUR: Colour = (255, 61, 113)
RULE_COLOUR: Colour = (0, 214, 214)
OTHER_COLOURS: tuple[Colour, ...] = (
    (170, 140, 255),
    (180, 200, 60),
    (255, 150, 120),
    (120, 205, 230),
    (205, 170, 125),
)

TALLEST = 2
"""Pictures are at most so many times as tall as they may be wide: an upright strip stays a strip."""

FONT = cv2.FONT_HERSHEY_SIMPLEX


def fitted(width: int, height: int, width_px: int) -> tuple[int, int]:
    """Width and height of a picture made as large as fits into `width_px` and TALLEST times that."""
    scale = min(width_px / width, TALLEST * width_px / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def class_colour(name: str) -> Colour:
    """The colour of a class; classes of the user's own get one of a few others, always the same."""
    known = CLASS_COLOURS.get(name)
    return known or OTHER_COLOURS[zlib.crc32(name.encode()) % len(OTHER_COLOURS)]


def colour_text(name: str) -> str:
    """The colour of a class in CSS."""
    return "#{:02x}{:02x}{:02x}".format(*class_colour(name))


def plain(text: str) -> str:
    """The text in signs that OpenCV's letters have; others become question marks."""
    return "".join(sign if " " <= sign <= "~" else "?" for sign in text)


def text_size(text: str, scale: float, thickness: int = 1) -> tuple[int, int]:
    """Width and height in pixels."""
    (width, height), _ = cv2.getTextSize(plain(text), FONT, scale, thickness)
    return int(width), int(height)


def write(
    picture: Picture, text: str, at: tuple[int, int], scale: float, colour: Colour, thickness: int = 1
) -> None:
    """Letters on the picture, in place; `at` is the lower left corner."""
    cv2.putText(picture, plain(text), at, FONT, scale, colour, thickness, cv2.LINE_AA)


def tag(picture: Picture, text: str, at: tuple[int, int], scale: float, colour: Colour) -> None:
    """Dark letters on a plate of the colour; `at` is the plate's lower left corner, moved to stay inside."""
    width, height = text_size(text, scale)
    pad = max(2, height // 3)
    x = min(max(at[0], 0), max(picture.shape[1] - width - 2 * pad, 0))
    y = min(max(at[1], height + 2 * pad), picture.shape[0])
    cv2.rectangle(picture, (x, y - height - 2 * pad), (x + width + 2 * pad, y - 1), colour, cv2.FILLED)
    write(picture, text, (x + pad, y - pad - 1), scale, (16, 16, 20))


def trail(picture: Picture, points: npt.NDArray[np.float64], colour: Colour, thickness: int) -> None:
    """The way of an object: a line through points (N, 2), to a sixteenth of a pixel, in place."""
    if len(points) > 1:
        fixed = np.round(points * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(picture, [fixed], False, colour, thickness, cv2.LINE_AA, 4)


def jpeg(picture: Picture, quality: int) -> bytes:
    """The picture as a JPEG file."""
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def tint(picture: Picture, polygon: npt.NDArray[np.int32], colour: Colour, share: float) -> None:
    """Mix a colour into a polygon (N, 2), in place."""
    height, width = picture.shape[:2]
    x1, y1 = np.clip(polygon.min(axis=0), 0, (width, height)).tolist()
    x2, y2 = np.clip(polygon.max(axis=0) + 1, 0, (width, height)).tolist()
    if x1 >= x2 or y1 >= y2:
        return
    mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
    cv2.fillPoly(mask, [(polygon - (x1, y1)).astype(np.int32)], 1)
    region = picture[y1:y2, x1:x2]
    mixed = cv2.addWeighted(region, 1 - share, np.full_like(region, colour), share, 0)
    np.copyto(region, mixed.astype(np.uint8), where=mask[..., None].astype(bool))
