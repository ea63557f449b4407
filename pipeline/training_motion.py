"""What the motion model is trained on beside simulation: a user's own true tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.training.trajectories import Scene, recorded_scene
from pipeline.errors import InputError
from pipeline.evaluate.tracks import PEDESTRIAN
from pipeline.mot import read_seqinfo, read_truth
from pipeline.track.text import DEFAULT_FPS

MIN_FRAMES = 10


def recorded_tracks(path: Path) -> Scene:
    """The scene of a MOT ground truth; its frame rate is from seqinfo.ini beside it, else 30.

    Of MOT17's classes pedestrians are taken, of those that labels.txt beside it names all.

    Raises:
        SourceError: the file cannot be read.
        InputError: it is malformed, or has too few frames with true boxes.
    """
    rows = read_truth(path)
    flag, kind = rows["score"].to_numpy(), rows["class"].fill_null(PEDESTRIAN).to_numpy()
    counts = (flag > 0) & (kind == PEDESTRIAN) & (rows["id"].to_numpy() >= 0)
    rows = rows.filter(counts)
    frame = rows["frame"].to_numpy() - 1
    if len(np.unique(frame)) < MIN_FRAMES:
        raise InputError(
            f"{path} has true boxes in {len(np.unique(frame))} frames",
            remedy=f"{MIN_FRAMES} or more are needed, with ids from 0 and flag 1 in the seventh column",
        )
    info = read_seqinfo(path)
    boxes = np.column_stack([rows[name].to_numpy() for name in ("x1", "y1", "x2", "y2")])
    visibility = rows["visibility"].fill_null(1.0).to_numpy()
    number = rows["id"].to_numpy()
    return recorded_scene(frame - frame.min(), number, boxes, visibility, info.fps if info else DEFAULT_FPS)
