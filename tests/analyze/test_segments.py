"""The same rows, however the work is cut and spread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.analyze import analyze
from pipeline.analyze.batcher import Batcher
from pipeline.analyze.interpret import Interpreter, Pair
from pipeline.analyze.perception import VideoWork
from pipeline.analyze.tools import Tools
from pipeline.lake import Lake
from pipeline.lake.staging import Staging
from pipeline.media import Letterbox, SampledFrame
from tests.analyze.build import (
    CLASSES,
    FPS,
    HEIGHT,
    INPUT,
    LONG_S,
    SHORT_S,
    TABLES,
    WIDTH,
    ask,
    config,
    counts,
    picture,
    place,
    rows,
)
from tests.media.make import write_video


def test_the_clip_is_worth_comparing(whole: Path) -> None:
    found = rows(whole)
    assert [frame["sample"] for frame in found["frames"]] == list(range(LONG_S * FPS))
    assert len(found["tracks"]) > 300
    assert len(found["objects"]) > 15
    assert {event["label"] for event in found["events"]} == {"gate", "corner", "stir"}
    # The boxes are where the shapes are, to a cell of the network, and there is one for each.
    assert len(found["detections"]) > 1.9 * LONG_S * FPS
    for row in found["detections"]:
        x, y = place(CLASSES.index(row["class"]), row["t"])
        assert abs((row["x1"] + row["x2"]) / 2 - x) < CELL
        assert abs((row["y1"] + row["y2"]) / 2 - y) < CELL
    times = {frame["sample"]: frame["t"] for frame in found["frames"]}
    assert all(row["t"] == times[row["sample"]] for row in found["detections"] + found["tracks"])


CELL = 8 * WIDTH / INPUT[0]  # pixels of the clip


@pytest.mark.parametrize(
    ("segment_s", "decoders"),
    [(11, 1), (3, 1), (6.1, 2)],
    ids=["3 segments", "10 segments", "5 segments, 2 decoders"],
)
def test_equal_rows(folder: Path, lake: Path, whole: Path, segment_s: float, decoders: int) -> None:
    settings = config(folder, run__segment_s=segment_s, run__decoders=decoders)
    analyze([str(folder / "long.mp4")], str(lake), settings)
    found, wanted = rows(lake), rows(whole)
    for name in TABLES:
        assert found[name] == wanted[name], name
    assert not list((lake / "_staging").iterdir())


@pytest.mark.parametrize("room", [1 << 30, -1], ids=["all ahead", "no room for more than one"])
def test_early_segments_are_interpreted_while_later_ones_are_perceived(
    folder: Path, lake: Path, whole: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = 0

    def begin(self: Interpreter, beside: Executor, pair: Callable[[], Pair]) -> None:
        nonlocal begun
        begun += 1
        really(self, beside, pair)

    really = Interpreter.begin
    monkeypatch.setattr(Interpreter, "begin", begin)
    monkeypatch.setattr("pipeline.analyze.interpret.AHEAD_BYTES", room)
    settings = config(folder, run__segment_s=3, run__decoders=1)
    analyze([str(folder / "long.mp4")], str(lake), settings)
    assert begun >= LONG_S // 3 - 2 if room > 0 else begun == 1
    assert rows(lake) == rows(whole)


def test_a_second_run_adds_no_row(folder: Path, lake: Path) -> None:
    for state in ("ok", "current"):
        summary = analyze([str(folder / "short.mp4")], str(lake), config(folder))
        assert [result.state for result in summary.results] == [state]
        assert summary.exit_code() == 0
        if state == "ok":
            before = counts(lake)
    assert counts(lake) == before
    assert before["analyses"] == 2  # running and ok
    [row] = ask(lake, "SELECT * FROM analyses WHERE status = 'ok'")
    for name in TABLES:
        assert row[f"rows_{name}"] == before[f"{name}_all"]


def test_a_staged_segment_is_read_once(folder: Path, lake: Path, read: list[int]) -> None:
    analyze([str(folder / "long.mp4")], str(lake), config(folder, run__segment_s=5))
    assert sorted(read) == sorted(set(read))
    assert len(read) >= LONG_S // 5


def test_every_frame(folder: Path, lake: Path) -> None:
    """sample_fps = 0: each frame once, numbered, in segments too."""
    every = {"video__sample_fps": 0, "run__segment_s": 2}
    analyze([str(folder / "short.mp4")], str(lake), config(folder, **every))
    found = ask(lake, "SELECT sample, t FROM frames ORDER BY sample")
    assert [row["sample"] for row in found] == list(range(SHORT_S * FPS))
    assert [round(row["t"], 6) for row in found] == [i / FPS for i in range(SHORT_S * FPS)]


@pytest.mark.parametrize("decoders", [1, 2])
def test_times_that_leap_by_a_year(folder: Path, lake: Path, tmp_path: Path, decoders: int) -> None:
    """A clock that is set while recording makes no segment for every minute between."""
    year = 365 * 86_400_000
    times = [*range(0, 2000, 100), *range(year, year + 2000, 100)]
    pictures = [picture(i / FPS) for i in range(len(times))]
    path = write_video(tmp_path / "leap.mkv", times, size=(WIDTH, 96), pictures=pictures)
    settings = config(folder, run__segment_s=1, run__decoders=decoders)
    [result] = analyze([str(path)], str(lake), settings).results
    assert result.state == "ok"
    found = rows(lake)["frames"]
    assert [round(row["t"] * 1000) for row in found] == times
    assert rows(lake)["objects"]


def test_without_embeddings(folder: Path, lake: Path) -> None:
    """Boxes and tracks are kept, vectors are null, event models have nothing to say."""
    summary = analyze([str(folder / "short.mp4")], str(lake), config(folder, perceive__embeddings=False))
    assert [result.state for result in summary.results] == ["ok"]
    found = rows(lake)
    assert found["tracks"]
    assert {frame["embedding"] for frame in found["frames"]} == {None}
    assert {row["appearance"] for row in found["detections"]} == {None}
    assert not [event for event in found["events"] if event["source"] == "model"]


def test_a_video_without_any_object(folder: Path, lake: Path) -> None:
    """Frames and nothing else; the views of the empty tables answer."""
    strict = {"perceive__min_score": 1.0, "events__models": []}
    summary = analyze([str(folder / "short.mp4")], str(lake), config(folder, **strict))
    assert [result.state for result in summary.results] == ["ok"]
    assert {name: len(table) for name, table in rows(lake).items()} == {
        "frames": SHORT_S * FPS,
        "detections": 0,
        "tracks": 0,
        "objects": 0,
        "events": 0,
    }


def test_many_videos_at_once(folder: Path, lake: Path, tmp_path: Path) -> None:
    """Batches go across segments and videos, decoders take turns; each video's rows are its own."""
    paths = []
    for number in range(4):  # the same frames in other bytes: four videos
        path = tmp_path / f"{number}.mp4"
        path.write_bytes((folder / "short.mp4").read_bytes() + bytes(number))
        paths.append(str(path))
    settings = config(folder, run__segment_s=1.7, run__decoders=3, perceive__batch_size=7)
    results = analyze(paths, str(lake), settings).results
    assert sorted(result.uri for result in results if result.state == "ok") == paths
    assert len({result.video_id for result in results}) == 4
    apart = {"video_id", "event_id"}
    found = [rows(lake, video=result.video_id) for result in results]
    for name in TABLES:
        first, *others = (
            [{k: v for k, v in row.items() if k not in apart} for row in one[name]] for one in found
        )
        assert first
        assert all(other == first for other in others), name
    assert not list((lake / "_staging").iterdir())


def test_segments_decoded_in_turn_become_rows_together(folder: Path, lake: Path) -> None:
    settings = config(folder)
    size = settings.perceive.batch_size
    work = VideoWork(None, Staging(Lake.open(lake), "0f"), ticks=100)
    work.letterboxes = dict.fromkeys((0, 100), Letterbox.fit(WIDTH, HEIGHT, *INPUT))
    shown, grid = np.zeros((INPUT[1], INPUT[0], 3), np.uint8), np.zeros(96, np.float32)
    with closing(Batcher(Tools(settings))) as batcher:
        for tick in range(size):
            for first in (0, 100):
                frame = SampledFrame("", first + tick, None, float(first + tick), shown, grid, None)
                batcher.add(work, first, frame)
        batcher.flush()
    for first, parts in work.buffers.items():
        assert [part.num_rows for part in parts] == [size // 2] * 2
        samples = pa.concat_tables(parts)["sample"].to_pylist()
        assert samples == list(range(first, first + size))
