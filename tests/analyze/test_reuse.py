"""What is known is not done again: other rules, other names, other cameras, replaced files."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from models.files import file_digest
from models.temporal import load_events, save_events
from pipeline.analyze import Options, Summary, analyze, reinterpret
from pipeline.analyze.outcome import Silent
from pipeline.analyze.plan import READ_OTHERWISE
from pipeline.analyze.tools import Tools
from pipeline.config import Config, LakeConfig
from pipeline.errors import StorageError, UsageError
from pipeline.ids import EVENTS_VERSION, digest
from pipeline.lake import Lake
from pipeline.lake.commit import Decision, Ending, commit, start_attempts
from pipeline.lake.compact import compact
from pipeline.lake.lookup import current_analyses
from pipeline.lake.records import analyses_table, names_table
from pipeline.lake.schema import written
from tests.analyze.build import (
    FPS,
    HEIGHT,
    LINE,
    TABLES,
    WIDTH,
    ZONE,
    ask,
    config,
    counts,
    picture,
    rows,
    write_clip,
)  # fmt: skip
from tests.lake.build import finished, name_of, running
from tests.media.make import write_video
from tests.services.media import write_weights

RUNS = "perception_run_id, tracking_run_id, events_run_id"
SIZES = "rows_frames, rows_detections, rows_tracks, rows_objects, rows_events"
OTHER_RULE = {**LINE, "name": "other gate", "line": [[0.3, 0.0], [0.3, 1.0]]}


def states(summary: Summary) -> list[tuple[str, str]]:
    return [(result.state, result.note) for result in summary.results]


def current(lake: Path) -> list[dict[str, Any]]:
    sql = f"SELECT camera, uri, status, revision, {RUNS}, runtime FROM analyses_current ORDER BY camera, uri"
    return ask(lake, sql)


def analyzed(video: Path, lake: Path, settings: Config, **options: bool) -> Summary:
    return analyze([str(video)], str(lake), settings, Options(**options))


@pytest.fixture
def video(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    shutil.copy2(folder / "short.mp4", path)
    return path


@pytest.fixture(scope="module")
def known(folder: Path) -> Path:
    """A lake with the short clip."""
    analyzed(folder / "short.mp4", folder / "known", config(folder))
    return folder / "known"


@pytest.fixture
def filled(known: Path, lake: Path) -> Path:
    """The same, to be written to."""
    shutil.copytree(known, lake)
    return lake


def upgrade(lake: Path, settings: Config, video: Path) -> Summary:
    return analyzed(video, lake, settings, upgrade=True)


def from_the_lake(lake: Path, settings: Config, video: Path) -> Summary:
    hidden = video.rename(video.with_suffix(".away"))  # nothing is to open it
    summary = reinterpret(str(lake), settings)
    hidden.rename(video)
    return summary


CHANGES = {
    "rules": ({"rules": [OTHER_RULE]}, ["perception_run_id", "tracking_run_id"]),
    "events": ({"events__min_duration_s": 0.2}, ["perception_run_id", "tracking_run_id"]),
    "tracking": ({"track__min_track_s": 1.2}, ["perception_run_id"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_config_reuses_what_it_can(folder: Path, known: Path, tmp_path: Path, change: str) -> None:
    """Runs upstream of the change stay, rows equal a fresh analysis with the new config."""
    more, kept = CHANGES[change]
    video, new, fresh = folder / "short.mp4", config(folder, **more), tmp_path / "fresh"
    analyzed(video, fresh, new)
    [before] = current(known)
    for again in (upgrade, from_the_lake):
        lake = tmp_path / again.__name__
        shutil.copytree(known, lake)
        assert states(analyzed(video, lake, new)) == [("other_config", "")]
        assert [row["revision"] for row in current(lake)] == [before["revision"]]
        [result] = again(lake, new, video).results
        assert result.state == "ok"
        [after] = current(lake)
        assert [name for name in RUNS.split(", ") if before[name] == after[name]] == kept
        assert after["runtime"] == before["runtime"]
        assert rows(lake) == rows(fresh)
        assert rows(lake)["events"]
        assert ask(lake, f"SELECT {SIZES} FROM analyses_current") == ask(
            fresh, f"SELECT {SIZES} FROM analyses_current"
        )
        total = counts(lake)
        assert states(analyzed(video, lake, new)) == [("current", "")]
        assert states(reinterpret(str(lake), new)) == [("current", "")]
        assert counts(lake) == total


def test_reinterpret_in_pieces(folder: Path, lake: Path, whole: Path) -> None:
    """A video that was perceived in many segments, tracked anew in one go."""
    analyzed(folder / "long.mp4", lake, config(folder, run__segment_s=3, track__max_gap_s=0.5))
    reinterpret(str(lake), config(folder))
    found, wanted = rows(lake), rows(whole)
    for table in found:
        assert found[table] == wanted[table], table


def test_reinterpret_keeps_what_a_video_was_perceived_with(
    folder: Path, video: Path, lake: Path, tmp_path: Path
) -> None:
    """Another sample rate or other CNN weights in the config do not reach stored perceptions."""
    analyzed(video, lake, config(folder, video__sample_fps=5))
    new = config(folder, video__sample_fps=10, rules=[OTHER_RULE], perceive__weights="gone.safetensors")
    assert states(reinterpret(str(lake), new)) == [("ok", "events anew")]
    analyzed(video, tmp_path / "fresh", config(folder, video__sample_fps=5, rules=[OTHER_RULE]))
    assert rows(lake) == rows(tmp_path / "fresh")
    [stored] = ask(
        lake, "SELECT c.config FROM configs AS c JOIN analyses_current AS a ON a.config_id = c.config_id"
    )
    assert '"sample_fps":5.0' in stored["config"]


def test_reinterpret_leaves_alone_what_another_version_perceived(
    folder: Path, video: Path, lake: Path, tmp_path: Path
) -> None:
    """Of two versions that share a lake one may not take a value of the other's; all else goes on."""
    other = tmp_path / "other.mp4"
    write_clip(other, 1, seed=5)
    analyzed(video, lake, config(folder))
    analyzed(other, lake, config(folder, video__sample_fps=5))
    table = DeltaTable(lake / "configs")
    stored = table.to_pyarrow_table().to_pylist()
    for row in stored:
        row["config"] = row["config"].replace('"sample_fps":5.0', '"sample_fps":"as needed"')
    write_deltalake(table, pa.Table.from_pylist(stored, written("configs")), mode="overwrite")
    for trial, state in ((True, "planned"), (False, "ok")):
        summary = reinterpret(str(lake), config(folder, rules=[OTHER_RULE]), dry_run=trial)
        told = {Path(result.uri).name: (result.state, result.note) for result in summary.results}
        assert told["clip.mp4"][0] == state
        assert told["other.mp4"][0] == "other_config"
        assert "settings unknown to this marey" in told["other.mp4"][1]


