"""The flows against a real Prefect server, on real videos, into a real lake."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from deltalake import DeltaTable
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.analyze import AnalysisFailed, analyze_batch, analyze_shard, analyze_video
from flows.settings import read_settings
from pipeline.analyze import analyze
from pipeline.errors import UsageError
from pipeline.lake.query import query
from tests.lake.test_forget import holding
from tests.services import rest
from tests.services.media import SAMPLE_FPS, tiny_settings, write_clip, write_weights
from tests.services.wire import Wire, wire
from tests.web import Quiet, serving

TABLES = ("videos", "analyses", "configs", "frames", "detections", "tracks", "objects", "events")
BOXES = "SELECT video_id, sample, x1, y1, x2, y2, class, score FROM detections ORDER BY sample, score, x1"


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 2 and 3 s, a damaged one, and the weights."""
    folder = tmp_path_factory.mktemp("footage")
    write_clip(folder / "gate.mp4", 2.0, shade=60)
    write_clip(folder / "yard.mp4", 3.0, shade=90)
    whole = (folder / "yard.mp4").read_bytes()
    (folder / "torn.mp4").write_bytes(whole[: len(whole) // 3])
    write_weights(folder / "tiny.safetensors")
    return folder


@pytest.fixture
def settings(footage: Path) -> dict[str, Any]:
    return tiny_settings(footage / "tiny.safetensors")


def counts(lake: Path) -> dict[str, int]:
    return {name: DeltaTable(str(lake / name)).to_pyarrow_table().num_rows for name in TABLES}


def endings(lake: Path) -> list[tuple[str, str, str | None]]:
    """Of each attempt that ended: file name, status and error code."""
    rows = DeltaTable(str(lake / "analyses")).to_pyarrow_table().to_pylist()
    ended = [row for row in rows if row["status"] != "running"]
    return sorted((Path(row["uri"]).name, row["status"], row["error_code"]) for row in ended)


def frames_by_name(lake: Path) -> dict[str, int]:
    sql = "SELECT uri, count(*) AS n FROM frames JOIN videos USING (video_id) GROUP BY uri"
    return {Path(row["uri"]).name: row["n"] for row in query(lake, sql).to_pylist()}


@contextmanager
def at_the_first_retry(path: Path) -> Iterator[None]:
    """Take a file away as soon as Prefect says that a task is to be tried again."""

    class Remover(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "Retry 1/" in record.getMessage():
                path.unlink()

    handler = Remover()
    logger = logging.getLogger("prefect.task_runs")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def test_video(prefect_api: str, footage: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    lake, gate = tmp_path / "lake", str(footage / "gate.mp4")
    state = analyze_video(gate, str(lake), settings, return_state=True)
    result = state.result()
    num_frames = 2 * SAMPLE_FPS
    assert json.loads(json.dumps(result)) == result
    assert (result["states"], result["failures"]) == ({"ok": 1}, [])
    assert (result["rows"]["frames"], result["rows"]["detections"]) == (num_frames, 5 * num_frames)
    assert frames_by_name(lake) == {"gate.mp4": num_frames}

    run = rest.flow_run(prefect_api, state)
    assert (run["name"], run["state_name"], run["state"]["message"]) == (
        "gate.mp4",
        "Completed",
        "1 video: 1 ok",
    )
    assert run["tags"] == ["lake:lake", "marey"]
    [task] = rest.ended_task_runs(prefect_api, run)
    assert (task["name"], task["state_name"], task["tags"]) == ("gate.mp4", "Completed", ["marey"])

    def of_the_video() -> list[str]:
        lines = [line["message"] for line in rest.log_lines(prefect_api, run)]
        return [line for line in lines if gate in line and not line.startswith("segment ")][1:]

    [line] = rest.wait_for(of_the_video)
    assert line == f"ok       {gate} - {result['rows']['objects']} objects, 0 events"

    # The command's way, without Prefect, gives the same rows.
    analyze([gate], str(tmp_path / "other"), read_settings(settings))
    assert query(tmp_path / "other", BOXES).equals(query(lake, BOXES))


def test_batch_with_a_damaged_video(
    prefect_api: str, footage: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    lake, torn = tmp_path / "lake", str(footage / "torn.mp4")
    state = analyze_batch([str(footage)], str(lake), settings, shard_size=2, return_state=True)
    error = state.result(raise_on_failure=False)
    assert isinstance(error, AnalysisFailed)
    message = str(state.message)
    assert message.startswith(f"1 of 3 videos failed, first {torn}")
    assert "\n" not in message
    assert error.summary["states"] == {"ok": 2, "failed": 1}
    assert error.summary["rows"]["frames"] == 5 * SAMPLE_FPS
    assert [failure["uri"] for failure in error.summary["failures"]] == [torn]
    reason = error.summary["failures"][0]["error"]
    code = error.summary["failures"][0]["error_code"]
    assert frames_by_name(lake) == {"gate.mp4": 2 * SAMPLE_FPS, "yard.mp4": 3 * SAMPLE_FPS}
    assert endings(lake) == [("gate.mp4", "ok", None), ("torn.mp4", "failed", code), ("yard.mp4", "ok", None)]

    run = rest.flow_run(prefect_api, state)
    assert (run["name"], run["state_name"], run["state"]["message"]) == (footage.name, "Failed", message)
    shown = rest.artifacts(prefect_api, run)
    first, *others = json.loads(shown["marey-videos"])
    assert (first["state"], first["video"], first["reason"]) == ("failed", torn, reason)
    assert sorted(row["frames"] for row in others) == [2 * SAMPLE_FPS, 3 * SAMPLE_FPS]
    assert shown["marey-report"].startswith("# 3 videos: 2 ok, 1 failed\n")
    assert f"| frames | {5 * SAMPLE_FPS} |" in shown["marey-report"]
    assert f"## Failed\n\n- {torn}" in shown["marey-report"].replace("\\", "")
    shards = rest.ended_task_runs(prefect_api, run)
    assert [(t["name"], t["state_name"], t["run_count"]) for t in shards] == [
        ("gate.mp4 and 1 more", "Failed", 1),  # damaged bytes are not tried again
        ("yard.mp4", "Completed", 1),
    ]

    before = counts(lake)
    with pytest.raises(AnalysisFailed) as again:
        analyze_batch([str(footage)], str(lake), settings)
    assert again.value.summary["states"] == {"current": 2, "failed": 1}
    assert again.value.summary["rows"] == error.summary["rows"]
    assert counts(lake) == before
    assert (before["analyses"], before["frames"]) == (6, 5 * SAMPLE_FPS)


def test_missing_input_beside_a_good_one(
    prefect_api: str, footage: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    inputs = [str(footage / "gone.mp4"), str(footage / "gate.mp4")]
    state = analyze_batch(inputs, str(tmp_path / "lake"), settings, return_state=True)
    assert state.message == (
        f"1 of 2 videos failed, first {footage / 'gone.mp4'} does not exist: check the name"
    )
    assert frames_by_name(tmp_path / "lake") == {"gate.mp4": 2 * SAMPLE_FPS}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"percieve.min_score": 0.5}}, "parameter config: unknown key 'percieve'"),
        ({"config": {"video": {"sample_fps": -1}}}, "parameter config: video.sample_fps = -1"),
        ({"config": {"rules": [{"name": "gate", "kind": "dwell"}]}}, "parameter config: rule 'gate'"),
        ({"config": "site.toml"}, "config site.toml cannot be read: No such file"),
        ({"lake": "s3n://bucket/lake"}, "a lake is a directory or s3://bucket/prefix"),
        ({"inputs": ["/gone/gate.mp4"]}, "/gone/gate.mp4 does not exist"),
        ({"inputs": ["ftp://u:hunter2@host/a.mp4?token=hunter2"]}, "ftp:// inputs are not supported"),
    ],
)
def test_what_is_wrong_fails_at_once(
    prefect_api: str, footage: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    good: dict[str, Any] = {"inputs": [str(footage)], "lake": str(tmp_path / "lake")}
    state = analyze_batch(**(good | change), return_state=True)
    assert isinstance(state.result(raise_on_failure=False), UsageError)
    told = str(state.message)
    assert told.startswith(message)
    assert "\n" not in told
    run = rest.flow_run(prefect_api, state)
    assert (run["state_name"], run["run_count"], run["state"]["message"]) == ("Failed", 1, told)
    assert rest.task_runs(prefect_api, run) == []
    assert not (tmp_path / "lake").exists()
    assert "hunter2" not in told + run["name"] + "".join(run["tags"])


@pytest.mark.parametrize(
    ("change", "name"),
    [({"shard_size": 0}, "shard_size"), ({"inputs": []}, "inputs"), ({"since": "soon"}, "since")],
)
def test_parameters_have_types(prefect_api: str, tmp_path: Path, change: dict[str, Any], name: str) -> None:
    state = analyze_batch(**({"inputs": ["a.mp4"], "lake": str(tmp_path)} | change), return_state=True)
    assert f"- {name}: Input should be " in str(state.message) or f"- {name}: List should " in str(
        state.message
    )
    assert rest.task_runs(prefect_api, rest.flow_run(prefect_api, state)) == []


def test_nothing_new_is_no_failure(prefect_api: str, footage: Path, tmp_path: Path) -> None:
    state = analyze_batch([str(footage)], str(tmp_path), since="2999-01-01T00:00:00", return_state=True)
    assert (state.name, state.message) == ("Completed", "0 videos: nothing to do")
    shown = rest.artifacts(prefect_api, rest.flow_run(prefect_api, state))
    assert sorted(shown) == ["marey-lake", "marey-report"]
    assert shown["marey-lake"] == f"[{tmp_path.name}]({tmp_path.as_uri()})"


def test_config_file(prefect_api: str, footage: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    values = settings.pop("perceive") | {"device": "cpu", "min_score": 0.0, "max_detections": 5}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    file.write_text("[video]\nsample_fps = 2\n[events]\nmodels = []\n[perceive]\n" + "\n".join(lines))
    result = analyze_video(str(footage / "gate.mp4"), str(tmp_path / "lake"), str(file))
    assert result["rows"]["frames"] == 2 * 2


def test_lake_comes_back(
    prefect_api: str,
    footage: Path,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake = tmp_path / "lake"
    lake.write_text("in the way")
    monkeypatch.setattr(analyze_shard, "retry_delay_seconds", [0.1])
    with at_the_first_retry(lake):
        state = analyze_video(str(footage / "gate.mp4"), str(lake), settings, return_state=True)
    assert state.message == "1 video: 1 ok"
    assert frames_by_name(lake) == {"gate.mp4": 2 * SAMPLE_FPS}
    [task] = rest.ended_task_runs(prefect_api, rest.flow_run(prefect_api, state))
    assert (task["state_name"], task["run_count"]) == ("Completed", 2)


def test_lake_stays_away(
    prefect_api: str,
    footage: Path,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake = tmp_path / "lake"
    lake.write_text("in the way")
    monkeypatch.setattr(analyze_shard, "retry_delay_seconds", [0.1])
    state = analyze_batch([str(footage)], str(lake), settings, shard_size=1, return_state=True)
    assert state.message == (f"lake {lake} is not a directory: give a directory (0 of 3 videos are done)")
    run = rest.flow_run(prefect_api, state)
    [task] = rest.ended_task_runs(prefect_api, run)  # the other shards were not begun
    assert (task["state_name"], task["run_count"]) == ("Failed", 1 + analyze_shard.retries)
    shown = rest.artifacts(prefect_api, run)
    assert f"**Stopped:** lake {lake} is not a directory" in shown["marey-report"].replace("\\", "")
    reasons = [row["reason"] for row in json.loads(shown["marey-videos"])]
    assert sorted(reason.startswith("not begun: ") for reason in reasons) == [False, True, True]


class Cutter(logging.Handler):
    """Cuts the wire when a video is done, and mends it when the flow says what it does without."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire, self.missed = wire, list[str]()
        self.todo = {"ok ": ["cut", "cut"], "progress": ["mend"], "a report": ["mend"]}

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        _, _, missed = said.partition("the Prefect server does not show ")
        self.missed += [missed] if missed else []
        for begin, deeds in self.todo.items():
            if deeds and (missed or said).startswith(begin):
                getattr(self.wire, deeds.pop(0))()


def test_a_server_that_is_away_costs_its_pages_only(
    prefect_api: str, footage: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    """What it cannot show of the work is no end of it: the videos behind are done, and the run says so."""
    inputs = [str(footage / name) for name in ("gate.mp4", "yard.mp4")]
    with wire(int(prefect_api.rpartition(":")[2].removesuffix("/api"))) as to_server:
        cutter = Cutter(to_server)
        for name in ("prefect.task_runs", "prefect.flow_runs"):
            logging.getLogger(name).addHandler(cutter)
        url = f"http://127.0.0.1:{to_server.port}/api"
        try:
            with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
                state = analyze_batch(
                    inputs, str(tmp_path / "lake"), settings, shard_size=1, return_state=True
                )
        finally:
            for name in ("prefect.task_runs", "prefect.flow_runs"):
                logging.getLogger(name).removeHandler(cutter)
    assert state.message == "2 videos: 2 ok"
    assert cutter.missed == [
        f"{what}: ConnectError" for what in ("progress", "progress", "a report of this run")
    ]
    assert rest.flow_run(prefect_api, state)["state_name"] == "Completed"


def test_wrong_weights_are_not_tried_again(
    prefect_api: str, footage: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    settings["perceive"]["weights"] = str(tmp_path / "gone.safetensors")
    state = analyze_batch([str(footage)], str(tmp_path / "lake"), settings, shard_size=1, return_state=True)
    assert "gone.safetensors cannot be read" in str(state.message)
    assert "\n" not in str(state.message)
    [task] = rest.ended_task_runs(prefect_api, rest.flow_run(prefect_api, state))
    assert (task["state_name"], task["run_count"]) == ("Failed", 1)


def decoders() -> list[psutil.Process]:
    """The decoding processes below this one."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "pipeline.media.child" in child.cmdline():
                found.append(child)
    return found


def stop_the_first_decoder(stopped: list[psutil.Process]) -> None:
    """Stop a decoding process, which is then neither dead nor at work."""
    while not (found := decoders()):
        time.sleep(0.02)
    found[0].suspend()
    stopped.append(found[0])


def test_time_out_leaves_no_child(
    prefect_api: str,
    footage: Path,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shard that hangs ends in its time, and with it what it started; nothing is left half done."""
    monkeypatch.setattr(analyze_shard, "timeout_seconds", 30.0)
    settings["video.stall_s"] = 3600.0
    stopped: list[psutil.Process] = []
    thread = threading.Thread(target=stop_the_first_decoder, args=(stopped,), daemon=True)
    thread.start()
    state = analyze_video(str(footage / "gate.mp4"), str(tmp_path / "lake"), settings, return_state=True)
    thread.join()
    assert "timed out after 30" in str(state.message)
    assert not stopped[0].is_running()
    assert not decoders()
    [task] = rest.ended_task_runs(prefect_api, rest.flow_run(prefect_api, state))
    assert (task["state_name"], task["run_count"]) == ("TimedOut", 1)
    assert analyze_video(str(footage / "gate.mp4"), str(tmp_path / "lake"), settings)["states"] == {"ok": 1}


def test_killed_decoder_is_tried_again(
    prefect_api: str,
    footage: Path,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(analyze_shard, "retry_delay_seconds", [0.1])
    monkeypatch.setattr(analyze_shard, "retries", 1)
    settings["video.stall_s"] = 1e-6
    state = analyze_video(str(footage / "gate.mp4"), str(tmp_path / "lake"), settings, return_state=True)
    assert str(state.message).startswith("1 of 1 videos failed, first ")
    [task] = rest.ended_task_runs(prefect_api, rest.flow_run(prefect_api, state))
    assert (task["state_name"], task["run_count"]) == ("Failed", 2)
    assert endings(tmp_path / "lake") == [("gate.mp4", "failed", "timeout")] * 2


@contextmanager
def signed(video: Path) -> Iterator[str]:
    """The address of a video on a web server that answers only to those who know its query."""
    body, query_string = video.read_bytes(), "sign=planted-key"

    class Handler(Quiet):
        def do_GET(self) -> None:
            if self.path != f"/{video.name}?{query_string}":
                self.send_error(403)
                return
            probed = self.headers.get("Range") == "bytes=0-0"
            sent = body[:1] if probed else body
            self.send_response(206 if probed else 200)
            self.send_header("Content-Length", str(len(sent)))
            self.send_header("Content-Range", f"bytes 0-0/{len(body)}")
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(sent)

    with serving(Handler) as address:
        yield f"{address}/{video.name}?{query_string}"


def test_a_signed_address(prefect_api: str, footage: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    """A shard asks by the whole address; but for the run's parameters nothing tells its query."""
    lake = tmp_path / "lake"
    with signed(footage / "gate.mp4") as address:
        state = analyze_batch([address], str(lake), settings, return_state=True)
    assert state.message == "1 video: 1 ok"
    assert frames_by_name(lake) == {"gate.mp4": 2 * SAMPLE_FPS}
    run = rest.flow_run(prefect_api, state)
    [task] = rest.ended_task_runs(prefect_api, run)
    assert (run["name"], task["name"]) == ("gate.mp4", "gate.mp4")
    lines = rest.wait_for(lambda: rest.log_lines(prefect_api, run))
    told = [run | {"parameters": {}}, task, lines, rest.artifacts(prefect_api, run), state.result()]
    assert "planted" not in json.dumps(told)
    assert holding(lake, "gate.mp4")
    assert holding(lake, "planted") == []
