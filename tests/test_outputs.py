"""Files that get their name once they are whole, with two writers at the same one."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.lake.schema import EVENTS, TRACKS
from pipeline.outputs import whole
from pipeline.report import annotate
from pipeline.report.cut import cut
from pipeline.report.web import write


def video(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 9 * n, np.uint8), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def page(folder: Path) -> Path:
    write(folder / "clip.mp4", "a page")
    return folder / "clip.mp4"


def copied(folder: Path) -> Path:
    made = cut(video(folder / "video.mp4"), folder / "clip", (0.3, 0.9))
    assert made.method == "copied"
    return made.path


def annotated(folder: Path) -> Path:
    nothing = (TRACKS.empty_table(), EVENTS.empty_table())
    annotate(video(folder / "video.mp4"), folder / "clip.mp4", *nothing)
    return folder / "clip.mp4"


def test_of_two_writers_the_last_stays(tmp_path: Path) -> None:
    """In one process, too, as two threads of a server are."""
    path = tmp_path / "rows.csv"
    with whole(path) as first, whole(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("make", [page, copied, annotated])
def test_what_another_process_is_writing_is_left_to_it(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """By whatever name programs before this one wrote, too."""
    others = tmp_path / ".clip.mp4.part"
    others.write_text("half of it")
    made = make(tmp_path)
    assert made.stat().st_size
    assert others.read_text() == "half of it"
    assert sorted(path.name for path in tmp_path.glob(".*")) == [others.name]