class Told(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_an_event_model_of_another_detector_is_told_once(folder: Path, lake: Path, tmp_path: Path) -> None:
    model = load_events(folder / "stir.safetensors")
    own = file_digest(folder / "tiny.safetensors")
    for name, weights in (("mine", own), ("theirs", "ab" * 16)):
        model.config = replace(model.config, detector=weights)
        save_events(tmp_path / f"{name}.safetensors", model)
    videos = [str(folder / "short.mp4"), str(folder / "long.mp4")]
    for name, wanted in (("mine", 0), ("theirs", 1)):
        settings = config(folder, events__models=[str(tmp_path / f"{name}.safetensors")])
        told = Told()
        analyze(videos, str(tmp_path / name), settings, reporter=told)
        assert [note.split(";")[0] for note in told.notes] == wanted * [
            f"event model {name!r} was trained behind another detector (abababababab, here {own[:12]}): "
            "its scores are not to be trusted"
        ]
        told = Told()
        reinterpret(str(tmp_path / "mine"), settings, reporter=told)
        assert len(told.notes) == wanted


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"perceive__embeddings": False}, "find nothing without embeddings: set perceive.embeddings = true"),
        ({"video__sample_fps": 0.4}, "video.sample_fps = 0.4: frames more than 2 s apart"),
        (
            {"video__sample_fps": 0.5},
            "trained on 10 frames a second, here it sees 0.5: its scores are not to be",
        ),
        ({"video__sample_fps": 0.5, "events__models": []}, None),
        (
            {"track__max_gap_s": 10},
            "no farther than 4 s: max_gap_s = 10 counts as that; set lookahead_s to 11",
        ),
        ({"track__max_gap_s": 10, "track__lookahead_s": 11}, None),
        ({"perceive__embeddings": False, "events__models": []}, None),
    ],
)
def test_settings_that_cannot_do_what_they_say_are_told(
    folder: Path, tmp_path: Path, settings: dict[str, object], said: str | None
) -> None:
    told = Told()
    analyze([str(folder / "short.mp4")], str(tmp_path / "lake"), config(folder, **settings), reporter=told)
    notes = [note for note in told.notes if "another detector" not in note]
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


