"""Where a detector goes wrong: precision-recall curves, and its worst mistakes as pictures."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.errors import UsageError, os_errors_as
from pipeline.evaluate.detector import Detection, evaluations
from pipeline.report.palette import Colour, Picture, tag

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the image, as COCO writes boxes."""

_TILE = 240
_COLUMNS = 6
_FALSE: Colour = (255, 92, 92)
_MISSED: Colour = (255, 176, 0)


@dataclass(frozen=True)
class Mistake:
    """A box that is not there (`score` is the detector's), or an object of which no box was found (None)."""

    image_id: int
    name: str
    box: Box
    score: float | None


def mistakes(truth: dict[str, Any], detections: Sequence[Detection], count: int) -> list[Mistake]:
    """The `count` false boxes of highest score, then the `count` largest objects that were missed.

    A box is false where it overlaps no object of its class, or one that a better box has, at IoU 0.5 or more;
    an object is missed where no box of any score overlaps it so.
    """
    false: list[Mistake] = []
    missed: list[Mistake] = []
    for category, run in evaluations(truth, detections):
        for seen in run.evalImgs[: len(run.params.imgIds)]:  # the first area range: all sizes
            if seen is not None:
                false += _false(seen, run, category["name"])
                missed += _missed(seen, run, category["name"])
    worst = heapq.nlargest(count, false, key=lambda m: m.score or 0.0)
    return worst + heapq.nlargest(count, missed, key=lambda m: m.box[2] * m.box[3])


def _false(seen: dict[str, Any], run: Any, name: str) -> Iterator[Mistake]:
    for number, hit, ignored in zip(seen["dtIds"], seen["dtMatches"][0], seen["dtIgnore"][0], strict=True):
        if not hit and not ignored:
            answer = run.cocoDt.anns[number]
            yield Mistake(answer["image_id"], name, tuple(answer["bbox"]), answer["score"])


def _missed(seen: dict[str, Any], run: Any, name: str) -> Iterator[Mistake]:
    for number, hit, ignored in zip(seen["gtIds"], seen["gtMatches"][0], seen["gtIgnore"], strict=True):
        if not hit and not ignored:
            object_ = run.cocoGt.anns[number]
            yield Mistake(object_["image_id"], name, tuple(object_["bbox"]), None)


def write_report(folder: Path, truth: dict[str, Any], detections: Sequence[Detection], images: Path) -> None:
    """Write `curves.png` (precision over recall at IoU 0.5, per class) and `mistakes.png` into a folder.

    Raises:
        UsageError: the folder cannot be written, or matplotlib is not installed.
    """
    with os_errors_as(UsageError, f"{folder} cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        _draw_curves(folder / "curves.png", truth, detections)
        sheet = _sheet(mistakes(truth, detections, 4 * _COLUMNS), truth, images)
        cv2.imwrite(str(folder / "mistakes.png"), sheet[..., ::-1])


def _draw_curves(path: Path, truth: dict[str, Any], detections: Sequence[Detection]) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise UsageError("matplotlib is not installed", remedy="pip install 'marey[train]'") from exc
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for category, run in evaluations(truth, detections):
        precision = run.eval["precision"][0, :, 0, 0, -1]
        if (precision > -1).any():
            axes.plot(
                run.params.recThrs, precision, label=f"{category['name']}  {100 * precision.mean():.1f}"
            )
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1), title="IoU 0.5; AP50 per class")
    if axes.lines:
        axes.legend()
    figure.savefig(path, dpi=110)


def _sheet(found: Sequence[Mistake], truth: dict[str, Any], images: Path) -> Picture:
    """Tiles in rows: red frames are false boxes with their score, orange ones missed objects."""
    files = {entry["id"]: images / entry["file_name"] for entry in truth["images"]}
    tiles = [_tile(mistake, files[mistake.image_id]) for mistake in found]
    blank = np.zeros((_TILE, _TILE, 3), np.uint8)
    tiles += [blank] * (-len(tiles) % _COLUMNS or (0 if tiles else _COLUMNS))
    rows = [np.hstack(tiles[i : i + _COLUMNS]) for i in range(0, len(tiles), _COLUMNS)]
    return np.vstack(rows)


def _tile(mistake: Mistake, path: Path) -> Picture:
    """The box with as much of the picture around it as it is large."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise UsageError(f"picture {path} cannot be read", remedy="check --images, the folder of file_name")
    x, y, width, height = mistake.box
    side = max(2 * max(width, height), 48.0)
    scale = _TILE / side
    left, top = x + width / 2 - side / 2, y + height / 2 - side / 2
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    tile = np.ascontiguousarray(cv2.warpAffine(picture, matrix, (_TILE, _TILE))[..., ::-1], np.uint8)
    colour = _MISSED if mistake.score is None else _FALSE
    corners = np.array([[x, y], [x + width, y + height]]) - (left, top)
    (x1, y1), (x2, y2) = np.rint(corners * scale).astype(int).tolist()
    cv2.rectangle(tile, (x1, y1), (x2, y2), colour, 2)
    text = f"missed {mistake.name}" if mistake.score is None else f"{mistake.name} {mistake.score:.2f}"
    tag(tile, text, (2, 20), 0.45, colour)
    return tile
