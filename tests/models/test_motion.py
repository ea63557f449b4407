"""The motion model: formulas, files, training in seconds, and what the stored weights give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.motion import (
    ConstantVelocity,
    Motion,
    MotionConfig,
    MotionModel,
    box_nll,
    load_motion,
    save_motion,
    to_xyxy,
    to_z,
)
from models.training.motion import MotionNet, MotionTraining, likelihood, normalised, train_motion
from models.training.trajectories import (
    DetectorSettings,
    SceneSettings,
    detect,
    sequences,
    simulate_scene,
)
from pipeline.errors import InputError
from pipeline.training_motion import recorded_tracks

CELLS = ("gru", "lstm", "rnn")

STORED_MEAN = (142.971143, 200.083987, 3.6747, 4.603328)
STORED_DEVIATION = (5.973023, 1.655162, 0.064079, 0.024933)
"""What the shipped weights foresee of a walker after 0.5 s; true are 146, 200, log 40 and log 100."""


def walker(speed_px_s: float, times: np.ndarray, height: float = 100.0) -> np.ndarray:
    """Boxes z of a figure that walks to the right at an even speed."""
    z = np.zeros((len(times), 4))
    z[:, 0], z[:, 1] = 50 + speed_px_s * times, 200
    z[:, 2], z[:, 3] = np.log(0.4 * height), np.log(height)
    return z


def follow(model: MotionModel, times: np.ndarray, z: np.ndarray):
    state = model.start(z[:1], np.ones(1))
    for i in range(1, len(times)):
        state = model.update(state, z[i : i + 1], np.ones(1), np.diff(times)[i - 1 : i])
    return state


def test_boxes_go_to_z_and_back() -> None:
    boxes = np.array([[10.0, 20, 50, 140], [-5, -3, 1, 2]])
    assert np.allclose(to_xyxy(to_z(boxes)), boxes)
    assert np.allclose(to_z(boxes)[0], [30, 80, np.log(40), np.log(120)])


@pytest.mark.parametrize("cell", CELLS)
def test_numpy_and_torch_give_the_same_numbers(cell: str) -> None:
    torch.manual_seed(1)
    net = MotionNet(MotionConfig(cell=cell, hidden=8)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    rows = normalised(sequences(np.random.default_rng(3), 3, 12))
    rows = rows[~np.isnan(rows[:, :, 0]).any(axis=1)]
    assert len(rows) > 5
    rows[..., 6:] = np.where(np.isnan(rows[..., 6:]), rows[..., :5], rows[..., 6:])
    with torch.no_grad():
        near, _ = net(torch.from_numpy(rows).float())
    model = net.export()
    state = model.start(rows[:, 0, 1:5], rows[:, 0, 5])
    for i in range(1, rows.shape[1]):
        dt = rows[:, i, 0] - rows[:, i - 1, 0]
        expected = near[:, i - 1].sum(dim=1).numpy()
        assert np.allclose(box_nll(*model.predict(state, dt), rows[:, i, 1:5]), expected, rtol=2e-2, atol=0.1)
        state = model.update(state, rows[:, i, 1:5], rows[:, i, 5], dt)


@pytest.mark.parametrize("model", [load_motion(), ConstantVelocity()], ids=["gru", "kalman"])
def test_an_even_walk_is_foreseen_at_any_step(model: MotionModel) -> None:
    times = np.cumsum([0.0, 0.1, 0.1, 0.3, 0.1, 0.2, 0.1, 0.1, 0.5, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1])
    state = follow(model, times, walker(80.0, times))
    for ahead in (0.1, 0.5, 1.0):
        mean, _ = model.predict(state, np.array([ahead]))
        assert mean[0, 0] == pytest.approx(50 + 80 * (times[-1] + ahead), abs=100 * (0.03 + 0.12 * ahead))
        assert mean[0, 3] == pytest.approx(np.log(100), abs=0.1)


@pytest.mark.parametrize("model", [load_motion(), ConstantVelocity()], ids=["gru", "kalman"])
def test_uncertainty_grows_with_the_gap(model: MotionModel) -> None:
    times = np.arange(12) / 10
    state = follow(model, times, walker(80.0, times))
    spreads = np.array([model.predict(state, np.array([gap]))[1][0] for gap in (0.1, 0.5, 1.0, 2.0)])
    assert (np.diff(spreads, axis=0) > 0).all()


def test_the_model_does_not_know_pixels() -> None:
    model = load_motion()
    times = np.arange(10) / 10
    small = follow(model, times, walker(40.0, times, height=50.0))
    large = follow(model, times, walker(160.0, times, height=200.0))
    assert np.allclose(large.velocity, small.velocity)
    assert np.allclose(large.position[0, 0] - 50, 4 * (small.position[0, 0] - 50))


def test_tracks_in_a_batch_do_not_touch_each_other() -> None:
    model = load_motion()
    rows = normalised(sequences(np.random.default_rng(5), 2, 6))[:, :, :6]
    rows = rows[~np.isnan(rows[:, :, 0]).any(axis=1)]
    together = model.start(rows[:, 0, 1:5], rows[:, 0, 5])
    together = model.update(together, rows[:, 1, 1:5], rows[:, 1, 5], rows[:, 1, 0] - rows[:, 0, 0])
    one = model.start(rows[2:3, 0, 1:5], rows[2:3, 0, 5])
    one = model.update(one, rows[2:3, 1, 1:5], rows[2:3, 1, 5], rows[2:3, 1, 0] - rows[2:3, 0, 0])
    assert np.allclose(together.position[2], one.position[0])
    assert np.allclose(together.hidden[2], one.hidden[0])


def test_a_moved_picture_moves_the_state() -> None:
    state = follow(load_motion(), np.arange(5) / 10, walker(80.0, np.arange(5) / 10))
    there = state.warp(7.0, -3.0, 1.5, np.pi / 2, (320.0, 240.0))
    x, y = state.position[0, :2] - (320, 240)
    assert np.allclose(there.position[0, :2], [320 - 1.5 * y + 7, 240 + 1.5 * x - 3])
    assert np.allclose(there.position[0, 2:], state.position[0, 2:] + np.log(1.5))
    assert np.allclose(there.velocity[0, :2], [-state.velocity[0, 1], state.velocity[0, 0]])


@pytest.mark.parametrize("cell", CELLS)
def test_save_and_load(cell: str, tmp_path: Path) -> None:
    model = MotionNet(MotionConfig(cell=cell, hidden=6)).export()
    save_motion(model, tmp_path / "m.safetensors")
    again = load_motion(tmp_path / "m.safetensors")
    assert again.config == model.config
    assert all(np.array_equal(again.tensors[name], model.tensors[name]) for name in model.tensors)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        load_motion(tmp_path / "none.safetensors")
    text = tmp_path / "text.safetensors"
    text.write_text("not tensors")
    with pytest.raises(ValueError, match="cannot be read"):
        load_motion(text)
    model = MotionNet(MotionConfig(hidden=6)).export()
    save_motion(model, text)
    with pytest.raises(ValueError, match="do not fit"):
        Motion(MotionConfig(hidden=7), model.tensors)
    from safetensors.numpy import save_file

    save_file(model.tensors, str(text), metadata={"kind": "detector"})
    with pytest.raises(ValueError, match="does not hold a motion model"):
        load_motion(text)
    with pytest.raises(ValueError, match="not finite"):
        Motion(model.config, {k: v * np.nan for k, v in model.tensors.items()})


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="gru, lstm, rnn"):
        MotionConfig(cell="mlp")
    with pytest.raises(ValueError, match="fixed, carried or driven"):
        SceneSettings(camera="flying")
    with pytest.raises(ValueError, match="batch_size"):
        MotionTraining(batch_size=0)


@pytest.mark.parametrize("cell", CELLS)
def test_training_learns_in_seconds(cell: str, tmp_path: Path) -> None:
    losses: list[float] = []
    settings = MotionTraining(
        model=MotionConfig(cell=cell, hidden=12), num_scenes=10, num_held_out=4, length=8, batch_size=48,
        max_steps=60, max_cpu_seconds=60, learning_rate=0.01,
    )  # fmt: skip
    path = tmp_path / "m.safetensors"
    model, metrics = train_motion(settings, out=path, progress=lambda p: losses.append(p["loss"]))
    assert len(losses) == 1
    held_out = sequences(np.random.default_rng(settings.seed), 4, 8)
    untrained = MotionNet(settings.model).export()
    assert likelihood(model, held_out) < likelihood(untrained, held_out) - 1.0
    assert metrics["steps"] == 60
    assert load_motion(path).config.cell == cell
    assert likelihood(model, held_out) == pytest.approx(metrics["nll"])


def test_a_training_without_time_for_a_step_is_refused(tmp_path: Path) -> None:
    settings = MotionTraining(num_scenes=2, num_held_out=1, length=8, max_cpu_seconds=1e-3)
    with pytest.raises(
        ValueError, match=r"nothing was learned: making .* 0\.001 s for all; give more --minutes"
    ):
        train_motion(settings, out=tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_training_is_repeatable() -> None:
    settings = MotionTraining(
        model=MotionConfig(hidden=6), num_scenes=2, num_held_out=1, length=8, batch_size=16, max_steps=5
    )
    first, _ = train_motion(settings)
    second, _ = train_motion(settings)
    assert all(np.array_equal(first.tensors[k], second.tensors[k]) for k in first.tensors)


def test_recorded_tracks_take_part_in_training(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text(
        "".join(f"{i},{k},{9 * i},{50 + 90 * k},40,80,1,-1,-1,-1\n" for i in range(1, 61) for k in range(3))
        + "5,9,1,2,30,60,0,-1,-1,-1\n"  # a row that does not count
    )
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nframeRate=20\nseqLength=60\n")
    scene = recorded_tracks(tmp_path / "gt.txt")
    assert scene.present.shape == (3, 60) and scene.present.all()
    assert scene.t[1] == 0.05
    assert scene.boxes[1, 2].tolist() == [27, 140, 67, 220]
    rows = sequences(np.random.default_rng(0), 40, 8, SceneSettings(num_objects=1), [scene])
    speeds = (rows[:, 1, 1] - rows[:, 0, 1]) / (rows[:, 1, 0] - rows[:, 0, 0])
    assert (abs(speeds - 9 / 0.05) < 60).sum() > 20  # half of the scenes hold three such tracks each
    (tmp_path / "few.txt").write_text("1,1,1,2,30,60\n")
    with pytest.raises(InputError, match="1 frames"):
        recorded_tracks(tmp_path / "few.txt")


def test_shipped_weights_beat_a_constant_velocity() -> None:
    rows = sequences(np.random.default_rng(99), 30, 40)
    shipped, kalman = likelihood(load_motion(), rows), likelihood(ConstantVelocity(), rows)
    assert shipped < kalman - 1.5


def test_shipped_weights_give_the_stored_numbers() -> None:
    times = np.arange(8) / 10
    state = follow(load_motion(), times, walker(80.0, times))
    mean, variance = load_motion().predict(state, np.array([0.5]))
    assert np.allclose(mean[0], STORED_MEAN, rtol=1e-5)
    assert np.allclose(np.sqrt(variance[0]), STORED_DEVIATION, rtol=1e-4)


def test_scenes_repeat_and_are_what_they_say() -> None:
    settings = SceneSettings(duration_s=6, fps=10, num_objects=8, camera="fixed")
    one = simulate_scene(np.random.default_rng(4), settings)
    two = simulate_scene(np.random.default_rng(4), settings)
    assert np.array_equal(one.boxes, two.boxes)
    assert one.boxes.shape == (len(one.kinds), 60, 4)
    assert one.present[one.real].any(axis=1).mean() > 0.8
    assert ((one.visibility >= 0) & (one.visibility <= 1)).all()


def test_a_weak_detector_misses_more_and_scores_less() -> None:
    scene = simulate_scene(np.random.default_rng(4), SceneSettings(fps=10, camera="fixed"))
    sure = detect(np.random.default_rng(1), scene, DetectorSettings(quality=3.0))
    weak = detect(np.random.default_rng(1), scene, DetectorSettings(quality=-0.5, min_score=0.2, miss=0.2))
    assert (weak.thing >= 0).sum() < 0.9 * (sure.thing >= 0).sum()
    assert weak.scores.mean() < 0.6 < sure.scores.mean()
    assert (np.diff(sure.frame) >= 0).all()
