"""How good tracks are (HOTA, MOTA, IDF1, switches, by TrackEval) and how good the motion model forecasts."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.motion import ConstantVelocity, MotionModel, box_nll, to_z
from pipeline.errors import InputError, UsageError
from pipeline.mot import MAX_FRAME, frame_rate, read_mot, read_seqinfo, read_truth

Array = NDArray[np.float64]

HORIZONS_S = (1.0, 2.0)
FIRST_JUDGED = 3  # box of a track; before, no model can know a velocity
MIN_BOXES = 5  # of a track that is judged
PEDESTRIAN = 1

_COUNTED = {
    "MOT15": "those with flag 1 do",
    "MOT17": "pedestrians (class 1) with flag 1 do; with labels.txt beside it, all classes",
}


def evaluate_tracks(gt: Path, result: Path) -> dict[str, float]:
    """Scores of one sequence, in percent, and counts.

    Args:
        gt: ground truth in MOT format. Nine columns are judged by the rules of MOT17, by which pedestrians
            count; others, and those with labels.txt beside them, by MOT15's, by which all classes do. The
            sequence ends where seqinfo.ini says, else with the last frame here.
        result: tracks in MOT format.

    Returns:
        HOTA, DetA, AssA (mean over localisation thresholds), MOTA, IDF1; IDSW, FP, FN, Frag and the numbers
        of tracks and boxes.

    Raises:
        SourceError: a file cannot be read.
        InputError: a file is malformed, or has frames beyond the sequence, boxes without a track, or an id
            twice in a frame; or no box of the truth counts.
        UsageError: TrackEval is not installed.
    """
    trackeval = _import_trackeval()
    truth, found = read_truth(gt), read_mot(result)
    if not truth.num_rows:
        raise InputError(f"{gt} has no ground truth")
    info = read_seqinfo(gt)
    length = (info.num_frames if info else None) or int(truth["frame"].to_numpy().max())
    _check(gt, truth, length, "is seqLength in seqinfo.ini right?")
    _check(result, found, length, "is it of this sequence?")
    rules = "MOT17" if truth["class"].null_count == 0 else "MOT15"
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        _write_layout(Path(folder), truth, found, rules)
        try:
            scores = _score(trackeval, Path(folder), length, rules)
        except trackeval.utils.TrackEvalException as exc:  # such as a class that MOT17 does not have
            raise InputError(f"{gt} cannot be judged by the rules of {rules}", got=str(exc)) from exc
    if not scores["gt_boxes"]:
        raise InputError(f"{gt} has no box that counts", remedy=f"by the rules of {rules} {_COUNTED[rules]}")
    return scores


def _import_trackeval() -> Any:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import trackeval
    except ImportError as exc:
        # What it declares to need would bring an OpenCV that writes over ours and wants a display.
        remedy = 'pip install "marey[train]" && pip install --no-deps trackeval'
        raise UsageError("TrackEval is not installed", remedy=remedy) from exc
    return trackeval


def _check(path: Path, rows: pa.Table, length: int, remedy: str = "") -> None:
    """Refuse what no measure can be taken of."""
    frames, ids = rows["frame"].to_numpy(), rows["id"].to_numpy()
    if len(frames) and frames.max() > length:
        raise InputError(
            f"{path} has frames beyond the sequence of {length}", got=int(frames.max()), remedy=remedy
        )
    if len(ids) and ids.min() < 0:
        raise InputError(
            f"{path} has boxes without a track", got=int(ids.min()), remedy="`marey track` first"
        )
    pairs, counts = np.unique(np.stack([frames, ids]), axis=1, return_counts=True)
    if (counts > 1).any():
        frame, number = pairs[:, counts.argmax()].tolist()
        raise InputError(f"{path} has track {number} twice in frame {frame}")


def _write_layout(folder: Path, truth: pa.Table, found: pa.Table, rules: str) -> None:
    """The folders that TrackEval reads."""
    gt, data = folder / "gt" / "s" / "gt", folder / "res" / "t" / "data"
    gt.mkdir(parents=True)
    data.mkdir(parents=True)
    extra = ("class", "visibility") if rules == "MOT17" else ()
    tail = ",-1,-1,-1" if rules == "MOT15" else ""
    (gt / "gt.txt").write_text("".join(_lines(truth, extra, tail)), encoding="utf-8")
    (data / "s.txt").write_text("".join(_lines(found, (), ",-1,-1,-1")), encoding="utf-8")


def _lines(table: pa.Table, extra: tuple[str, ...], tail: str) -> Iterator[str]:
    names = ("frame", "id", "x1", "y1", "x2", "y2", "score", *extra)
    for frame, number, x1, y1, x2, y2, *rest in zip(*(table[n].to_pylist() for n in names), strict=True):
        values = ",".join(f"{value:g}" for value in rest)
        yield f"{frame},{number},{x1!r},{y1!r},{x2 - x1!r},{y2 - y1!r},{values}{tail}\n"


def _score(trackeval: Any, folder: Path, length: int, rules: str) -> dict[str, float]:
    data = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(folder / "gt"), "TRACKERS_FOLDER": str(folder / "res"),
            "TRACKERS_TO_EVAL": ["t"], "BENCHMARK": rules, "SKIP_SPLIT_FOL": True,
            "SEQ_INFO": {"s": length}, "PRINT_CONFIG": False,
        }
    )  # fmt: skip
    sequence = data.get_preprocessed_seq_data(data.get_raw_seq_data("t", "s"), "pedestrian")
    hota = trackeval.metrics.HOTA().eval_sequence(sequence)
    clear = trackeval.metrics.CLEAR({"PRINT_CONFIG": False}).eval_sequence(sequence)
    identity = trackeval.metrics.Identity({"PRINT_CONFIG": False}).eval_sequence(sequence)
    count = trackeval.metrics.Count().eval_sequence(sequence)
    return {
        **{name: 100 * float(hota[name].mean()) for name in ("HOTA", "DetA", "AssA")},
        "MOTA": 100 * float(clear["MOTA"]),
        "IDF1": 100 * float(identity["IDF1"]),
        "IDSW": float(clear["IDSW"]),
        "FP": float(clear["CLR_FP"]),
        "FN": float(clear["CLR_FN"]),
        "Frag": float(clear["Frag"]),
        "ids": float(count["IDs"]),
        "gt_ids": float(count["GT_IDs"]),
        "boxes": float(count["Dets"]),
        "gt_boxes": float(count["GT_Dets"]),
    }


def evaluate_motion(gt: Path, model: MotionModel, fps: float | None = None) -> dict[str, float]:
    """Likelihood and forecasts of a motion model on true tracks, against a constant velocity.

    Args:
        gt: ground truth in MOT format; only what counts is taken (flag; of MOT17's classes pedestrians).
        model: the model to judge.
        fps: frames per second; else from seqinfo.ini beside the file.

    Returns:
        `nll`: mean negative log-likelihood of the next box, nats per box, positions in box heights;
        `displacement_1s`, `displacement_2s`: mean distance of the forecast centre from the true one, in box
        heights, from tracks seen for at least 1 s; the same with `_kalman` for `ConstantVelocity`; `boxes`
        and `forecasts_1s`: how many were judged.

    Raises:
        UsageError: `fps` is no rate.
        SourceError: the file cannot be read.
        InputError: it is malformed, has no track to judge, or its frame rate is unknown.
    """
    truth = read_truth(gt)
    rate = frame_rate(fps, read_seqinfo(gt))
    if rate is None:
        raise InputError(f"{gt}: frame rate unknown", remedy="give --fps, or a seqinfo.ini beside the file")
    _check(gt, truth, MAX_FRAME)
    tracks = _true_tracks(truth)
    if not tracks:
        raise InputError(f"{gt} has no track of {MIN_BOXES} boxes that counts")
    out: dict[str, float] = {}
    for suffix, judged in (("", model), ("_kalman", ConstantVelocity())):
        likelihoods, misses = _judge(judged, tracks, rate)
        out[f"nll{suffix}"] = _mean(likelihoods)
        for horizon, found in misses.items():
            out[f"displacement_{horizon:g}s{suffix}"] = _mean(found)
        out["boxes"] = float(sum(map(len, likelihoods)))
        out["forecasts_1s"] = float(sum(map(len, misses[1.0])))
    return out


def _mean(parts: list[Array]) -> float:
    values = np.concatenate(parts)
    return float(values.mean()) if len(values) else float("nan")


def _true_tracks(truth: pa.Table) -> list[tuple[NDArray[np.int64], Array]]:
    """Frames (N,) and boxes z (N, 4) of counting tracks with `MIN_BOXES` boxes or more, the longest first."""
    counts = truth["score"].to_numpy() != 0
    if truth["class"].null_count == 0:
        counts &= truth["class"].to_numpy() == PEDESTRIAN
    boxes = np.stack([truth[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1)
    frames, ids = truth["frame"].to_numpy(), truth["id"].to_numpy()
    rows = (np.nonzero(counts & (ids == number))[0] for number in np.unique(ids[counts]))
    tracks = [(frames[r], to_z(boxes[r])) for r in rows if len(r) >= MIN_BOXES]
    return sorted(tracks, key=lambda track: -len(track[0]))


def _judge(
    model: MotionModel, tracks: list[tuple[NDArray[np.int64], Array]], fps: float
) -> tuple[list[Array], dict[float, list[Array]]]:
    """Walk along all tracks at once: likelihoods of the next boxes, and misses at each horizon."""
    likelihoods: list[Array] = []
    misses: dict[float, list[Array]] = {horizon: [] for horizon in HORIZONS_S}
    where = [{int(frame): i for i, frame in enumerate(frames)} for frames, _ in tracks]
    state = model.start(np.array([z[0] for _, z in tracks]), np.ones(len(tracks)))
    for i in range(1, len(tracks[0][0])):
        tracks = [track for track in tracks if len(track[0]) > i]
        state = state.take(np.arange(len(tracks)))
        boxes = np.array([z[i] for _, z in tracks])
        dt = np.array([frames[i] - frames[i - 1] for frames, _ in tracks]) / fps
        if i >= FIRST_JUDGED:
            likelihoods.append(box_nll(*model.predict(state, dt), boxes))
        state = model.update(state, boxes, np.ones(len(tracks)), dt)
        for horizon, found in misses.items():
            mean, _ = model.predict(state, np.full(len(tracks), horizon))
            later = [
                where[k].get(int(frames[i]) + round(horizon * fps)) if frames[i] - frames[0] >= fps else None
                for k, (frames, _) in enumerate(tracks)
            ]
            good = [k for k, index in enumerate(later) if index is not None]
            true = np.array([tracks[k][1][later[k]] for k in good]).reshape(-1, 4)
            found.append(np.hypot(*(mean[good, :2] - true[:, :2]).T) / np.exp(true[:, 3]))
    return likelihoods, misses
