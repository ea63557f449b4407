"""The event detector: frames to intervals, the same however they are cut; clips to weights and back."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cells import sigmoid
from models.event_config import GRID_SIZE, EventModelConfig, Part
from models.event_network import EventNetwork, look
from models.files import file_digest, weights_path
from models.temporal import EventModel, network_of
from models.training.event_settings import TrainSettings
from pipeline import event_data, ids
from pipeline.config import EventsConfig
from pipeline.errors import InputError, ModelError, UsageError
from pipeline.event_card import command_line
from pipeline.event_data import Clip, clip_features, load_clips, motion_of
from pipeline.event_rows import events_table, with_tracks
from pipeline.events import (
    EventDetector,
    FrameScorer,
    Intervals,
    behind_another_detector,
    load_event_model,
    shown_too_few_frames,
)
from pipeline.lake.schema import EVENTS, FRAMES
from pipeline.training_events import LOOKS, embed_for, evaluate_clips, frame_scores, train_from
from tests.helpers import ROOT, shared_path

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = EventModelConfig(("a", "b"), parts=(Part(0, 4),), width=8, hidden=8)
CONFIGS = [
    CONFIG,
    replace(CONFIG, cell="mean"),
    replace(CONFIG, cell="lstm", window_s=2.5),
    replace(CONFIG, causal=True),
    replace(CONFIG, cell="lstm", causal=True),
    replace(CONFIG, parts=(Part(0, 4, "changes"),)),
    replace(CONFIG, parts=(Part(0, 4, "changes"), Part(0, 4)), causal=True),
]


def torch_model_of(config: EventModelConfig) -> EventModel:
    torch.manual_seed(1)
    model = EventModel(config, look(config.parts, np.zeros((1, 1, 4), np.float32)).shape[-1]).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights *= 2  # so that scores are not all near one half
    return model


def model_of(config: EventModelConfig = CONFIG) -> EventNetwork:
    return network_of(torch_model_of(config))


def frames_of(
    embeddings: np.ndarray, fps: float = 10, missing: Sequence[int] = (), shift: float = 0
) -> pa.Table:
    num = len(embeddings)
    columns = {
        "sample": np.arange(num),
        "pts": pa.nulls(num, pa.int64()),
        "t": shift + np.arange(num) / fps,
        "embedding": [None if n in missing else row for n, row in enumerate(embeddings.astype(np.float32))],
        "camera_motion": pa.nulls(num, FRAMES.field("camera_motion").type),
        "reused": [False] * num,
    }
    return pa.table(columns, schema=FRAMES)


def random_frames(seed: int, num: int) -> pa.Table:
    """Frames with some missing embeddings and one gap in time."""
    random = np.random.default_rng(seed)
    drift = np.cumsum(random.normal(0, 0.5, (num, 4)), axis=0)
    table = frames_of(drift - drift.mean(axis=0), missing=random.integers(0, num, 5).tolist())
    at = random.integers(0, num)
    t = table["t"].to_numpy() + np.where(np.arange(num) >= at, 7.3, 0)
    return table.set_column(table.schema.get_field_index("t"), FRAMES.field("t"), pa.array(t))


def run(model: EventNetwork, frames: pa.Table, cuts: Sequence[int] = ()) -> pa.Table:
    detector = EventDetector(
        model, EventsConfig(min_score=0.5, min_duration_s=0.2), video_id="v", name="m", digest="d"
    )
    bounds = [0, *sorted(cuts), frames.num_rows]
    parts = [detector.update(frames.slice(a, b - a)) for a, b in pairwise(bounds)]
    return pa.concat_tables([*parts, detector.finish()])


def scored(model: EventNetwork, frames: pa.Table, cuts: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    scorer = FrameScorer(model)
    bounds = [0, *sorted(cuts), frames.num_rows]
    parts = [part for a, b in pairwise(bounds) for part in scorer.update(frames.slice(a, b - a))]
    parts += scorer.finish()
    parts = parts or [(np.empty(0), np.empty((0, 2), np.float32))]
    return np.concatenate([t for t, _ in parts]), np.concatenate([scores for _, scores in parts])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.cell}{'-causal' * c.causal}")
@settings(max_examples=6)
@given(seed=st.integers(0, 1000), num=st.integers(1, 500), cuts=st.lists(st.integers(0, 500), max_size=6))
def test_cutting_the_frames_changes_nothing(config: EventModelConfig, seed: int, num: int, cuts: list[int]):
    model, frames = model_of(config), random_frames(seed, num)
    cuts = [cut for cut in cuts if cut < num]
    assert run(model, frames, cuts).equals(run(model, frames))
    (t, scores), (t_cut, scores_cut) = scored(model, frames), scored(model, frames, cuts)
    assert np.array_equal(t, t_cut)
    assert np.array_equal(scores, scores_cut)
    # Every frame with an embedding has a score, once and in order.
    assert t.tolist() == frames.filter(frames["embedding"].is_valid())["t"].to_pylist()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.cell}{'-causal' * c.causal}")
def test_cuts_at_every_frame_and_at_blocks(config: EventModelConfig):
    model, frames = model_of(config), random_frames(3, 400)
    whole = run(model, frames)
    assert whole.num_rows > 0
    for cuts in (range(400), range(0, 400, 64), range(1, 400, 7)):
        assert run(model, frames, cuts).equals(whole)


def test_scores_are_those_of_the_model_itself():
    embeddings = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    causal = torch_model_of(replace(CONFIG, causal=True))
    _, scores = scored(network_of(causal), frames_of(embeddings))
    with torch.no_grad():
        direct = torch.sigmoid(causal(torch.from_numpy(embeddings)[None], torch.tensor([40])))[0].numpy()
    assert np.allclose(scores, direct, atol=1e-6)
    # Frames of 1 to 3 s lie in the middle half of the window from 0 to 4 s.
    both = torch_model_of(replace(CONFIG, window_s=4.0))
    _, scores = scored(network_of(both), frames_of(embeddings))
    with torch.no_grad():
        direct = torch.sigmoid(both(torch.from_numpy(embeddings)[None], torch.tensor([40])))[0].numpy()
    assert np.allclose(scores[10:30], direct[10:30], atol=1e-6)


def test_a_causal_model_forgets_over_a_gap():
    embeddings = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    model = model_of(replace(CONFIG, causal=True))
    detector = FrameScorer(model)
    parts = [*detector.update(frames_of(embeddings)), *detector.update(frames_of(embeddings, shift=60))]
    parts += detector.finish()
    scores = np.concatenate([scores for _, scores in parts])
    assert np.allclose(scores[:30], scores[30:], atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [(40, 7, 1, 60), (200, 130)])
def test_each_shot_is_scored_for_itself(causal: bool, lengths: tuple[int, ...]):
    """As if the others were not there."""
    random = np.random.default_rng(0)
    config = EventModelConfig(("a",), parts=LOOKS, causal=causal)
    torch.manual_seed(1)
    model = network_of(EventModel(config, look(LOOKS, np.zeros((1, 1, 160), np.float32)).shape[-1]))
    shots, begin = [], 0
    for number, length in enumerate(lengths):
        cnn = np.eye(64)[number] + random.normal(0, 0.01, (length, 64))
        shots.append((begin, np.concatenate([cnn, random.uniform(0, 0.1, (length, GRID_SIZE))], axis=1)))
        begin += length
    _, scores = scored(model, frames_of(np.concatenate([shot for _, shot in shots])))
    for begin, shot in shots:
        _, alone = scored(model, frames_of(shot, shift=begin / 10))
        assert np.allclose(scores[begin : begin + len(shot)], alone, atol=1e-6)
    assert np.ptp(scores) > 0.01


def test_intervals_by_hand():
    t = np.arange(14) / 10
    scores = np.array(
        [0.1, 0.46, 0.6, 0.9, 0.47, 0.6, 0.44, 0.1, 0.46, 0.46, 0.46, 0.6, 0.1, 0.8], np.float32
    )
    # Open at 0.5, goes on from 0.45: 0.1 to 0.5 s, then 0.8 to 1.1 s, then 1.3 s, which is a single frame.
    intervals = Intervals(0.5, 0.3)
    found = [*intervals.push(t, scores), *intervals.finish()]
    assert [(round(i.t_start, 3), round(i.t_end, 3), round(i.t_peak, 3)) for i in found] == [
        (0.1, 0.5, 0.3),
        (0.8, 1.1, 1.1),
    ]
    assert found[0].score == pytest.approx(0.9)
    assert found[0].mean_score == pytest.approx((0.46 + 0.6 + 0.9 + 0.47 + 0.6) / 5)
    assert found[0].num_frames == 5


@pytest.mark.parametrize(
    ("opens", "holds", "closes"), [(0.3, 0.28, 0.26), (0.7, 0.51, 0.49), (0.9, 0.64, 0.62)]
)
def test_what_closes_an_interval_depends_on_what_opens_it(opens: float, holds: float, closes: float) -> None:
    intervals = Intervals(opens, 0.0)
    scores = np.array([holds, 0.95, holds, holds, closes, holds], np.float32)
    found = [*intervals.push(np.arange(6) / 10, scores), *intervals.finish()]
    assert [(i.t_start, i.t_end) for i in found] == [(0.0, 0.3)]


def test_an_interval_ends_at_a_gap_and_needs_a_peak():
    intervals = Intervals(0.5, 0.0)
    found = intervals.push(np.array([0.0, 1.0, 3.5, 4.0]), np.full(4, 0.9, np.float32)) + intervals.finish()
    assert [(i.t_start, i.t_end) for i in found] == [(0.0, 1.0), (3.5, 4.0)]
    low = Intervals(0.5, 0.0)
    assert low.push(np.arange(5.0), np.full(5, 0.45, np.float32)) + low.finish() == []


def test_event_rows_say_where_they_come_from():
    row = run(model_of(), random_frames(3, 400)).to_pylist()[0]
    assert (row["source"], row["zone"], row["direction"], row["track_ids"]) == ("model", None, None, [])
    assert row["label"] in ("a", "b")
    assert row["t_start"] <= row["t_peak"] <= row["t_end"]
    details = json.loads(row["details"])
    assert (details["kind"], details["model"], details["weights"], details["cell"]) == (
        "model",
        "m",
        "d",
        "gru",
    )


@pytest.mark.parametrize(
    ("classes", "kept"),
    [
        ((), [[2, 7], [7], []]),
        (("person",), [[7], [7]]),  # nobody is there during the third
        (("car",), [[2], []]),  # one that has left before the second's peak
        (("person", "car"), [[2, 7], [7]]),
        (("bus",), []),
    ],
)
def test_events_of_models_have_the_objects_at_their_peak(classes: tuple[str, ...], kept: list[list[int]]):
    objects = pa.table(
        {
            "track_id": pa.array([7, 2], pa.int64()),
            "class": ["person", "car"],
            "t_start": [1.0, 0.0],
            "t_end": [9.0, 6.2],
        }
    )
    times = [{"t_start": 4.0, "t_end": 6.0, "t_peak": 5.0}, {"t_start": 6.0, "t_end": 9.5, "t_peak": 7.0}]
    times.append({"t_start": 9.5, "t_end": 12.0, "t_peak": 10.0})
    row = run(model_of(), random_frames(3, 400)).to_pylist()[0]
    found = with_tracks(events_table(row | at for at in times), objects, classes)
    assert found.schema == EVENTS
    assert found["track_ids"].to_pylist() == kept
    assert found["t_peak"].to_pylist() == [5.0, 7.0, 10.0][: len(kept)]


@pytest.mark.parametrize(
    ("sample_fps", "told"),
    [(0.0, False), (20.0, False), (10.0, False), (7.0, False), (5.0, True), (1.0, True)],
)
def test_frames_on_a_coarser_grid_than_the_model_learned_from_are_told(sample_fps: float, told: bool):
    line = shown_too_few_frames("fight", model_of(), sample_fps)
    assert (line is not None) == told
    if line is not None:
        assert line.startswith(
            f"event model 'fight' was trained on 10 frames a second, here it sees {sample_fps:g}"
        )


def test_no_embeddings_no_events():
    detector = EventDetector(model_of(), EventsConfig())
    assert detector.update(FRAMES.empty_table()).schema == EVENTS
    assert detector.update(frames_of(np.zeros((5, 4)), missing=range(5))).num_rows == 0
    assert detector.finish().num_rows == 0


@pytest.mark.parametrize("cuts", [(), (7, 50), range(1, 90)])
@pytest.mark.parametrize("sample_fps", [30, 0])
def test_frames_on_a_finer_grid_are_thinned_out(sample_fps: float, cuts: Sequence[int]):
    """By the ticks at which they are on display, some time after they came; without a grid by their times."""
    frames = frames_of(np.zeros((90, 4)), fps=30)
    times = frames["t"].to_numpy().copy()
    if sample_fps:
        times[1:] -= np.random.default_rng(0).uniform(0, 1 / 60, 89)
    frames = frames.set_column(frames.schema.get_field_index("t"), FRAMES.field("t"), pa.array(times))
    scorer = FrameScorer(model_of(), sample_fps=sample_fps)
    parts = [scorer.update(frames.slice(a, b - a)) for a, b in pairwise((0, *cuts, 90))]
    scored = [t for part in (*parts, scorer.finish()) for t, _ in part]
    assert np.array_equal(np.concatenate(scored), times[::3])


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        (frames_of(np.zeros((50, 3))), ModelError, "does not fit the embeddings"),
        (frames_of(np.zeros((50, 4))).take(pa.array(range(49, -1, -1))), ValueError, "in order of t"),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames: pa.Table, error: type[Exception], message: str):
    detector = EventDetector(model_of(), EventsConfig())
    with pytest.raises(error, match=message):
        detector.update(frames)
        detector.finish()


def test_embeddings_that_change_their_length_are_refused():
    detector = EventDetector(model_of(), EventsConfig())
    detector.update(frames_of(np.zeros((5, 4))))
    with pytest.raises(ModelError, match="does not fit the embeddings"):
        detector.update(frames_of(np.zeros((5, 3)), shift=0.5))


def test_a_missing_model_is_named():
    with pytest.raises(ModelError, match="'no-such-model' cannot be used"):
        load_event_model("no-such-model")
    with pytest.raises(ModelError, match="need #sha256="):
        load_event_model("https://example.org/goal.safetensors")


def test_cost_grows_no_faster_than_length():
    """Side by side, the best of three: other work on the machine slows both."""
    model = model_of()

    def seconds(frames: int) -> float:
        table = frames_of(np.random.default_rng(0).normal(size=(frames, 4)))
        detector = EventDetector(model, EventsConfig())
        begin = time.process_time()
        detector.update(table)
        return time.process_time() - begin

    pairs = [(seconds(3_000), seconds(12_000)) for _ in range(3)]
    assert min(long for _, long in pairs) < 8 * min(short for short, _ in pairs)


def test_buffers_do_not_grow_with_length():
    for config in CONFIGS:
        scorer = FrameScorer(model_of(config))
        for hour in range(20):
            list(scorer.update(frames_of(np.zeros((500, 4)), shift=50 * hour)))
            assert len(scorer._scorer._t) <= 17 * config.window_s / 2 * 10 + 20


def touch_clips(root: Path, names: Sequence[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def test_clips_are_labelled_by_their_folders(tmp_path: Path):
    touch_clips(tmp_path / "set", ["fight/1.mp4", "noFight/2.mp4", "background/3.MKV", "fight/notes.txt"])
    (tmp_path / "groups.csv").write_text("clip,group\nset/fight/1.mp4,g1\nset/noFight/2.mp4,g1\n")
    clips = [(clip.path.name, clip.label, clip.group) for clip in load_clips(tmp_path / "set")]
    assert clips == [("3.MKV", None, "background/3.MKV"), ("1.mp4", "fight", "g1"), ("2.mp4", None, "g1")]


def test_every_kind_of_video_is_a_clip_and_what_systems_leave_is_none(tmp_path: Path):
    touch_clips(tmp_path, ["fight/1.MTS", "fight/2.wmv", "fight/._1.mp4", ".Trashes/3.mp4"])
    (tmp_path / "groups.csv").write_text("clip,group\nfight/1.MTS,g\n", encoding="utf-8-sig")
    assert [(clip.path.name, clip.group) for clip in load_clips(tmp_path)] == [
        ("1.MTS", "g"),
        ("2.wmv", "fight/2.wmv"),
    ]


def test_clips_of_one_name_in_two_folders_are_two_sources(tmp_path: Path):
    touch_clips(tmp_path, ["fight/1.mp4", "goal/1.mp4", "goal/1.avi"])
    assert [clip.group for clip in load_clips(tmp_path)] == ["fight/1.mp4", "goal/1.avi", "goal/1.mp4"]


def test_groups_of_clips_that_are_not_there_are_refused(tmp_path: Path):
    """Passed over, they would let one source be learned from and measured on."""
    touch_clips(tmp_path, ["train/fight/1.mp4", "val/fight/2.mp4"])
    table = tmp_path / "groups.csv"
    table.write_text("clip,group\ntrain/fight/1.mp4,a\nval/fight/2.mp4,b\n")
    assert [clip.group for clip in load_clips(tmp_path / "train")] == ["a"]
    table.write_text("clip,group\ntrain/fight/1.mp4,a\n1.mp4,a\n")
    with pytest.raises(
        UsageError, match=r"groups\.csv, line 3: no such clip \(got '1\.mp4'\): give its path"
    ):
        load_clips(tmp_path / "train")


def test_the_shared_fights_have_their_groups():
    folder = shared_path("data", "fights", "train")
    with (folder.parent / "groups.csv").open(newline="") as file:
        known = {row["clip"]: row["group"] for row in csv.DictReader(file)}
    clips = load_clips(folder)
    assert len(clips) == 200
    assert all(clip.group == known[f"train/{clip.path.parent.name}/{clip.path.name}"] for clip in clips)


def test_folders_without_clips_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="is not a directory"):
        load_clips(tmp_path / "absent")
    with pytest.raises(UsageError, match="no folders with videos"):
        load_clips(tmp_path)
    touch_clips(tmp_path, ["fight/1.mp4"])
    (tmp_path / "groups.csv").write_text("name,source\n1,2\n")
    with pytest.raises(UsageError, match="lacks a column"):
        load_clips(tmp_path)


def test_features_are_computed_once_per_content_encoder_and_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    touch_clips(tmp_path, ["fight/1.mp4", "fight/2.mp4"])
    clips = load_clips(tmp_path)
    asked: list[Path] = []

    def embed(path: Path) -> tuple[np.ndarray, np.ndarray]:
        asked.append(path)
        return np.arange(3.0), np.full((3, 2), len(path.read_bytes()), np.float32)

    cache = tmp_path / "features.npz"
    first = clip_features(clips, embed, cache, "e1")
    again = clip_features(clips, embed, cache, "e1")
    assert len(asked) == 2
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    clip_features(clips, embed, cache, "e2")
    clips[0].path.write_bytes(b"changed")
    clip_features(clips, embed, cache, "e2")
    assert len(asked) == 5
    monkeypatch.setattr(ids, "PERCEPTION_VERSION", 99)
    clip_features(clips, embed, cache, "e2")
    assert len(asked) == 7
    monkeypatch.setattr(
        event_data, "resolved", lambda settings: settings.model_copy(update={"precision": "int8"})
    )
    clip_features(clips, embed, cache, "e2")
    assert len(asked) == 9
    cache.write_bytes(b"broken")
    with pytest.raises(InputError, match="delete it"):
        clip_features(clips, embed, cache, "e2")


def made_motion(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Motion that is strong in clips whose folder is `rush`."""
    random = np.random.default_rng(int(path.stem))
    level = 0.5 if path.parent.name == "rush" else 0.02
    return np.arange(20) / 10, (level * random.uniform(0.5, 2, (20, GRID_SIZE))).astype(np.float32)


