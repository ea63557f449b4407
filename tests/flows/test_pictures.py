"""Timelines within the Markdown report of a flow."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np

from flows import report
from flows.pictures import timelines
from pipeline.analyze import analyze
from tests.analyze.build import config, prepared


def test_a_picture_for_each_video_with_objects(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "prepared")
    lake = str(tmp_path / "lake")
    videos = report.plain(analyze([str(folder / "short.mp4")], lake, config(folder)).results)
    page = timelines(lake, videos)
    assert page.startswith("## Timelines\n\n### short.mp4\n\n![timeline of short.mp4](data:image/png;base64,")
    data = base64.b64decode(page.partition("base64,")[2].partition(")")[0])
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[1] == 800
    assert timelines(lake, [video | {"rows": {}} for video in videos]) == ""
