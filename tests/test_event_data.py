"""Untrimmed videos with a table of events: reading it, cutting pieces, training on them and measuring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from models.event_config import EventModelConfig
from models.event_network import load_event_network
from models.temporal import EventModel, network_of
from models.training.event_settings import TrainSettings
from pipeline.errors import InputError, UsageError
from pipeline.evaluate.events import TrueEvent
from pipeline.event_data import Clip, clip_features, examples, load_annotated, load_clips, pieces
from pipeline.training_events import evaluate_clips, evaluate_videos, train_from

pytestmark = pytest.mark.usefixtures("one_thread")

HEAD = "video,label,start_s,end_s\n"


def written(folder: Path, rows: str, head: str = HEAD) -> Path:
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(name.encode())
    table = folder / "events.csv"
    table.write_text(head + rows)
    return table


def test_rows_are_events_and_rows_without_label_name_videos(tmp_path: Path):
    known = load_annotated(written(tmp_path, "a.mp4,goal,1,2.5\na.mp4,foul,2,3\nb.mp4,,,\n"))
    a, b = tmp_path / "a.mp4", tmp_path / "b.mp4"
    assert known.videos == (a, b)
    assert known.groups == ("a.mp4", "b.mp4")
    assert known.rows == (1, 2)
    assert known.of(a) == [TrueEvent(str(a), "goal", 1, 2.5), TrueEvent(str(a), "foul", 2, 3)]
    assert known.of(b) == []


def test_parquet_and_groups(tmp_path: Path):
    head = HEAD.strip() + ",group\n"
    csv = written(tmp_path, "a.mp4,goal,1,2,one\nb.mp4,background,0,9,one\n", head)
    parquet = tmp_path / "events.parquet"
    pq.write_table(pa.csv.read_csv(csv), parquet)
    assert load_annotated(parquet) == load_annotated(csv)
    assert load_annotated(csv).groups == ("one", "one")


def test_names_are_text_whatever_they_look_like(tmp_path: Path):
    known = load_annotated(
        written(tmp_path, "a.mp4, 01 ,1,2,\na.mp4,True,1,2,007\nb.mp4, none,,,\n", HEAD.strip() + ",group\n")
    )
    assert [event.label for event in known.events] == ["01", "True"]
    assert known.groups == ("007", "b.mp4")  # the first row that says one


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        ("a.mp4,goal,1,2\nc.mp4,goal,1,2\n", HEAD, "row 2: no video"),
        ("a.mp4,goal,3,2\n", HEAD, "row 1: start_s and end_s are no stretch of time"),
        ("a.mp4,goal,-1,2\n", HEAD, "row 1: start_s"),
        ("a.mp4,goal,,2\n", HEAD, "row 1: start_s"),
        ("a.mp4,goal,soon,2\n", HEAD, "cannot be read as a table of events"),
        ("a.mp4,goal,1\n", "video,label,start_s\n", "lacks a column"),
        ("a.mp4,,,\n", HEAD, "has no events"),
        ("a.mp4,goal,1,inf\n", HEAD, "row 1: start_s"),
        ("a.mp4,goal,1,2,3\n", HEAD.strip() + ",label\n", "cannot be read as a table of events"),
        ("a.mp4,goal,1,2,one,two\n", HEAD.strip() + ",group,group\n", "cannot be read as a table of events"),
        (
            "a.mp4,goal,1,2,x\na.mp4,goal,3,4,y\n",
            HEAD.strip() + ",group\n",
            "row 2: a.mp4 is of another group",
        ),
        ("", "", "cannot be read"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, rows: str, head: str, message: str):
    with pytest.raises(UsageError, match=message) as caught:
        load_annotated(written(tmp_path, rows, head))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"clip,group\nx/a.mp4\n", "line 2: no clip, or no group"),
        (b"clip,group\n,one\n", "line 2: no clip, or no group"),
        (b"clip,source\nx/a.mp4,one,more\n", "lacks a column"),
        (b"", "lacks a column"),
        (b"clip,group\n\xff,1\n", "cannot be read"),
    ],
)
def test_wrong_groups_of_clips_are_refused(tmp_path: Path, text: bytes, message: str):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.mp4").touch()
    (tmp_path / "groups.csv").write_bytes(text)
    with pytest.raises(UsageError, match=rf"groups\.csv.*{message}"):
        load_clips(tmp_path)


def test_a_cache_that_is_none_is_refused(tmp_path: Path):
    clips = [Clip(tmp_path / "a.mp4", "x", "a")]
    clips[0].path.write_bytes(b"a")
    cache = tmp_path / "cache.npz"
    clip_features(clips, stirred, cache, "d")
    whole = cache.read_bytes()
    np.save(tmp_path / "one.npy", np.zeros(3))
    for wrong in (b"", whole[: len(whole) // 2], b"PK\x03\x04 and more", (tmp_path / "one.npy").read_bytes()):
        cache.write_bytes(wrong)
        with pytest.raises(InputError, match=r"feature cache .*cache\.npz cannot be read.*delete it"):
            clip_features(clips, stirred, cache, "d")


def test_pieces_by_hand():
    """20 s at 2 frames a second, one event from 5 to 14 s, windows of 4 s."""
    t = np.arange(40) / 2
    embedded = (t, t[:, None].astype(np.float32))
    found = [
        (label, float(x[0, 0]), float(x[-1, 0]))
        for x, label in pieces(embedded, [TrueEvent("v", "a", 5, 14)], 4)
    ]
    assert found == [
        ("a", 5.0, 8.0),  # 19 frames in 3 parts: 7, 6, 6
        ("a", 8.5, 11.0),
        ("a", 11.5, 14.0),
        (None, 0.0, 2.0),  # 10 frames in 2 parts
        (None, 2.5, 4.5),
        (None, 14.5, 17.0),  # 11 frames in 2 parts
        (None, 17.5, 19.5),
    ]


def test_frames_in_events_of_two_labels_teach_neither(tmp_path: Path):
    """One frame a second; of one label they may overlap."""
    t = np.arange(20.0)
    events = [TrueEvent("v", *one) for one in (("a", 2, 12), ("a", 3, 12), ("b", 6, 8), ("b", 11, 15))]
    found = [
        (label, float(x[0, 0]), float(x[-1, 0]))
        for x, label in pieces((t, t[:, None].astype(np.float32)), events, 60)
    ]
    assert found == [
        ("a", 2.0, 5.0),
        ("a", 9.0, 10.0),
        ("a", 3.0, 5.0),
        ("a", 9.0, 10.0),
        ("b", 13.0, 15.0),
        (None, 0.0, 1.0),
        (None, 16.0, 19.0),
    ]
    table = written(tmp_path, "a.mp4,a,2,12\na.mp4,b,6,8\nb.mp4,b,6,8\n")
    with pytest.raises(UsageError) as caught:
        examples(table, 6.0, stirred)
    assert str(caught.value) == (
        f"{table}, row 2: fewer than two sampled frames show this event without one of another label "
        "(got '6 to 8 s'): let start_s and end_s say from when to when it can be seen, within its video; "
        "labels that only come together want a table and a model each"
    )


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ("20,20", "(got '20 to 20 s')"),  # a moment, as of spotting
        ("20.02,20.15", "(got '20.02 to 20.15 s')"),  # one frame of the ten in a second
        ("59.9,75", "(got '59.9 to 75 s')"),  # begins with the video's last frame
    ],
)
def test_events_that_no_two_frames_show_cannot_be_learned(tmp_path: Path, times: str, said: str):
    table = written(tmp_path, f"a.mp4,goal,1,2\nb.mp4,,,\nb.mp4,goal,{times}\n")
    with pytest.raises(UsageError) as caught:
        train_from(table, tmp_path / "m.safetensors", stirred, num_folds=0)
    assert f"events.csv, row 3: fewer than two sampled frames show this event {said}: let" in str(
        caught.value
    )
    model = network_of(EventModel(EventModelConfig(("goal",)), 14))
    assert evaluate_videos(table, model, stirred).num_true == 2  # moments are spotted


def test_videos_of_one_name_in_two_folders_are_two_sources(tmp_path: Path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.mp4").touch()
    table = written(tmp_path, "x/a.mp4,goal,1,2\ny/a.mp4,goal,1,2\n./x/a.mp4,goal,3,4\n")
    assert load_annotated(table).groups == ("x/a.mp4", "y/a.mp4")


def stirred(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """60 s at 10 frames a second: noise, and in videos called e... strong motion from 20 to 30 s."""
    random = np.random.default_rng(path.read_bytes()[0])
    t = np.arange(600) / 10
    motion = random.uniform(0, 0.02, (600, 96)).astype(np.float32)
    if path.stem.startswith("e"):
        motion[200:301] += 0.3
    return t, motion


def test_long_background_is_cut_like_that_of_untrimmed_videos(tmp_path: Path):
    """Training pads clips to the longest of them: an hour among clips of seconds would fill the memory."""
    for folder, name in (("rush", "e1"), ("background", "n1"), ("background", "n2")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.mp4").write_bytes(name[1].encode())
    features, labels, groups = examples(tmp_path, 6.0, stirred)
    assert labels == [None] * 20 + ["rush"]
    assert groups == ["background/n1.mp4"] * 10 + ["background/n2.mp4"] * 10 + ["rush/e1.mp4"]
    assert [len(x) for x in features] == [60] * 20 + [600]
    whole = stirred(tmp_path / "background/n1.mp4")[1]
    np.testing.assert_array_equal(np.concatenate(features[:10]), whole)


def test_train_on_a_table_and_measure_on_videos_never_seen(tmp_path: Path):
    names = [f"{kind}{n}" for kind in "en" for n in range(5)]
    for number, name in enumerate(names):
        (tmp_path / f"{name}.mp4").write_bytes(bytes([number]))
    rows = [f"{name}.mp4,{'rush,20,30' if name[0] == 'e' else ',,'}\n" for name in names]
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text(HEAD + "".join(rows[:3] + rows[5:8]))
    test.write_text(HEAD + "".join(rows[3:5] + rows[8:]))
    made = train_from(
        train,
        tmp_path / "rush.safetensors",
        stirred,
        config=EventModelConfig(("any",), width=8, hidden=8),
        settings=TrainSettings(max_epochs=25, held_out=0),
        num_folds=0,
    )
    assert made.trained.model.config.labels == ("rush",)
    assert made.report["groups"] == 6
    model = load_event_network(made.weights)
    report = evaluate_videos(test, model, stirred, min_score=0.5).to_json()
    assert (report["num_videos"], report["num_true"], report["num_found"]) == (4, 2, 2)
    assert report["map_0.7"] == report["spotting_map_1"] == 1.0


def test_videos_without_the_models_events_cannot_be_measured(tmp_path: Path):
    table = written(tmp_path, "a.mp4,goal,1,2\n")
    model = network_of(EventModel(EventModelConfig(("fight",)), 14))
    with pytest.raises(UsageError, match="has no events of fight"):
        evaluate_videos(table, model, stirred)


def test_clips_of_other_labels_than_the_models_cannot_be_measured(tmp_path: Path):
    """They count as none, so a model that finds nothing would be right on all of them."""
    model = network_of(EventModel(EventModelConfig(("fight",)), 14))
    for folder in ("Fights", "background"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.mp4").write_bytes(folder.encode())
    with pytest.raises(UsageError, match=r"has no clips of fight \(got 'Fights'\): name the folders"):
        evaluate_clips(tmp_path, model, stirred)
    (tmp_path / "Fights").rename(tmp_path / "normal")  # false alarms alone can be
    assert evaluate_clips(tmp_path, model, stirred).num_clips == 2
