"""A picture of the scene that a video shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import MareyError
from pipeline.media.container import Limits
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.reader import Frame
from pipeline.report.palette import Picture


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