def test_a_process_keeps_the_network_for_its_next_run(folder: Path, tmp_path: Path) -> None:
    """A shard is a run; loading the network for each would cost more than Prefect does."""
    weights = tmp_path / "own.safetensors"
    shutil.copy(folder / "tiny.safetensors", weights)
    settings = config(folder, perceive__weights=str(weights))
    first = Tools(settings).perceiver
    assert Tools(config(folder, perceive__weights=str(weights), run__segment_s=7)).perceiver is first
    weights.unlink()
    write_weights(weights)
    assert Tools(settings).perceiver is not first  # the file is another


def test_dry_runs_write_nothing(folder: Path, lake: Path, known: Path) -> None:
    video = folder / "short.mp4"
    assert states(analyzed(video, lake, config(folder), dry_run=True)) == [("planned", "perception")]
    assert not lake.exists()
    shutil.copytree(known, lake)
    before = counts(lake)
    new = config(folder, rules=[OTHER_RULE])
    assert states(analyzed(video, lake, new, dry_run=True)) == [("other_config", "")]
    assert states(analyzed(video, lake, new, dry_run=True, upgrade=True)) == [("planned", "events")]
    would = reinterpret(str(lake), new, dry_run=True)
    assert states(would) == [("planned", "events")]
    assert counts(lake) == before
    assert would.changes == reinterpret(str(lake), new).changes
    assert would.changes is not None


def test_reinterpret_by_camera(folder: Path, lake: Path, tmp_path: Path) -> None:
    names = ["gate/2026/03/01/120000.mp4", "yard/2026/03/01/120000.mp4"]
    for number, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes((folder / "short.mp4").read_bytes() + bytes(number))  # trailing bytes, other content
    analyze([str(tmp_path / name) for name in names], str(lake), config(folder))
    summary = reinterpret(str(lake), config(folder, rules=[OTHER_RULE]), camera="ga*")
    assert states(summary) == [("ok", "events anew")]
    assert [row["revision"] for row in current(lake)] == [4, 2]


def test_reinterpret_of_one_camera_keeps_little_of_the_others(folder: Path, lake: Path) -> None:
    opened, now = Lake.open(lake), datetime.now(UTC)
    names = [f"/archive/gate/{number:06}.mp4" for number in range(2000)]
    ended = [finished(running(digest(name), uri=name), revision=2, committed_at=now) for name in names]
    opened.append("analyses", analyses_table(ended))
    opened.append("videos", names_table([name_of(row) for row in ended]))

    def of_the_yard() -> int:
        """Bytes of Python's objects at most."""
        tracemalloc.start()
        assert reinterpret(str(lake), config(folder), camera="yard").results == ()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    of_the_yard()  # loads what is loaded once
    assert of_the_yard() < 500 * len(names)


def test_reinterpret_needs_a_lake(folder: Path, lake: Path) -> None:
    with pytest.raises(UsageError, match="there is no lake at"):
        reinterpret(str(lake), config(folder))
    assert not lake.exists()


def test_the_same_bytes_under_other_cameras(folder: Path, lake: Path, tmp_path: Path) -> None:
    """They are perceived once, also within one run; each camera has its own video, rules and times."""
    paths = [tmp_path / f"{camera}/2026/03/29/013000.mp4" for camera in ("gate", "yard")]
    for path in paths:
        path.parent.mkdir(parents=True)
        shutil.copy(folder / "short.mp4", path)
    rule = {**LINE, "cameras": "yard"}
    settings = config(folder, rules=[rule], cameras=[{"timezone": "Europe/Berlin"}])
    summary = analyze([str(path) for path in paths], str(lake), settings)
    assert states(summary) == [("ok", ""), ("ok", "perceived before under another name")]
    gate, yard = (rows(lake, video=result.video_id) for result in summary.results)
    assert [row["camera"] for row in current(lake)] == ["gate", "yard"]
    assert [event["label"] for event in gate["events"] if event["source"] == "rule"] == []
    assert {event["label"] for event in yard["events"] if event["source"] == "rule"} == {"gate"}
    for table in ("frames", "detections", "tracks", "objects"):
        strip = [{k: v for k, v in row.items() if k not in ("video_id", "camera")} for row in gate[table]]
        assert strip == [
            {k: v for k, v in row.items() if k not in ("video_id", "camera")} for row in yard[table]
        ]
    first = gate["frames"][0]
    assert first["time_utc"] == datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    assert first["date"] == date(2026, 3, 29)
    third = tmp_path / "hall/2026/03/29/013000.mp4"
    third.parent.mkdir(parents=True)
    shutil.copy(folder / "short.mp4", third)
    assert states(analyze([str(third)], str(lake), settings)) == [
        ("ok", "perceived before under another name")
    ]