def test_train_store_and_evaluate_on_folders(tmp_path: Path):
    touch_clips(tmp_path / "clips", [f"{label}/{n}.mp4" for label in ("rush", "none") for n in range(16)])
    made = train_from(
        tmp_path / "clips",
        tmp_path / "rush.safetensors",
        made_motion,
        settings=TrainSettings(max_epochs=4, batch_size=4, learning_rate=2e-2),
        num_folds=2,
        command="marey train events --data clips",
    )
    assert made.report["cross_validation"]["accuracy"] >= 0.9
    assert "marey train events --data clips" in made.card.read_text()
    assert made.plot is not None and made.plot.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.state"))
    assert made.trained.model.config.detector is None  # of motion alone
    json.dumps(made.report)
    model, digest = load_event_model(str(made.weights))
    assert len(digest) == 32
    report = evaluate_clips(tmp_path / "clips", model, made_motion)
    assert report.num_clips == 32
    assert report.accuracy >= 0.9
    t, embeddings = made_motion(tmp_path / "rush/3.mp4")
    assert frame_scores(model, t, embeddings).mean() > 0.5


def test_the_command_on_a_card_can_be_given_again_and_holds_no_secret():
    place, digest = "s.example/w.safetensors", "#sha256=" + 64 * "0"
    called = ["train", "events", "--data", "my clips", "--out=o.safetensors"]
    for weights in (
        ["--weights", f"https://me:pw@{place}?X-Sig=k{digest}"],
        [f"--weights=https://{place}?k{digest}"],
    ):
        told = shlex.split(command_line([*called, *weights]))
        assert told[:6] == ["marey", *called]
        assert "=".join(told[6:]) == f"--weights=https://{place}{digest}"


