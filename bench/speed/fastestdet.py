"""FastestDet by ONNX Runtime, as its repository describes it, in NumPy: shared by the peers."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime

SIDE, MIN_SCORE, NMS_IOU = 352, 0.1, 0.45
OURS = {0: 0, 1: 1, 3: 1, 2: 2, 5: 3, 7: 4}
"""COCO's numbers to person, cycle, car, bus, truck."""

_ROWS = [5 + number for number in OURS]
_KINDS = np.array(list(OURS.values()))


class Detector:
    """Finds boxes; ONNX Runtime takes the threads that it chooses itself."""

    def __init__(self, model: str) -> None:
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    def __call__(self, bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(h, w, 3) uint8 -> boxes (K, 4) xyxy in its pixels, scores (K,), classes (K,)."""
        height, width = bgr.shape[:2]
        small = cv2.resize(bgr, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        given = np.ascontiguousarray(small.transpose(2, 0, 1)[None], np.float32) / 255
        return boxes_of(self._session.run(None, {self._name: given})[0][0], width, height)


def boxes_of(out: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Output (85, rows, columns) -> boxes of our five classes."""
    score = out[0] ** 0.6 * out[_ROWS].max(axis=0) ** 0.4
    rows, columns = np.nonzero(score > MIN_SCORE)
    if not len(rows):
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int)
    cells, scores = out[:, rows, columns], score[rows, columns]  # (85, K), (K,)
    kinds = _KINDS[cells[_ROWS].argmax(axis=0)]
    x, y = (np.tanh(cells[1]) + columns) / out.shape[2], (np.tanh(cells[2]) + rows) / out.shape[1]
    w, h = 1 / (1 + np.exp(-cells[3])), 1 / (1 + np.exp(-cells[4]))
    boxes = np.stack([x - w / 2, y - h / 2, w, h], axis=1) * np.array([width, height] * 2)
    kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), kinds.tolist(), MIN_SCORE, NMS_IOU)
    boxes[:, 2:] += boxes[:, :2]
    return boxes[kept].astype(np.float32), scores[kept], kinds[kept]
