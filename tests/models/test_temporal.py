"""Event models: what they see, that padding and cuts do not matter, how one is stored, trained and run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from models.checkpoint import CheckpointError, save
from models.event_config import CHANGES, GRID_SIZE, MOTION, EventModelConfig, Part
from models.event_network import EventNetwork, load_event_network, look
from models.temporal import EventModel, load_events, network_of, save_events, turn
from models.training.clips import augment, clip_scores, decide, joined_windows, pad
from models.training.event_settings import TrainSettings
from models.training.events import _Fit, train_events
from models.training.folds import cross_validate, grouped_folds

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = EventModelConfig(("a", "b"), parts=(Part(0, 8),), embedding_dim=8, width=8, hidden=8)
CELLS = ["gru", "lstm", "rnn", "mean"]


def model_of(config: EventModelConfig, num_inputs: int = 8) -> EventModel:
    torch.manual_seed(0)
    return EventModel(config, num_inputs).eval()


def test_ranks_do_not_depend_on_where_something_moves():
    random = np.random.default_rng(0)
    grid = random.random((1, 3, 48, 2)).astype(np.float32)
    moved = grid[:, :, random.permutation(48)]
    first, second = (look((MOTION,), g.reshape(1, 3, 96)) for g in (grid, moved))
    assert np.allclose(first, second, atol=1e-5)
    twice = look((MOTION,), 2 * grid.reshape(1, 3, 96))
    assert (twice[..., :12] > first[..., :12]).all()


def test_changes_are_those_of_the_numbers_that_changed_most():
    """By hand: from (0, 0, 0) to (0.1, 0, -0.3) to the same."""
    frames = np.array([[[0.0, 0, 0], [0.1, 0, -0.3], [0.1, 0, -0.3]]], np.float32)
    part = Part(0, 3, "changes")
    seen = look((part,), frames)
    most, second = np.log1p(20 * 0.3), np.log1p(20 * 0.1)
    assert seen.shape == (1, 3, 6)
    assert seen[0, 1].tolist() == pytest.approx([most, *[(most + second) / 3] * 5], abs=1e-5)
    assert (seen[0, [0, 2]] == 0).all()
    assert np.array_equal(look((part,), frames[..., [2, 0, 1]]), seen)
    assert np.array_equal(look((part,), frames[0]), seen[0])


def test_motion_is_found_at_the_end_of_any_embedding():
    random = np.random.default_rng(0)
    grid = random.random((1, 4, GRID_SIZE), np.float32)
    longer = np.concatenate([random.random((1, 4, 64), np.float32), grid], axis=-1)
    assert np.array_equal(look((MOTION,), grid), look((MOTION,), longer))


def test_ranks_are_means_and_deviation_of_the_strongest_cells():
    grid = np.random.default_rng(0).uniform(-0.1, 1, (4, GRID_SIZE)).astype(np.float32)
    cells = np.log1p(grid.astype(np.float64).clip(0).reshape(4, 48, 2) * (64, 1000))
    assert np.allclose(look((Part(0, 96, "grid"),), grid), cells.reshape(4, 96), atol=1e-5)
    ordered = np.sort(cells, axis=1)[:, ::-1]
    tops = [ordered[:, :n].mean(axis=1) for n in (1, 3, 6, 12, 24, 48)]
    wanted = np.concatenate([*tops, cells.std(axis=1, ddof=1)], axis=1)
    assert np.allclose(look((MOTION,), grid), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("part", "dim", "message"),
    [
        (Part(-96, None, "ranks"), 64, "has no part"),
        (Part(0, 80), 64, "has no part"),
        (Part(0, 64, "grid"), 64, "a motion grid has 96"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(part: Part, dim: int, message: str):
    with pytest.raises(ValueError, match=message):
        look((part,), np.zeros((1, 2, dim), np.float32))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": ()}, "labels must be"),
        ({"labels": ("a", "a")}, "labels must be"),
        ({"parts": ()}, "at least one part"),
        ({"cell": "transformer"}, "cell 'transformer'"),
        ({"cell": "mean", "causal": True}, "cannot be causal"),
        ({"window_s": 0}, "above 0"),
        ({"hidden": 8.0}, "whole numbers above 0"),
    ],
)
def test_wrong_configs_are_refused(values: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **values)


def test_turning_leaves_the_padding():
    turned = turn(torch.arange(10.0).reshape(2, 5, 1), torch.tensor([3, 5]))
    assert turned[..., 0].tolist() == [[2, 1, 0, 3, 4], [9, 8, 7, 6, 5]]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_and_company_have_no_influence(cell: str, causal: bool):
    if cell == "mean" and causal:
        return
    model = model_of(replace(CONFIG, cell=cell, causal=causal))
    clip = torch.randn(1, 7, 8)
    alone = model(clip, torch.tensor([7]))
    company = torch.full((2, 12, 8), 5.0)
    company[0, :7] = clip[0]
    assert torch.allclose(model(company, torch.tensor([7, 12]))[0, :7], alone[0], atol=1e-6)
    network = network_of(model)
    logits = network.logits(company.numpy(), np.array([7, 12]))
    assert np.allclose(logits[0, :7], network.logits(clip.numpy(), np.array([7]))[0], atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_numpy_runs_what_torch_trains(cell: str, causal: bool):
    if cell == "mean" and causal:
        return
    parts = (CHANGES, MOTION, Part(0, 3), Part(-GRID_SIZE, None, "grid"))
    config = EventModelConfig(("a", "b"), parts=parts, cell=cell, causal=causal, width=12, hidden=10)
    model = model_of(config, 6 + 14 + 3 + GRID_SIZE)
    lengths = torch.tensor([30, 1, 17, 0])
    clips = torch.rand(4, 30, 64 + GRID_SIZE) * torch.tensor([0.1, 1, 0.5, 2])[:, None, None]
    with torch.no_grad():
        model.standardise_by(clips, lengths)
        for weights in model.parameters():
            weights *= 2
        wanted = model(clips, lengths).numpy()
    assert wanted.std() > 0.1
    found = network_of(model).logits(clips.numpy(), lengths.numpy())
    assert (found.shape, found.dtype) == (wanted.shape, np.float32)
    for n, length in enumerate(lengths):
        assert np.allclose(found[n, :length], wanted[n, :length], rtol=0, atol=1e-5)


def test_a_network_keeps_the_weights_of_its_making():
    model = model_of(CONFIG)
    network, clip = network_of(model), np.ones((1, 5, 8), np.float32)
    before = network.logits(clip, np.array([5]))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor += 1
    assert np.array_equal(network.logits(clip, np.array([5])), before)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mean", None, "mean is missing, expected"),
        ("back.bias_hh_l0", None, r"back.bias_hh_l0 is missing, expected \(24,\)"),
        ("more", np.zeros(3, np.float32), r"more is \(3,\), expected none"),
        ("leave.1.weight", np.zeros((2, 8), np.float32), r"leave.1.weight is \(2, 8\), expected \(2, 16\)"),
        ("std", np.full(8, np.nan, np.float32), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(name: str, value: np.ndarray | None, message: str):
    tensors = {key: tensor.numpy() for key, tensor in model_of(CONFIG).state_dict().items()} | {name: value}
    with pytest.raises(ValueError, match=message):
        EventNetwork(CONFIG, {key: tensor for key, tensor in tensors.items() if tensor is not None})


def test_a_network_refuses_other_embeddings():
    with pytest.raises(ValueError, match="embeddings have 9 numbers, the event model expects 8"):
        network_of(model_of(CONFIG)).logits(np.zeros((1, 2, 9), np.float32), np.array([2]))
    open_ended = replace(CONFIG, parts=(Part(0, None),), embedding_dim=None)
    with pytest.raises(ValueError, match="embeddings give 1 inputs, the event model has 8"):
        network_of(model_of(open_ended)).logits(np.zeros((1, 2, 1), np.float32), np.array([2]))


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_causal_state_carries_over_pieces(cell: str):
    model = model_of(replace(CONFIG, cell=cell, causal=True))
    clip = torch.randn(30, 8)
    whole = model(clip[None], torch.tensor([30]))[0]
    state, parts = None, []
    network = network_of(model)
    for piece in clip.split([1, 9, 13, 7]):
        logits, state = network.advance(piece.numpy(), state)
        parts.append(logits)
    assert np.allclose(np.concatenate(parts), whole.detach().numpy(), atol=1e-6)


def test_only_a_two_way_model_sees_the_future():
    clip = torch.randn(1, 10, 8)
    changed = clip.clone()
    changed[0, 9] += 3
    length = torch.tensor([10])
    causal = model_of(replace(CONFIG, causal=True))
    assert torch.equal(causal(clip, length)[0, :9], causal(changed, length)[0, :9])
    both = model_of(CONFIG)
    assert not torch.allclose(both(clip, length)[0, 0], both(changed, length)[0, 0])
    with pytest.raises(ValueError, match="only a causal model"):
        network_of(both).advance(clip[0].numpy(), None)


def test_stored_model_comes_back_equal(tmp_path: Path):
    config = EventModelConfig(("fight", "fall"), parts=(Part(0, 64), MOTION), embedding_dim=160, cell="lstm")
    model = model_of(config, 64 + 14)
    model.mean += 0.5
    path = tmp_path / "m.safetensors"
    save_events(path, model)
    again = load_events(path)
    assert again.config == config
    clip, length = torch.rand(1, 9, 160), torch.tensor([9])
    assert torch.equal(again(clip, length), model(clip, length))
    network = load_event_network(path)
    assert network.config == config
    logits = network_of(model).logits(clip.numpy(), length.numpy())
    assert np.array_equal(network.logits(clip.numpy(), length.numpy()), logits)
    with safe_open(path, framework="pt") as handle:
        stored = json.loads(handle.metadata()["config"])
    assert stored["labels"] == ["fight", "fall"]
    assert stored["sample_fps"] == 10.0


def test_weights_may_be_stored_in_half(tmp_path: Path):
    model, path = model_of(CONFIG), tmp_path / "m.safetensors"
    save(path, model.state_dict(), CONFIG.to_json(), half=True)
    clip, length = np.random.default_rng(0).random((1, 9, 8), np.float32), np.array([9])
    logits = load_event_network(path).logits(clip, length)
    assert logits.dtype == np.float32
    assert np.array_equal(logits, network_of(load_events(path)).logits(clip, length))


@pytest.mark.parametrize("read", [load_events, load_event_network])
def test_files_that_are_no_event_model_are_refused(
    read: Callable[[Path], EventModel | EventNetwork], tmp_path: Path
):
    path = tmp_path / "m.safetensors"
    with pytest.raises(CheckpointError, match="not there"):
        read(path)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read(path)
    tensors = model_of(CONFIG).state_dict()
    save(path, tensors, {"kind": "detector"})
    with pytest.raises(CheckpointError, match="holds 'detector' weights, not 'events'"):
        read(path)
    for values in ({"hidden": 9}, {"labels": []}, {"hidden": 8.0}, {"width": "8"}, {"more": 1}):
        save(path, tensors, CONFIG.to_json() | values)
        with pytest.raises(CheckpointError, match="tensors and config do not fit"):
            read(path)
    save(path, {key: tensor for key, tensor in tensors.items() if key != "mean"}, CONFIG.to_json())
    with pytest.raises(CheckpointError, match="tensors and config do not fit"):
        read(path)


def made_clips(num: int = 60, seed: int = 0) -> tuple[list[np.ndarray], list[str | None], list[str]]:
    """Clips whose label is in how the motion goes on: label `burst` alternates, the rest is steady."""
    random = np.random.default_rng(seed)
    clips, labels, groups = [], [], []
    for n in range(num):
        length = int(random.integers(15, 30))
        level = 0.05 * random.uniform(0.5, 2)
        pulse = np.where(np.arange(length) % 6 < 3, 1.9, 0.1) if n % 2 else np.ones(length)
        clip = level * pulse[:, None] * random.uniform(0.5, 1.5, (length, GRID_SIZE))
        clips.append(clip.astype(np.float32))
        labels.append("burst" if n % 2 else None)
        groups.append(f"g{n // 4}")
    return clips, labels, groups


FAST = TrainSettings(max_epochs=12, batch_size=10, learning_rate=2e-2)


def test_training_learns_and_repeats_itself():
    clips, labels, groups = made_clips()
    config = EventModelConfig(("burst",), width=8, hidden=8)
    first = train_events(clips, labels, groups, config, FAST)
    test_clips, test_labels, _ = made_clips(40, seed=1)
    found = decide(clip_scores(first.model, test_clips))
    assert (
        np.mean([(n == 0) == (label == "burst") for n, label in zip(found, test_labels, strict=True)]) > 0.9
    )
    assert first.train_loss[-1] < first.train_loss[0]
    assert first.num_clips == {"burst": 30, "none": 30}
    again = train_events(clips, labels, groups, config, FAST)
    assert again.train_loss == first.train_loss
    assert np.array_equal(clip_scores(again.model, test_clips), clip_scores(first.model, test_clips))


def test_cross_validation_scores_clips_by_models_that_did_not_see_their_group():
    random = np.random.default_rng(0)
    clips, _, _ = made_clips(32)
    groups = [f"g{n // 4}" for n in range(32)]
    # The label is the group's: nothing else tells it, so a model that has seen the group would be right.
    labels = ["x" if random.random() < 0.5 else None for _ in range(8) for _ in range(4)]
    scores = cross_validate(clips, labels, groups, EventModelConfig(("x",), width=4, hidden=4), FAST, 4)
    right = np.mean((scores[:, 0] >= 0.5) == [label == "x" for label in labels])
    assert right < 0.75


def test_folds_keep_groups_together_and_cover_all_once():
    groups = [f"g{n % 11}" for n in range(100)]
    folds = grouped_folds(groups, 5, seed=3)
    assert np.array(folds).sum(axis=0).tolist() == [1] * 100
    for fold in folds:
        inside = {g for g, f in zip(groups, fold, strict=True) if f}
        outside = {g for g, f in zip(groups, fold, strict=True) if not f}
        assert not inside & outside
    with pytest.raises(ValueError, match="need as many groups"):
        grouped_folds(["a", "b"], 5, seed=0)


@pytest.mark.parametrize("num", [5, 6])
def test_few_clips_leave_no_fold_empty(num: int):
    for seed in range(20):
        folds = grouped_folds([f"g{n}" for n in range(num)], 5, seed)
        assert all(fold.any() for fold in folds)
        assert np.array(folds).sum(axis=0).tolist() == [1] * num


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["x", "x", "y", None, "x", "y", "x", None], None),
        (["x", "x", "x", "x", "y", "y", "x", None], "with g2 all clips of y: add some of other sources"),
        (
            ["x", "x", None, None, "x", "x", "x", "x"],
            "with g1 all clips without x: add some of other sources",
        ),
    ],
)
def test_a_label_of_one_source_cannot_be_cross_validated(labels: list[str | None], said: str | None):
    clips, _, _ = made_clips(8)
    groups = [f"g{n // 2}" for n in range(8)]
    names = tuple(sorted({label for label in labels if label is not None}))
    config = EventModelConfig(names, width=4, hidden=4)
    once = replace(FAST, max_epochs=1)
    if said is None:
        assert cross_validate(clips, labels, groups, config, once, 4).shape == (8, 2)
    else:
        with pytest.raises(ValueError, match=f"holds out whole sources, and {said}, or .* --folds 0"):
            cross_validate(clips, labels, groups, config, once, 4)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["c"] * 8, "not among"),
        ([None] * 8, "needs clips"),
        (["a"] * 8, "needs clips"),
        (["a"] * 7, "8 features"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(labels: list[str | None], message: str):
    clips, _, groups = made_clips(8)
    with pytest.raises(ValueError, match=message):
        train_events(clips, labels, groups, EventModelConfig(("a",)), FAST)


def test_mirroring_turns_the_columns_of_the_grid():
    clip = np.tile(np.arange(GRID_SIZE, dtype=np.float32), (5, 1))
    config = EventModelConfig(("a",), parts=(Part(-96, None, "grid"),))
    still = TrainSettings(speed=1, gain=1, crop=1)
    seen = {tuple(augment(clip, config, still, np.random.default_rng(seed))[0]) for seed in range(20)}
    mirrored = clip[0].reshape(6, 8, 2)[:, ::-1].reshape(-1)
    assert seen == {tuple(clip[0]), tuple(mirrored)}


def test_faster_play_means_shorter_and_stronger():
    clip = np.ones((40, GRID_SIZE), np.float32)
    config = EventModelConfig(("a",))
    played = [
        augment(clip, config, TrainSettings(speed=2, gain=1, crop=1), np.random.default_rng(s))
        for s in range(20)
    ]
    for one in played:
        assert one.mean() * len(one) == pytest.approx(40, rel=0.03)
    assert min(map(len, played)) < 25 < 60 < max(map(len, played))


def test_padding_is_zero():
    padded, lengths = pad([np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)])
    assert padded.shape == (2, 4, 3)
    assert lengths.tolist() == [2, 4]
    assert padded[0, 2:].abs().sum() == 0


def test_joined_windows_say_which_frames_are_of_which_clip():
    """Clips of constant strength: a frame's strength tells its label, wherever the joint lies."""
    config = EventModelConfig(("a",), parts=(Part(0, 4),), embedding_dim=4, window_s=3.0)
    settings = TrainSettings(speed=1, gain=1, crop=1)
    clips = [np.full((20, 4), level, np.float32) for level in (1.0, 2.0)]
    targets = torch.tensor([[0.0], [1.0]])
    both = 0
    for seed in range(5):
        random = np.random.default_rng(seed)
        windows, present = joined_windows(clips, targets, config, settings, random)
        assert windows.shape == (2, 30, 4)
        assert torch.equal(present[..., 0], windows[..., 0] - 1)
        both += int((present.amin(dim=1) < present.amax(dim=1)).sum())
    assert both


