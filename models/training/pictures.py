"""Pictures of training and measuring: decoded, and of the size that their boxes are written for.

Boxes are of the picture as it is displayed: turned by its EXIF orientation, as OpenCV decodes it.
"""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Size = tuple[Any, Any]
"""Width and height in pixels, as a COCO file states them: whatever it holds there."""

_ORIENTATION = 0x0112  # tag of EXIF; from 5 on the picture lies on its side


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
    """Width and height that a picture has when decoded, by its header alone.

    None where Pillow, which matplotlib brings, is not installed or does not know the picture; what the header
    of a damaged one tells may be wrong.
    """
    try:
        from PIL import Image as Pillow
    except ImportError:
        return None
    try:
        with Pillow.open(io.BytesIO(encoded)) as picture:
            width, height = picture.size
            turned = picture.getexif().get(_ORIENTATION) in range(5, 9)
    except Exception:  # of many kinds, by what is damaged; decoding will tell
        return None
    return (height, width) if turned else (width, height)
