"""Our detector beside YOLOX-Nano: from a decoded picture to boxes, same runtime, same precision.

YOLOX-Nano 416 (Ge et al., arXiv 2107.08430) comes from a folder that is not part of the program; see `PEER`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from models.precision import resolve, without_int8
from pipeline.config import load
from pipeline.evaluate.detector import Picture, fitted
from pipeline.perceive import Perceiver, displayed

ROOT = Path(__file__).parent.parent
SHARED_PEERS = Path(os.environ.get("MAREY_SHARED", ROOT.parent / "shared")) / "peers"
PEER = SHARED_PEERS / "yolox-nano-416-coco.onnx"
ROUNDS = 15
PICTURES = 32


def compare(video: Path) -> str:
    """Pictures per second of both, and their ratio; or why there is none."""
    if not PEER.exists():
        return f"no comparison with YOLOX-Nano: {PEER.name} is not in MAREY_SHARED"
    pictures = _pictures(video)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(PEER, folder)
        shutil.copy(ROOT / "docs" / "recipes" / f"{PEER.stem}.toml", folder)
        settings = {"perceive.runtime": "openvino", "perceive.device": "cpu"}
        # The peer is not made for 8 bits, so ours is measured in the peer's number format, too.
        same = {"perceive.precision": without_int8(resolve("auto", "openvino", "cpu"))}
        brought = {"perceive.detector": f"{folder}/{PEER.name}", "perceive.embeddings": False}
        all_three = [Perceiver(load(None, settings | more).perceive) for more in (brought, same, {})]
        rates = [[_rate(perceiver, pictures) for perceiver in all_three] for _ in range(ROUNDS)]
    peer, *ours = zip(*rates, strict=True)
    size = f"{all_three[1].settings.input_width}x{all_three[1].settings.input_height}"
    told = [f"pictures to boxes, medians of {ROUNDS} rounds of {PICTURES} pictures:"]
    told.append(f"YOLOX-Nano 416 {statistics.median(peer):.1f}/s ({all_three[0].network.runtime})")
    for perceiver, mine in zip(all_three[1:], ours, strict=True):
        ratio = statistics.median(a / b for a, b in zip(mine, peer, strict=True))
        runtime = perceiver.network.runtime
        told.append(f"ours at {size} {statistics.median(mine):.1f}/s ({runtime}), ratio {ratio:.2f}")
    return "\n".join(told)


def _pictures(video: Path) -> list[Picture]:
    """The first pictures of a video, decoded, RGB."""
    reader = cv2.VideoCapture(str(video))
    found = [reader.read()[1] for _ in range(PICTURES)]
    reader.release()
    return [np.ascontiguousarray(picture[..., ::-1]) for picture in found]


def _rate(perceiver: Perceiver, pictures: list[Picture]) -> float:
    """Pictures per second, fitting, network, selection and boxes in displayed pixels included."""
    began = time.perf_counter()
    for begin in range(0, len(pictures), perceiver.batch_size):
        inputs = [fitted(p, perceiver.settings) for p in pictures[begin : begin + perceiver.batch_size]]
        found = perceiver(np.stack([picture for picture, _ in inputs]))
        for (_, box_map), seen in zip(inputs, found, strict=True):
            displayed(seen.boxes, box_map)
    return len(pictures) / (time.perf_counter() - began)