def test_another_time_zone_keeps_the_picture(folder: Path, lake: Path, tmp_path: Path) -> None:
    """The file is not opened again, so its name had a row without; pages of a report then had no scene."""
    path = tmp_path / "gate/2026/03/29/013000.mp4"
    path.parent.mkdir(parents=True)
    shutil.copy(folder / "short.mp4", path)
    picture = "SELECT recorded_at, thumbnail FROM videos"
    analyzed(path, lake, config(folder))
    [first] = ask(lake, picture)
    there = config(folder, cameras=[{"timezone": "Asia/Tokyo"}])
    assert states(upgrade(lake, there, path)) == [("ok", "perceived before under another name")]
    [moved] = ask(lake, picture)
    assert moved == {**first, "recorded_at": first["recorded_at"] - timedelta(hours=9)}
    assert states(upgrade(lake, config(folder), path)) == [("current", "")]
    assert ask(lake, picture) == [first]


def test_a_forgotten_config_takes_camera_and_time_from_no_video(
    folder: Path, lake: Path, tmp_path: Path
) -> None:
    """Other cameras and times wait for --upgrade, as other rules do; also of a file that was only touched."""
    path = tmp_path / "gate/2026-03-29.mp4"
    path.parent.mkdir()
    shutil.copy(folder / "short.mp4", path)
    site = config(folder, cameras=[{"pattern": "{camera}/{recorded_at:%Y-%m-%d}"}])
    analyzed(path, lake, site)
    told = "SELECT camera, recorded_at FROM videos"
    before, named, counted = rows(lake), ask(lake, told), counts(lake)
    assert states(analyzed(path, lake, config(folder), dry_run=True)) == [("other_config", READ_OTHERWISE)]
    assert states(analyzed(path, lake, config(folder))) == [("other_config", READ_OTHERWISE)]
    assert counts(lake) == counted
    os.utime(path, (0, 0))
    assert states(analyzed(path, lake, config(folder))) == [("other_config", READ_OTHERWISE)]
    assert counts(lake) == {**counted, "videos_all": 2}
    assert (rows(lake), ask(lake, told)) == (before, named)
    assert states(analyzed(path, lake, site)) == [("current", "")]
    assert states(upgrade(lake, config(folder), path)) == [("ok", "perceived before under another name")]
    assert ask(lake, told) == [{"camera": None, "recorded_at": None}]


def test_a_time_that_the_name_no_longer_tells_is_the_containers(
    folder: Path, lake: Path, tmp_path: Path
) -> None:
    """As in a new lake: the file was not opened again, and its time was taken for unknown."""
    path = tmp_path / "gate/2026-03-29.mp4"
    path.parent.mkdir()
    with av.open(str(folder / "short.mp4")) as short, av.open(str(path), "w") as dated:
        dated.metadata["creation_time"] = "2026-02-03T04:05:06.000000Z"
        stream = dated.add_stream_from_template(short.streams.video[0])
        for packet in short.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                dated.mux(packet)
    told = "SELECT camera, recorded_at, recorded_at_source FROM videos"
    analyzed(path, lake, config(folder, cameras=[{"pattern": "{camera}/{recorded_at:%Y-%m-%d}"}]))
    assert [row["recorded_at_source"] for row in ask(lake, told)] == ["key"]
    assert states(upgrade(lake, config(folder), path)) == [("ok", "perceived before under another name")]
    at = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert ask(lake, told) == [{"camera": None, "recorded_at": at, "recorded_at_source": "container"}]
    assert states(upgrade(lake, config(folder), path)) == [("current", "")]


