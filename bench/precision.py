"""A detector in each number format, beside float32 in torch: `python -m bench.precision [WEIGHTS]`.

Average precision on shared/data/detection/val; how boxes of a score of 0.3 or more overlap with their
partners among torch's, matched one to one within class and picture; and how fast the network alone is, in
turn. Prints Markdown.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from models.boxes import iou_matrix
from models.precision import Precision
from pipeline.config import load
from pipeline.evaluate.detector import Detection, detect_images, read_truth, score, settings_for
from pipeline.perceive import Perceiver
from tests.helpers import shared_path

FORMATS: tuple[Precision, ...] = ("float32", "bfloat16", "int8", "int8-bfloat16")
MIN_SCORE, MIN_IOU = 0.3, 0.5
ROUNDS, PICTURES = 9, 32

Boxes = dict[tuple[int, int], list[list[float]]]


def main(weights: str = "default") -> None:
    """Measure and print."""
    folder = shared_path("data", "detection")
    truth = read_truth(folder / "val.json")
    size = load().perceive
    common = settings_for(weights, size.input_width, size.input_height) | {"perceive.device": "cpu"}

    def opened(runtime: str, precision: Precision) -> Perceiver:
        chosen = {"perceive.runtime": runtime, "perceive.precision": precision}
        return Perceiver(load(None, common | chosen).perceive)

    exact = detect_images(opened("torch", "float32"), truth, folder)
    expected = _boxes(exact)
    perceivers = {name: opened("openvino", name) for name in FORMATS}
    rates = _rates(perceivers, size.input_width, size.input_height)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {size.input_width}x{size.input_height}\n")
    print(
        "| OpenVINO | AP50 | AP | boxes with a partner | their IoU: mean | median | 0.98 or more | images/s |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    print(f"| (torch, float32) | {_scores(truth, exact)} | | | | | |")
    for name, perceiver in perceivers.items():
        found = detect_images(perceiver, truth, folder)
        ious = _partners(expected, _boxes(found))
        share = f"{len(ious)} of {sum(map(len, expected.values()))}"
        told = f"{np.mean(ious):.4f} | {np.median(ious):.3f} | {np.mean(ious >= 0.98):.0%}"
        print(f"| {name} | {_scores(truth, found)} | {share} | {told} | {rates[name]:.0f} |")


def _scores(truth: dict[str, Any], found: list[Detection]) -> str:
    scores = score(truth, found)
    return f"{100 * scores['mean_ap50']:.2f} | {100 * scores['mean_ap']:.2f}"


def _boxes(found: list[Detection]) -> Boxes:
    """Boxes, xyxy in displayed pixels, by picture and class."""
    boxes: Boxes = defaultdict(list)
    for one in found:
        if one["score"] >= MIN_SCORE:
            x, y, width, height = one["bbox"]
            boxes[one["image_id"], one["category_id"]].append([x, y, x + width, y + height])
    return boxes


def _partners(expected: Boxes, found: Boxes) -> np.ndarray:
    """IoU of each pair, those below `MIN_IOU` left out."""
    pairs: list[float] = []
    for key, boxes in expected.items():
        if others := found.get(key):
            overlaps = iou_matrix(np.array(boxes, np.float32), np.array(others, np.float32))
            pairs += overlaps[linear_sum_assignment(overlaps, maximize=True)].tolist()
    return np.array([iou for iou in pairs if iou >= MIN_IOU])


def _rates(perceivers: dict[Precision, Perceiver], width: int, height: int) -> dict[Precision, float]:
    """Pictures per second of the networks alone, medians of rounds in turn."""
    pictures = np.random.default_rng(0).integers(0, 256, (PICTURES, height, width, 3), np.uint8)
    seconds: dict[Precision, list[float]] = {name: [] for name in perceivers}
    for _ in range(ROUNDS):
        for name, perceiver in perceivers.items():
            began = time.perf_counter()
            perceiver.network.run(pictures, lambda *_: None)
            seconds[name].append(time.perf_counter() - began)
    return {name: PICTURES / statistics.median(taken) for name, taken in seconds.items()}


if __name__ == "__main__":
    main(*sys.argv[1:2])
