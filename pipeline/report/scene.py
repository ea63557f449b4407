"""A picture of the scene that a video shows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import MareyError
from pipeline.media.container import Limits
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Frame
from pipeline.report.gather import Record
from pipeline.report.palette import Picture


def scene_of(record: Record) -> Picture | None:
    """The first frame of the video if it is at hand, else its thumbnail; None where there is neither."""
    found = first_picture(record.file)
    return found if found is not None else picture_of(record.thumbnail)


def picture_of(jpeg: bytes | None) -> Picture | None:
    """A stored thumbnail as a picture (H, W, 3), RGB."""
    if not jpeg:
        return None
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return None if decoded is None else np.ascontiguousarray(decoded[..., ::-1], np.uint8)


def first_picture(path: Path | None) -> Picture | None:
    """The first frame of a video, upright, in displayed pixels; None where there is none to be had."""
    if path is None:
        return None
    try:
        with PyavReader(path, Limits()) as reader:
            frame = next((event for event in reader.events() if isinstance(event, Frame)), None)
            if frame is None:
                return None
            return np.ascontiguousarray(frame.render(reader.info.width_px, reader.info.height_px))
    except MareyError:
        return None