def test_another_name_of_a_video_is_an_alias(folder: Path, video: Path, lake: Path) -> None:
    """One analysis, a row of `videos` for each name; in one run and in the next."""
    twin, later = video.with_name("twin.mp4"), video.with_name("later.mp4")
    shutil.copy(video, twin)
    summary = analyze([str(video), str(twin)], str(lake), config(folder))
    assert sorted(states(summary)) == [("current", ""), ("ok", "")]
    shutil.copy(video, later)
    before = counts(lake)
    assert states(analyzed(later, lake, config(folder))) == [("current", "")]
    assert counts(lake) == {**before, "videos_all": 3}
    assert before["analyses"] == 2
    uris = [row["uri"] for row in ask(lake, "SELECT uri FROM videos ORDER BY uri")]
    assert uris == sorted(map(str, (video, twin, later)))
    analyze([str(video), str(twin), str(later)], str(lake), config(folder))
    assert counts(lake) == {**before, "videos_all": 3}


def test_names_of_a_moved_archive_are_written_together(folder: Path, video: Path, filled: Path) -> None:
    """Each was a commit of its own, with a look-up of its own: a day for a hundred thousand."""
    moved = video.with_name("moved")
    moved.mkdir()
    for number in range(5):
        shutil.copy(video, moved / f"{number}.mp4")
    names, before = Lake.open(filled), counts(filled)
    for together, commits in ((64, 1), (2, 3)):
        version = names.table("videos").version()
        settings = config(folder, lake__commit_interval_s=600, lake__commit_videos=together)
        assert states(analyzed(moved, filled, settings)) == [("current", "")] * 5
        assert names.table("videos").version() == version + commits
        before["videos_all"] += 5
        assert counts(filled) == before
        for path in moved.iterdir():
            os.utime(path, (together, together))
    assert len(ask(filled, "SELECT uri FROM videos")) == 6


def test_a_replaced_file_is_analysed_anew(folder: Path, video: Path, lake: Path) -> None:
    """And supersedes what was there, whose rows stay."""
    analyzed(video, lake, config(folder))
    old = rows(lake)
    write_clip(video, 3, seed=2)
    [result] = analyzed(video, lake, config(folder)).results
    assert (result.state, result.duration_s) == ("ok", pytest.approx(3.0, abs=0.1))
    assert len(rows(lake)["frames"]) == 30
    assert len(rows(lake, "_all")["frames"]) == 30 + len(old["frames"])
    assert [row["uri"] for row in ask(lake, "SELECT uri FROM videos")] == [str(video)]
    # And back again: known bytes, nothing to do.
    shutil.copy(folder / "short.mp4", video)
    assert states(analyzed(video, lake, config(folder))) == [("current", "")]
    assert rows(lake) == old


@pytest.mark.parametrize("returns_as", ["clip.mp4", "other.mp4", "yard/clip.mp4"])
def test_a_content_that_returns_after_its_rows_were_dropped_is_analysed_anew(
    folder: Path, video: Path, lake: Path, returns_as: str
) -> None:
    """Under its name, another, or another camera, which would take over its perception."""
    settings = config(folder, cameras=[{"pattern": "{camera}/clip"}])
    analyzed(video, lake, settings)
    old = rows(lake)
    write_clip(video, 3, seed=2)
    analyzed(video, lake, settings)
    compact(str(lake), LakeConfig(history_days=0, grace_h=0))
    assert rows(lake) == rows(lake, "_all")
    again = video.parent / returns_as
    again.parent.mkdir(exist_ok=True)
    shutil.copy(folder / "short.mp4", again)
    summary = analyzed(again, lake, settings)
    assert states(summary) == [("ok", "")]
    found = rows(lake, video=summary.results[0].video_id)
    assert [row["sample"] for row in found["frames"]] == list(range(60))
    if returns_as == "clip.mp4":
        assert rows(lake) == old
    assert states(analyzed(again, lake, settings)) == [("current", "")]


def test_rows_that_go_while_they_are_read_are_missed(folder: Path, filled: Path) -> None:
    """Compaction may drop a result that was planned on, whose video has lost its names."""
    for table, change in (("detections", {"track__min_track_s": 1.2}), ("tracks", {"rules": [OTHER_RULE]})):
        Lake.open(str(filled)).table(table).delete("sample >= 30")
        with pytest.raises(StorageError, match=f"{table} of .*short.mp4 were dropped meanwhile: run again"):
            reinterpret(str(filled), config(folder, **change))


