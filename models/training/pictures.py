"""Pictures of training and measuring: decoded, and of the size that their boxes are written for.

Boxes are of the picture as it is displayed: turned by its EXIF orientation, as OpenCV decodes it.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Size = tuple[Any, Any]
"""Width and height in pixels, as a COCO file states them: whatever it holds there."""

_ORIENTATION = 0x0112
_NO_FRAME = {0xC4, 0xC8, 0xCC}  # markers among those of JPEG's frame headers that are none


def decoded(encoded: bytes, name: object, stated: Size) -> Image:
    """The picture (height, width, 3), RGB.

    Raises:
        ValueError: it cannot be decoded, or is not as large as is stated; names it.
    """
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if encoded else None
    if picture is None:
        raise ValueError(f"picture {name} cannot be decoded")
    check_size(picture, name, stated)
    return np.ascontiguousarray(picture[..., ::-1], np.uint8)


def check_size(picture: npt.NDArray[Any], name: object, stated: Size) -> None:
    """Refuse a picture (height, width, ...) that is not as large as is stated: its boxes may lie elsewhere.

    Raises:
        ValueError: the two differ; names the picture.
    """
    height, width = picture.shape[:2]
    if stated == (width, height):
        return
    differ = f"picture {name} is {width}x{height}, its COCO file says {stated[0]!r}x{stated[1]!r}"
    if stated == (height, width):
        raise ValueError(
            f"{differ}, as where an EXIF orientation turns it: store it turned, without the orientation, or "
            "write boxes, width and height for the turned one"
        )
    raise ValueError(f"{differ}: give the pictures that were annotated, or boxes, width and height for these")


def header_size(encoded: bytes) -> tuple[int, int] | None:
    """Width and height that a picture has when decoded, by its header alone: that of JPEG, PNG or lossy WebP.

    None where the header does not tell; what it tells of a damaged picture may be wrong.
    """
    try:
        if encoded.startswith(b"\xff\xd8"):
            return _jpeg_size(encoded)
        if encoded.startswith(b"\x89PNG") and b"eXIf" not in encoded:
            return struct.unpack_from(">II", encoded, 16)
        if encoded[8:16] == b"WEBPVP8 ":
            width, height = struct.unpack_from("<HH", encoded, 26)
            return width & 0x3FFF, height & 0x3FFF  # above are two bits for enlarging, which nobody does
    except struct.error:
        pass
    return None


def _jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    at, turned = 2, False
    while encoded[at : at + 1] == b"\xff":
        kind, length = struct.unpack_from(">xBH", encoded, at)
        if 0xC0 <= kind <= 0xCF and kind not in _NO_FRAME:
            height, width = struct.unpack_from(">HH", encoded, at + 5)
            return (height, width) if turned else (width, height)
        if encoded[at + 4 : at + 10] == b"Exif\0\0":
            turned = _turns(encoded[at + 10 : at + 2 + length])
        at += 2 + length
    return None


def _turns(tiff: bytes) -> bool:
    """Whether the orientation in a block of EXIF lays the picture on its side."""
    order = "<" if tiff.startswith(b"II") else ">"
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    for entry in range(first + 2, first + 2 + 12 * count, 12):
        tag, value = struct.unpack_from(f"{order}H6xH", tiff, entry)
        if tag == _ORIENTATION:
            return value in range(5, 9)
    return False
