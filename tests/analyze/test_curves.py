"""Score curves are made again from what the lake keeps, and say what the events say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.analyze import analyze
from pipeline.report.curves import score_curves
from pipeline.report.gather import gather
from tests.analyze.build import FPS, SHORT_S, ask, config


def test_curves_hold_the_peaks_of_the_events(folder: Path, lake: Path) -> None:
    [result] = analyze([str(folder / "short.mp4")], str(lake), config(folder)).results
    record = gather(str(lake), result.video_id)
    [curve] = score_curves(str(lake), record)
    assert curve.label == "stir"
    assert np.allclose(curve.times, np.arange(round(SHORT_S * FPS)) / FPS, atol=0.05)
    peaks = ask(lake, "SELECT t_peak, score FROM events WHERE source = 'model'")
    assert peaks
    for peak in peaks:
        assert curve.scores[curve.times == peak["t_peak"]].tolist() == [np.float32(peak["score"])]


def test_a_model_that_is_no_longer_the_same_gives_none(folder: Path, lake: Path, tmp_path: Path) -> None:
    model = tmp_path / "own.safetensors"
    model.write_bytes((folder / "stir.safetensors").read_bytes())
    settings = config(folder, events__models=[str(model)])
    [result] = analyze([str(folder / "short.mp4")], str(lake), settings).results
    record = gather(str(lake), result.video_id)
    assert len(score_curves(str(lake), record)) == 1
    model.write_bytes(b"another")
    assert score_curves(str(lake), record) == []