def again_and_again(video: Path, lake: Path, folder: Path) -> None:
    """Other rules, and other tracks, by both ways: what is stored is found, and rows lie under one date."""
    for number, more in enumerate(({"rules": [OTHER_RULE]}, {"rules": []}, {"track__min_track_s": 1.2})):
        settings = config(folder, **more)
        summary = (
            reinterpret(str(lake), settings) if number % 2 else analyzed(video, lake, settings, upgrade=True)
        )
        assert [result.state for result in summary.results] == ["ok"]


def test_two_workers_at_copies_of_different_age(folder: Path, video: Path, lake: Path) -> None:
    """The one that began first has the date of its file; the result of the other is of another date."""
    settings = config(folder)
    [planned] = analyzed(video, lake, settings, dry_run=True).results

    class BeginsFirst(Silent):
        def video(self, uri: str, duration_s: float | None) -> None:
            copy = running(str(planned.video_id), camera=None, uri="/archive/copy.mp4", date=date(2001, 2, 3))
            start_attempts(Lake.open(lake), [copy])

    assert analyze([str(video)], str(lake), settings, reporter=BeginsFirst()).exit_code() == 0
    again_and_again(video, lake, folder)
    on = {tuple(row.values()) for t in TABLES for row in ask(lake, f"SELECT DISTINCT date FROM {t}")}
    assert on == {tuple(row.values()) for row in ask(lake, "SELECT date FROM analyses_current")}


@pytest.mark.parametrize("disappear", [False, True])
def test_an_analysis_of_another_date_than_its_rows(
    folder: Path, video: Path, filled: Path, disappear: bool
) -> None:
    """As older programs left it after two workers had been at copies of one video: its rows are found."""
    opened = Lake.open(str(filled))
    [known] = ask(filled, "SELECT video_id FROM analyses_current")
    current = current_analyses(opened, [known["video_id"]])[known["video_id"]]
    moved = replace(current, attempt_id="moved", analysis_id="other", date=date(2001, 2, 3))
    [outcome] = commit(opened, [Ending(analysis=moved, basis=current.revision)])
    assert outcome.decision is Decision.COMMITTED
    rule = ZONE | {"name": "gone", "kind": "disappear"}
    more: dict[str, Any] = {"rules": [rule], "events__models": []} if disappear else {"rules": []}
    fresh = filled.parent / "fresh"
    for settings in (config(folder, **more), config(folder, track__min_track_s=1.2)):
        assert [result.state for result in reinterpret(str(filled), settings).results] == ["ok"]
        shutil.rmtree(fresh, ignore_errors=True)
        analyzed(video, fresh, settings)
        for table, found in rows(filled).items():
            plain = [{key: row[key] for key in row if key != "date"} for row in found]
            assert plain == [{k: row[k] for k in row if k != "date"} for row in rows(fresh)[table]], table


def test_touching_a_file_changes_nothing(folder: Path, video: Path, filled: Path) -> None:
    before = rows(filled)
    os.utime(video, (0, 0))
    assert states(analyzed(video, filled, config(folder))) == [("current", "")]
    assert rows(filled) == before  # the date too, though it came from the time of change


def test_back_to_an_earlier_config(folder: Path, video: Path, filled: Path) -> None:
    """A, B and A again give A's rows."""
    before = rows(filled)
    for settings in (config(folder, rules=[OTHER_RULE]), config(folder)):
        assert states(analyzed(video, filled, settings, force=True)) == [("ok", "events anew")]
    assert rows(filled) == before