def test_no_cut_is_to_be_seen_where_clips_are_joined():
    """The CNN's numbers go on from where they were, and motion does not stop for a frame."""
    config = EventModelConfig(("a",), parts=(CHANGES, MOTION), window_s=2.0)
    still = TrainSettings(speed=1, gain=1, crop=1)
    clips = [np.full((10, 64 + GRID_SIZE), level, np.float32) for level in (0.1, 0.7)]
    for clip in clips:
        clip[:, :64] += 0.01 * np.arange(10)[:, None]
        clip[0, -GRID_SIZE:] = 0
    for seed in range(5):
        random = np.random.default_rng(seed)
        windows, _ = joined_windows(clips, torch.tensor([[0.0], [1.0]]), config, still, random)
        steps = windows[..., :64].diff(dim=1)
        assert steps.min() > -1e-6
        assert steps.max() < 0.011
        moving = windows[..., -GRID_SIZE:].amin(dim=2) > 0.09
        assert moving[:, 1:].all()  # what comes first in all has nothing before it
    assert clips[1][0, 0] == np.float32(0.7)


def test_joining_teaches_where_an_event_begins():
    """A burst between calm clips: trained on single clips a model smears it, on joined ones it does not."""
    clips, labels, groups = made_clips()
    config = EventModelConfig(("burst",), width=8, hidden=8, window_s=6.0)
    calm, burst = (made_clips(2, seed=5)[0][n] for n in (0, 1))
    video = torch.from_numpy(np.concatenate([calm, burst, calm]))[None]
    truth = torch.zeros(video.shape[1])
    truth[len(calm) : len(calm) + len(burst)] = 1
    errors = []
    for joined in (0.0, 2.0):
        model = train_events(clips, labels, groups, config, replace(FAST, joined=joined)).model
        with torch.no_grad():
            scores = torch.sigmoid(model(video, torch.tensor([video.shape[1]])))[0, :, 0]
        errors.append(float((scores - truth).abs().mean()))
    assert errors[1] < errors[0]


class Stop(Exception):
    pass


def test_a_training_that_was_killed_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clips, labels, groups = made_clips()
    config, state = EventModelConfig(("burst",), width=8, hidden=8), tmp_path / "state.safetensors"
    short = replace(FAST, max_epochs=6)
    whole = train_events(clips, labels, groups, config, short)
    epoch, done = _Fit.epoch, []

    def dies_in_the_fifth(fit: _Fit) -> None:
        if len(done) == 4:
            raise Stop
        done.append(epoch(fit))

    monkeypatch.setattr(_Fit, "epoch", dies_in_the_fifth)
    with pytest.raises(Stop):
        train_events(clips, labels, groups, config, short, state)
    monkeypatch.setattr(_Fit, "epoch", lambda fit: done.append(epoch(fit)))
    again = train_events(clips, labels, groups, config, short, state)
    assert len(done) == len(whole.train_loss)
    assert again.train_loss == whole.train_loss
    for key, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value)
    other = train_events(clips, labels, groups, config, replace(short, seed=5), state)
    assert other.train_loss != whole.train_loss
    state.write_bytes(b"broken")
    assert train_events(clips, labels, groups, config, short, state).train_loss == whole.train_loss
