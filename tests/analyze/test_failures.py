"""Failures are rows, cost their own video only, and never hide a success."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.analyze import Options, Summary, analyze, plan, reinterpret
from pipeline.analyze.outcome import Silent
from pipeline.analyze.probing import probe
from pipeline.errors import ConflictError, ModelError, StorageError, UsageError
from pipeline.lake import Lake
from pipeline.lake.commit import Ending, commit, start_attempts
from pipeline.lake.forget import forget
from pipeline.lake.lookup import histories, known_videos
from pipeline.uploads import sweep_once
from tests.analyze.build import Ticking, ask, config, counts, rows, write_clip
from tests.helpers import shared_path
from tests.lake.build import running


def outcome(summary: Summary) -> list[tuple[str, str, str | None]]:
    return [(Path(r.uri).name, r.state, r.error_code) for r in summary.results]


def test_bad_files_beside_a_good_one(folder: Path, lake: Path, tmp_path: Path) -> None:
    """Each is a row that says why; the good one is done; a second run adds nothing and fails again."""
    shutil.copy(folder / "short.mp4", tmp_path / "good.mp4")
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    (tmp_path / "empty.mp4").touch()
    names = ["text.mp4", "good.mp4", "empty.mp4", "absent.mp4"]
    inputs = [str(tmp_path / name) for name in names]
    summary = analyze(inputs, str(lake), config(folder))
    assert sorted(outcome(summary)) == [
        ("absent.mp4", "failed", "missing"),
        ("empty.mp4", "failed", "media_empty"),
        ("good.mp4", "ok", None),
        ("text.mp4", "failed", "media_format"),
    ]
    assert summary.exit_code() == 1
    assert len(rows(lake)["frames"]) == 60
    failed = ask(lake, "SELECT uri, error_code, error FROM analyses WHERE status = 'failed' ORDER BY uri")
    assert [(Path(row["uri"]).name, row["error_code"]) for row in failed] == [
        ("empty.mp4", "media_empty"),
        ("text.mp4", "media_format"),
    ]
    assert all(row["uri"] in row["error"] and "\n" not in row["error"] for row in failed)
    before = counts(lake)
    for options in (Options(), Options(retry_failed=True)):  # the same bytes fail again: not even tried
        again = analyze(inputs, str(lake), config(folder), options)
        assert again.exit_code() == 1
        assert {(r.state, r.note) for r in again.results if r.error_code != "missing"} == {
            ("failed", "failed before"),
            ("current", ""),
        }
        assert counts(lake) == before


def test_a_damaged_file_is_partial(folder: Path, lake: Path) -> None:
    """What decodes is kept; the row says what is lost."""
    path = shared_path("data", "videos", "formats", "damaged", "decord_corrupted.mp4")
    summary = analyze([str(path)], str(lake), config(folder, video__sample_fps=2))
    [result] = summary.results
    assert result.state == "partial"
    assert result.rows["frames"] > 0
    assert {gap["cause"] for gap in result.gaps} == {"media"}
    assert result.frames_failed == sum(gap["frames"] for gap in result.gaps) > 0
    assert (summary.exit_code(), summary.exit_code(strict=True)) == (0, 1)
    [row] = ask(lake, "SELECT status, frames_failed, gaps FROM analyses_current")
    assert (row["status"], row["frames_failed"]) == ("partial", result.frames_failed)
    before = counts(lake)
    for options in (Options(), Options(retry_failed=True)):
        assert outcome(analyze([str(path)], str(lake), config(folder), options))[0][1] == "other_config"
        again = analyze([str(path)], str(lake), config(folder, video__sample_fps=2), options)
        assert [r.state for r in again.results] == ["current"]
    assert counts(lake) == before


def attempt_that_fails(lake: Path, code: str, **more: Any) -> None:
    """As an attempt ends that met a passing trouble."""
    opened = Lake.open(lake)
    [known] = ask(lake, "SELECT DISTINCT video_id, camera, uri, date, perception_id FROM analyses")
    [attempt] = start_attempts(opened, [running(**known)])
    failed = replace(attempt, status="failed", error_code=code, error="it did not work", **more)
    commit(opened, [Ending(analysis=failed)])


@pytest.fixture(scope="module")
def known(folder: Path) -> Path:
    lake = folder / "known-failures"
    analyze([str(folder / "short.mp4")], str(lake), config(folder))
    return lake


def test_a_failure_hides_no_success(folder: Path, known: Path, lake: Path) -> None:
    shutil.copytree(known, lake)
    before = rows(lake)
    attempt_that_fails(lake, "timeout")
    assert rows(lake) == before
    summary = analyze([str(folder / "short.mp4")], str(lake), config(folder))
    assert [result.state for result in summary.results] == ["current"]


def test_retry_failed_tries_what_may_go_better(folder: Path, known: Path, lake: Path) -> None:
    """A passing trouble is tried again when that is asked for, not by itself."""
    video, settings = folder / "short.mp4", config(folder)
    [row] = ask(known, "SELECT video_id, perception_id, uri, camera, date FROM analyses_current")
    opened = Lake.open(lake)
    [attempt] = start_attempts(opened, [running(**row)])
    failed = replace(attempt, status="failed", error_code="timeout", error="no progress")
    commit(opened, [Ending(analysis=failed)])
    [again] = analyze([str(video)], str(lake), settings).results
    assert (again.state, again.error, again.note) == (
        "failed",
        "no progress",
        "failed before: --retry-failed",
    )
    [again] = analyze([str(video)], str(lake), settings, Options(retry_failed=True)).results
    assert again.state == "ok"


def test_a_file_that_changes_meanwhile(folder: Path, lake: Path, tmp_path: Path) -> None:
    """Its rows are not kept: they would be of other bytes than their id says. The next run takes it anew."""
    video = tmp_path / "growing.mp4"
    shutil.copy(folder / "short.mp4", video)
    settings = config(folder, run__segment_s=2, run__decoders=1)

    def touch() -> None:
        os.utime(video, (1, 1))

    summary = analyze([str(video)], str(lake), settings, reporter=Ticking(2.6, touch))
    assert outcome(summary) == [("growing.mp4", "failed", "changed")]
    assert {path.name for path in (lake / "_staging").rglob("*.parquet")} <= {"0-19.parquet"}
    assert [item.uri for item in sweep_once([str(tmp_path)], str(lake))] == [str(video)]
    assert [r.state for r in analyze([str(video)], str(lake), settings).results] == ["ok"]


def test_a_file_that_vanishes_meanwhile(folder: Path, lake: Path, tmp_path: Path) -> None:
    video = tmp_path / "short-lived.mp4"
    shutil.copy(folder / "short.mp4", video)
    summary = analyze([str(video)], str(lake), config(folder), reporter=Ticking(1.0, video.unlink))
    assert outcome(summary) == [("short-lived.mp4", "failed", "changed")]
    with pytest.raises(UsageError, match="does not exist"):
        analyze([str(video)], str(lake), config(folder))


def test_a_file_that_is_still_copied_when_it_is_opened(
    folder: Path, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whole when its bytes are hashed: what half of it said is not kept for all of it."""
    video, data = tmp_path / "coming.mp4", (folder / "short.mp4").read_bytes()
    video.write_bytes(data[: len(data) // 2])

    def early(prober: Any, source: Any, settings: Any) -> Any:
        found = probe(prober, source, settings)
        video.write_bytes(data)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(plan, "probe", early)
        summary = analyze([str(video)], str(lake), config(folder))
    assert outcome(summary) == [("coming.mp4", "failed", "changed")]
    assert outcome(analyze([str(video)], str(lake), config(folder))) == [("coming.mp4", "ok", None)]


def test_wrong_weights_begin_nothing(folder: Path, lake: Path, tmp_path: Path) -> None:
    """Missing ones leave no lake, ones of another kind no attempt."""
    video = str(folder / "short.mp4")
    with pytest.raises(ModelError, match="cannot be read"):
        analyze([video], str(lake), config(folder, perceive__weights=str(tmp_path / "no.safetensors")))
    assert not lake.exists()
    stir = str(folder / "stir.safetensors")
    for more in ({"perceive__weights": stir}, {"track__weights": stir}, {"events__models": [stir, stir]}):
        with pytest.raises(ModelError):
            analyze([video], str(lake), config(folder, **more))
    assert not lake.exists() or counts(lake)["analyses"] == 0


class OtherWorker(Silent):
    """Commits another result of each video that is planned, for some times."""

    def __init__(self, lake: Path, times: int) -> None:
        self.lake, self.times = Lake.open(lake), times

    def video(self, uri: str, duration_s: float | None) -> None:
        if self.times == 0:
            return
        self.times -= 1
        name = known_videos(self.lake, [uri])[uri]
        current = histories(self.lake, [name.video_id])[name.video_id].current
        assert current is not None
        begun = replace(current, status="running", attempt_id=os.urandom(8).hex())
        [attempt] = start_attempts(self.lake, [begun])
        done = attempt.ended(status="ok", analysis_id=os.urandom(8).hex())
        commit(self.lake, [Ending(analysis=done, basis=current.revision)])


@pytest.mark.parametrize("decoding", [True, False], ids=["upgrade", "reinterpret"])
def test_overtaken_by_another_worker(folder: Path, known: Path, lake: Path, decoding: bool) -> None:
    """What another worker made current meanwhile is planned upon again, and given up in the end."""
    shutil.copytree(known, lake)
    rule = {"name": "l", "kind": "line_crossing", "line": [[0.6, 0.0], [0.6, 1.0]]}
    settings = config(folder, rules=[rule], lake__commit_interval_s=60)

    def run(times: int) -> Summary:
        other = OtherWorker(lake, times)
        if decoding:
            inputs, options = [str(folder / "short.mp4")], Options(upgrade=True)
            return analyze(inputs, str(lake), settings, options, other)
        return reinterpret(str(lake), settings, reporter=other)

    with pytest.raises(ConflictError, match="keep changing its result"):
        run(100)
    assert [result.state for result in run(1).results] == ["ok"]
    [row] = ask(lake, "SELECT status, uri FROM analyses_current")
    assert row == {"status": "ok", "uri": str(folder / "short.mp4")}
    assert {event["label"] for event in rows(lake)["events"] if event["source"] == "rule"} == {"l"}


def test_another_worker_commits_and_clears_what_is_staged(
    folder: Path, whole: Path, lake: Path, tmp_path: Path
) -> None:
    """The slower of two workers on one video finds its result there; its other videos are not held up."""
    shutil.copy(folder / "long.mp4", tmp_path)
    shutil.copy(folder / "short.mp4", tmp_path)
    videos, settings = (
        [str(tmp_path / "long.mp4"), str(tmp_path / "short.mp4")],
        config(folder, run__segment_s=5, run__decoders=1),
    )
    other: list[Summary] = []

    def overtake() -> None:
        other.append(analyze(videos[:1], str(lake), settings))

    summary = analyze(videos, str(lake), settings, reporter=Ticking(12.0, overtake))
    assert [outcome(run) for run in (*other, summary)] == [
        [("long.mp4", "ok", None)],
        [("short.mp4", "ok", None), ("long.mp4", "current", None)],
    ]
    assert len(rows(lake)["frames"]) == 300 + 60
    ends = ask(lake, "SELECT status, error FROM analyses WHERE status NOT IN ('running', 'ok')")
    assert ends == [{"status": "abandoned", "error": "another worker committed it first"}]


def test_a_lake_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "lake", Path("/proc/marey-lake")):
        with pytest.raises(StorageError, match=f"lake {place}"):
            analyze([str(folder / "short.mp4")], str(place), config(folder))


def test_a_failing_lake_in_mid_run(folder: Path, lake: Path) -> None:
    """The error is raised, nothing is half visible, and the next run ends well."""
    video, settings = folder / "short.mp4", config(folder, run__segment_s=2)

    def break_it() -> None:
        (lake / "detections" / "_delta_log").rename(lake / "detections" / "away")

    with pytest.raises(StorageError, match=r"table detections of lake .* is not there any more"):
        analyze([str(video)], str(lake), settings, reporter=Ticking(3.0, break_it))
    (lake / "detections" / "away").rename(lake / "detections" / "_delta_log")
    assert rows(lake)["frames"] == []
    assert analyze([str(video)], str(lake), settings).exit_code() == 0
    found = rows(lake)
    assert [row["sample"] for row in found["frames"]] == list(range(60))


@pytest.mark.parametrize(
    ("kind", "cause"), [("crash", "crash"), ("hang", "timeout"), ("leak", "memory"), ("slow", None)]
)
def test_what_a_bad_decoder_costs(
    folder: Path, lake: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, cause: str | None
) -> None:
    """Its segment, with a gap that says why; --retry-failed gets it whole. A slow one costs nothing."""
    from pipeline.analyze import run
    from pipeline.analyze.perception import decode_job
    from pipeline.media import DecodeJob, Fault

    def faulty(work: Any, first: int, end: int, settings: Any) -> DecodeJob:
        made = decode_job(work, first, end, settings)
        return replace(made, fault=Fault(kind, 25, attempts=2)) if first == 20 else made

    video = folder / "short.mp4"
    settings = config(folder, run__segment_s=2, video__stall_s=2.0, video__max_memory_mb=400)
    monkeypatch.setattr(run, "decode_job", faulty)
    [result] = analyze([str(video)], str(lake), settings).results
    assert [gap["cause"] for gap in result.gaps] == [cause] * (cause is not None)
    assert result.state == ("ok" if cause is None else "partial")
    lost = range(25, 40) if cause else ()
    assert [row["sample"] for row in rows(lake)["frames"]] == [s for s in range(60) if s not in lost]
    monkeypatch.undo()
    assert [r.state for r in analyze([str(video)], str(lake), settings).results] == ["current"]
    [result] = analyze([str(video)], str(lake), settings, Options(retry_failed=True)).results
    assert result.state == ("current" if cause is None else "ok")
    assert len(rows(lake)["frames"]) == 60


def test_a_content_that_was_forgotten_is_refused(folder: Path, lake: Path) -> None:
    """If it was asked for; under whatever name it comes, and no row tells of it."""
    video, settings = folder / "short.mp4", config(folder)
    assert analyze([str(video)], str(lake), settings).exit_code() == 0
    assert forget(str(lake), str(video), settings.lake, deny=True).checked
    before = counts(lake)
    assert before["videos_all"] == before["analyses"] == 0
    copy = lake.parent / "copy.mp4"
    shutil.copy(video, copy)
    for path in (video, copy):
        [result] = analyze([str(path)], str(lake), settings).results
        assert (result.state, result.error_code) == ("failed", "denied")
    assert counts(lake) == before


def test_what_is_forgotten_after_a_run_began_is_refused_too(folder: Path, lake: Path) -> None:
    """The run knows and has planned the video, and comes to it later."""
    video, other = folder / "short.mp4", lake.parent / "first.mp4"
    settings = config(folder)
    assert analyze([str(video)], str(lake), settings).exit_code() == 0
    write_clip(other, 2, seed=4)
    asked: list[str] = []

    class Forgetting(Silent):
        def video(self, uri: str, duration_s: float | None) -> None:
            if uri == str(video) and not asked:
                asked.append(uri)
                assert forget(str(lake), uri, settings.lake, deny=True).checked

    newer = config(folder, perceive__min_score=0.35)
    summary = analyze([str(other), str(video)], str(lake), newer, Options(upgrade=True), Forgetting())
    assert {Path(r.uri).name: (r.state, r.error_code) for r in summary.results} == {
        "first.mp4": ("ok", None),
        "short.mp4": ("failed", "denied"),
    }
    assert {row["uri"] for row in ask(lake, "SELECT uri FROM analyses")} == {str(other)}
    assert {row["uri"] for row in ask(lake, "SELECT uri FROM videos_all")} == {str(other)}