def test_limit_and_since(folder: Path, lake: Path, tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / f"in/{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((folder / "short.mp4").read_bytes() + bytes(number))
    os.utime(tmp_path / "in/0.mp4", (0, 0))
    options = Options(limit=1, since=datetime(2000, 1, 1, tzinfo=UTC))
    for number in (1, 2):
        summary = analyze([str(tmp_path / "in")], str(lake), config(folder), options)
        assert [Path(r.uri).name for r in summary.results if r.state == "ok"] == [f"{number}.mp4"]
    summary = analyze([str(tmp_path / "in")], str(lake), config(folder), options)
    assert states(summary) == [("current", ""), ("current", "")]


def test_reinterpret_says_what_became_of_the_events(folder: Path, filled: Path) -> None:
    """One rule anew, one gone, and one whose line stands elsewhere."""
    gate = ask(filled, "SELECT t_peak FROM events WHERE label = 'gate'")
    aside = {**LINE, "line": [[0.52, 0.0], [0.52, 1.0]]}
    changes = reinterpret(str(filled), config(folder, rules=[aside, OTHER_RULE])).changes
    assert changes is not None
    new = ask(filled, "SELECT label, t_peak FROM events")
    assert changes.moved == len(gate) > 0
    assert changes.gained == sum(row["label"] == "other gate" for row in new)
    assert changes.lost > 0  # those of the zone
    back = reinterpret(str(filled), config(folder)).changes
    assert back is not None
    assert (back.gained, back.lost, back.moved) == (changes.lost, changes.gained, changes.moved)


def test_who_disappears_last_is_found_by_all_ways(folder: Path, tmp_path: Path) -> None:
    """Two shapes are gone after 4 of 18 s: so says a fresh analysis, and do events that are made anew."""
    pictures = [picture(k / FPS, empty=k >= 4 * FPS) for k in range(18 * FPS)]
    video = write_video(
        tmp_path / "gone.mp4", [1000 * k // FPS for k in range(18 * FPS)], size=(WIDTH, HEIGHT),
        pictures=pictures,
    )  # fmt: skip
    lost = {"name": "lost", "kind": "disappear", "zone": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]}
    sql = "SELECT t_start, track_ids FROM events WHERE label = 'lost' ORDER BY track_ids"
    found = []
    for name, first, models in (("a", [lost], True), ("b", [], True), ("c", [], False)):
        more = {} if models else {"events__models": ()}
        lake = tmp_path / name
        analyzed(video, lake, config(folder, rules=first, **more))
        reinterpret(str(lake), config(folder, rules=[lost], **more))
        found.append(ask(lake, sql))
    assert max(round(row["t_start"], 1) for row in found[0]) == 3.9
    assert found[0] == found[1] == found[2]


def test_events_are_counted_by_class_and_direction(known: Path) -> None:
    """With the query that README.md shows."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    begin = text.index("select e.label, o.class")
    counted = ask(known, text[begin : text.index('"', begin)])
    single = ask(known, "SELECT label, direction FROM events WHERE source = 'rule'")
    assert sum(row["number"] for row in counted) == len(single) > 0
    assert {(row["label"], row["direction"]) for row in counted} == {
        (row["label"], row["direction"]) for row in single
    }
    assert all(row["class"] for row in counted)


def test_a_rule_for_an_unknown_class_is_refused_before_any_work(folder: Path, lake: Path) -> None:
    settings = config(folder, rules=[{**LINE, "classes": ["person", "dragon"]}])
    with pytest.raises(UsageError, match="rule 'gate': unknown class 'dragon'") as caught:
        analyzed(folder / "short.mp4", lake, settings)
    assert "person" in str(caught.value)


def test_every_event_can_be_traced(folder: Path, lake: Path, tmp_path: Path) -> None:
    """To rule or model and version, to the objects involved, the frame of its peak and a time of day."""
    path = tmp_path / "gate/2026/03/01/120000.mp4"
    path.parent.mkdir(parents=True)
    shutil.copy2(folder / "long.mp4", path)
    analyze([str(path)], str(lake), config(folder))
    found = rows(lake)
    assert {row["source"] for row in found["events"]} == {"rule", "model"}
    objects = {row["track_id"] for row in found["objects"]}
    times = [row["t"] for row in found["frames"]]
    began = datetime(2026, 3, 1, 12, tzinfo=UTC)
    digest = file_digest(folder / "stir.safetensors")
    for row in found["events"]:
        details, at_peak = json.loads(row["details"]), row["t_peak"]
        assert details["version"] == EVENTS_VERSION
        for name in ("start", "end"):
            at = began + timedelta(seconds=row[f"t_{name}"])
            assert abs(row[f"{name}_utc"] - at) <= timedelta(microseconds=1)
        assert row["t_start"] <= row["t_peak"] <= row["t_end"]
        if row["source"] == "model":
            assert (details["model"], details["weights"]) == ("stir", digest)
            there = (each for each in found["objects"] if each["t_start"] <= at_peak <= each["t_end"])
            assert row["track_ids"] == sorted(each["track_id"] for each in there)
            assert row["t_peak"] in times
        else:
            assert details["rule"] and details["kind"] in ("line_crossing", "zone_entry")
            assert row["track_ids"] and set(row["track_ids"]) <= objects
            assert times[0] <= row["t_peak"] <= times[-1]