def test_what_was_computed_before_a_kill_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(event_data, "SAVE_EVERY_S", 0.0)
    touch_clips(tmp_path, ["fight/1.mp4", "fight/2.mp4", "fight/3.mp4"])
    asked: list[str] = []

    def embed(path: Path) -> tuple[np.ndarray, np.ndarray]:
        asked.append(path.stem)
        if asked == ["1", "2", "3"]:
            raise KeyboardInterrupt
        return np.arange(3.0), np.zeros((3, 2), np.float32)

    with pytest.raises(KeyboardInterrupt):
        clip_features(load_clips(tmp_path), embed, tmp_path / "cache/features.npz")
    clip_features(load_clips(tmp_path), embed, tmp_path / "cache/features.npz")
    assert asked == ["1", "2", "3", "3"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["features.npz"]


def test_a_model_knows_the_detector_behind_which_it_was_trained(tmp_path: Path):
    touch_clips(tmp_path / "clips", [f"{label}/{n}.mp4" for label in ("rush", "none") for n in range(4)])

    def embed(path: Path) -> tuple[np.ndarray, np.ndarray]:
        t, motion = made_motion(path)
        return t, np.concatenate([np.ones((len(t), 8), np.float32), motion], axis=1)

    made = train_from(
        tmp_path / "clips",
        tmp_path / "rush.safetensors",
        embed,
        digest="d1" * 16,
        config=EventModelConfig(("",), parts=LOOKS),
        settings=TrainSettings(max_epochs=1),
        num_folds=0,
    )
    model, _ = load_event_model(str(made.weights))
    assert "d1" * 16 in made.card.read_text()
    assert behind_another_detector("rush", model, "d1" * 16) is None
    line = behind_another_detector("rush", model, "d2" * 16)
    assert line is not None and line.startswith(
        "event model 'rush' was trained behind another detector (d1d1d1d1d1d1, here d2d2d2d2d2d2)"
    )
    assert line.endswith("train it again behind this one with marey train events")


def test_clips_of_one_label_cannot_be_trained_on(tmp_path: Path):
    touch_clips(tmp_path, [f"rush/{n}.mp4" for n in range(4)])
    with pytest.raises(UsageError, match="clips without it"):
        train_from(tmp_path, tmp_path / "m.safetensors", made_motion, num_folds=0)


def test_motion_of_a_real_clip():
    path = shared_path("data/fights/val/fight")
    clip = min(path.glob("*.mp4"))
    t, embeddings = motion_of(clip)
    assert embeddings.shape == (len(t), GRID_SIZE)
    assert 15 <= len(t) <= 60
    assert np.all(embeddings[0] == 0)
    assert np.all(np.diff(t) > 0)
    assert np.array_equal(embeddings, embeddings.astype(np.float16))
    assert embeddings[1:].max() > 0.01
    assert Clip(clip, "fight", "g").label == "fight"


@pytest.fixture(scope="module")
def perceived() -> tuple[np.ndarray, np.ndarray]:
    """Times and whole embeddings of a clip of the validation set."""
    embed, digest = embed_for(LOOKS)
    assert len(digest) == 32
    return embed(shared_path("data/fights/val/fight/fi013.mp4"))


def test_perceived_frames_end_in_the_motion_of_the_clip(perceived: tuple[np.ndarray, np.ndarray]):
    """The CNN's numbers, of unit length, then the motion grid that needs no CNN."""
    t, embeddings = perceived
    t_motion, motion = motion_of(shared_path("data/fights/val/fight/fi013.mp4"))
    assert np.array_equal(t, t_motion)
    assert embeddings.shape == (len(t), 64 + GRID_SIZE)
    assert np.array_equal(embeddings[:, 64:], motion)
    assert np.allclose(np.linalg.norm(embeddings[:, :64], axis=1), 1, atol=0.01)


def test_shipped_fight_weights_give_the_stored_numbers():
    model, _ = load_event_model("fight")
    assert (model.config.labels, model.config.classes) == (("fight",), ("person",))
    assert model.config.parts == LOOKS
    assert model.config.detector == file_digest(weights_path("detector"))
    ramp = np.linspace(0, 0.2, 30 * 160, dtype=np.float32).reshape(1, 30, 160)
    ramp[..., :64] += (0.01 * torch.arange(30)[:, None] % 0.03).numpy()
    length = np.array([30])
    scores = sigmoid(model.logits(ramp, length))[0, [0, 10, 20, 29], 0]
    assert scores.tolist() == pytest.approx([0.1106, 0.2704, 0.6055, 0.6328], abs=5e-4)
    # Which of the CNN's numbers changes does not matter: other detector weights give others.
    order = np.random.default_rng(0).permutation(64)
    mixed = np.concatenate([ramp[..., order], ramp[..., 64:]], axis=-1)
    assert np.allclose(model.logits(mixed, length), model.logits(ramp, length), rtol=0, atol=1e-4)


def test_events_are_found_without_torch():
    code = """
import sys
import numpy as np
import pyarrow as pa
from pipeline.config import EventsConfig
from pipeline.events import EventDetector, load_event_model

num = 2000
vectors = np.random.default_rng(0).random((num, 160), np.float32)
frames = pa.table({"sample": np.arange(num), "t": np.arange(num) / 10, "embedding": list(vectors)})
detector = EventDetector(load_event_model("fight")[0], EventsConfig(min_score=0.01, min_duration_s=0))
print(detector.update(frames).num_rows + detector.finish().num_rows > 0, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_shipped_fight_weights_on_a_clip_of_the_validation_set(perceived: tuple[np.ndarray, np.ndarray]):
    model, _ = load_event_model("fight")
    scores = frame_scores(model, *perceived)
    assert len(scores) == 20
    assert scores.mean() == pytest.approx(0.403, abs=0.03)
