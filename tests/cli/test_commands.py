"""Every command: help with an example, JSON that parses, data on stdout and nothing else there."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import tomllib
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.main import get_command

from pipeline.analyze.tools import Tools
from pipeline.cli import run
from pipeline.cli.commands import app
from pipeline.cli.docs import command_paths, help_text
from pipeline.cli.output import Format, write
from pipeline.config import Config, load
from pipeline.lake.query import query
from tests.analyze.build import COLOURS, config, place, prepared
from tests.cli.conftest import Site
from tests.cli.run import environment, marey, write_config
from tests.helpers import ROOT

Capture = pytest.CaptureFixture[str]
PATHS = list(command_paths())


def test_all_commands_are_there() -> None:
    names = {" ".join(path) for path in PATHS}
    assert names >= {
        "analyze", "query", "views", "reinterpret", "track", "config", "demo", "doctor",
        "train detector", "train motion", "train events",
        "evaluate detector", "evaluate tracks", "evaluate motion", "evaluate events",
    }  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_says_what_and_ends_with_an_example(path: tuple[str, ...]) -> None:
    text = help_text(path)
    assert text.startswith(f"Usage: marey {' '.join(path)} ")
    about, _, examples = text.partition("Examples:")
    assert len(about.split("\n\n")[1].strip()) > 20  # a sentence
    lines = [line.strip() for line in examples.strip().splitlines()]
    assert lines
    assert all(line.startswith(f"marey {' '.join(path)}") for line in lines)


def test_settings_that_are_shown_as_examples_are_warned_of_by_nothing() -> None:
    """Whoever copied video.sample_fps=5 had an event model whose scores are not to be trusted."""
    pages = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/commands.md")]
    shown = [re.findall(r"(?:--set|be repeated\.)\s+([a-z_]+\.\w+)=([^\s`]+)", page) for page in pages]
    assert all(shown)
    for setting in {*shown[0], *shown[1]}:
        assert Tools(load(None, dict([setting]))).warnings(None) == [], setting


def test_every_option_says_what_it_does() -> None:
    def check(command: Any, name: str) -> None:
        for option in command.params:
            assert option.help, f"{name} {option.name}"
        for inner, child in getattr(command, "commands", {}).items():
            check(child, f"{name} {inner}")

    check(get_command(app), "marey")


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_examples_name_options_that_exist(path: tuple[str, ...]) -> None:
    about, _, examples = help_text(path).partition("Examples:")
    for word in examples.split():
        if word.startswith("--"):
            assert f"{word} " in about or f"{word}\n" in about, word


def test_version_and_help_at_the_root(capsys: Capture) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip().count(".") == 2
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(path[0] in out for path in PATHS)
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith("Usage: marey ")) == ("", True)


def test_analyze_json(site: Site, tmp_path: Path, capsys: Capture) -> None:
    """Results on stdout, lines about them on stderr, each its own."""
    lake = tmp_path / "lake"
    base = ["analyze", str(site.video), "--config", str(site.toml), "--lake", str(lake)]
    assert run([*base, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["lake"] == str(lake)
    [video] = found["videos"]
    assert (video["uri"], video["state"], video["error"]) == (str(site.video), "ok", None)
    assert video["rows"]["frames"] == 60
    lines = [line for line in err.splitlines() if "of footage" not in line]  # on a busy machine there is time
    objects, events = video["rows"]["objects"], video["rows"]["events"]
    assert lines[0] == f"ok       {site.video} - {objects} objects, {events} events"
    assert lines[1].startswith("1 video in ")
    assert lines[1].endswith(": 1 ok")
    assert "\x1b" not in err  # no terminal: plain lines
    assert "\r" not in err
    assert run(base) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"1 video in \d+:\d\d: 1 current\n", err)
    assert run([*base, "--set", "rules=[]"]) == 0
    err = capsys.readouterr().err
    assert err.endswith("1 video has a result of another config: --upgrade, or `marey reinterpret`\n")
    assert run([*base, "--set", 'cameras=[{pattern="{camera}"}]']) == 0
    told = "of 1 this config reads another camera or time: --upgrade alone changes that"
    assert capsys.readouterr().err.endswith(f", or `marey reinterpret`\n{told}\n")
    assert run([*base, "--set", "rules=[]", "--dry-run", "--upgrade", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["videos"][0]["state"] == "planned"
    assert err.startswith(f"planned  {site.video} (events)\n")
    assert run(["reinterpret", "--lake", str(lake), "--config", str(site.toml), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"][0]["state"] == "current"


def test_a_dry_reinterpretation_counts_and_draws(site: Site, tmp_path: Path, capsys: Capture) -> None:
    base = ["reinterpret", "--lake", str(site.lake), "--config", str(site.toml)]
    rows = "select count(*) as n from analyses"
    before = query(str(site.lake), rows)["n"].to_pylist()
    found = query(
        str(site.lake), "select label, count(*) as n from events where source = 'rule' group by label"
    )
    numbers = {row["label"]: row["n"] for row in found.to_pylist()}
    out = tmp_path / "trial"
    # The same rules by another name: found anew, and not written
    other = [
        "--set",
        'rules=[{name = "door", kind = "line_crossing", line = [[0.5, 0.0], [0.5, 1.0]], hysteresis = 0.02}]',
    ]
    for more, rule, name in (([], "gate", "gate"), (other, "door", "gate")):
        assert run([*base, *more, "--dry-run", "--out", str(out)]) == 0
        printed, err = capsys.readouterr()
        assert printed == f"{out / 'no-camera.jpg'}\n"
        assert f"  {rule}: {numbers.get(name, 0)}" in err
    assert (out / "no-camera.jpg").stat().st_size > 1000
    assert query(str(site.lake), rows)["n"].to_pylist() == before
    assert run([*base, "--out", str(out)]) == 2
    assert "--out goes with --dry-run" in capsys.readouterr().err


def test_query_formats(site: Site, tmp_path: Path, capsys: Capture) -> None:
    sql = "select label, t_start, track_ids, details from events order by t_start, label"
    base = ["query", sql, "--lake", str(site.lake)]
    assert run([*base, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) > 1
    assert run([*base, "--format", "csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["t_start"]) for row in table] == [row["t_start"] for row in rows]
    assert [json.loads(row["track_ids"]) for row in table] == [row["track_ids"] for row in rows]
    assert run(base) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["label", "t_start", "track_ids", "details"]
    assert len(lines) == len(rows) + 2
    path = tmp_path / "out.parquet"
    assert run([*base, "--format", "parquet", "--output", str(path)]) == 0
    assert pq.read_table(path).num_rows == len(rows)
    assert run([*base, "--format", "parquet"]) == 2
    assert run([*base, "--output", str(tmp_path / "no" / "out.txt")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_rows_are_written_as_the_file_is_named(site: Site, tmp_path: Path) -> None:
    """They were a table for people, whose long cells are cut, in a file called .parquet."""
    sql = "select details, track_ids from events order by t_start, label"
    base = ["query", sql, "--lake", str(site.lake)]

    def written(name: str, *options: str) -> Path:
        assert run([*base, "--output", str(tmp_path / name), *options]) == 0
        return tmp_path / name

    details = pq.read_table(written("a.parquet"))["details"].to_pylist()
    assert any(len(text) > 60 for text in details)
    assert [row["details"] for row in json.loads(written("a.json").read_text())] == details
    with written("A.CSV").open(newline="") as file:
        assert [row["details"] for row in csv.DictReader(file)] == details
    assert "..." in written("a.txt").read_text()
    assert "..." in written("b.parquet", "--format", "table").read_text()
    assert json.loads(written("b.csv", "--json").read_text())[0]["details"] == details[0]


def test_long_answers_are_written_in_pieces(tmp_path: Path) -> None:
    """As Python's objects and one text, rows took ten to thirty times their memory."""
    number = 4000
    seconds = pa.array([[("decode", 0.5)]] * number, pa.map_(pa.string(), pa.float64()))
    rows = pa.table({"n": range(number), "label": ["a, b"] * number, "seconds": seconds})
    for form in (Format.csv, Format.json, Format.table):
        tracemalloc.start()
        write(rows, form, tmp_path / form)
        assert tracemalloc.get_traced_memory()[1] < 3 << 20, form
        tracemalloc.stop()
    wanted = [{"n": n, "label": "a, b", "seconds": {"decode": 0.5}} for n in range(number)]
    assert (tmp_path / "json").read_text() == json.dumps(wanted, indent=1) + "\n"
    with (tmp_path / "csv").open(newline="") as file:
        found = [
            row | {"n": int(row["n"]), "seconds": json.loads(row["seconds"])} for row in csv.DictReader(file)
        ]
    assert found == wanted
    lines = (tmp_path / "table").read_text().splitlines()
    assert {len(line) for line in lines[1:]} == {len("3999  a, b   {'decode': 0.5}")}
    assert len(lines) == number + 2


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_columns_of_one_name_are_refused(site: Site, form: str, tmp_path: Path, capsys: Capture) -> None:
    """JSON would hold one of the two only, and rows of CSV fewer cells than its head."""
    output = ["--output", str(tmp_path / "out")] if form == "parquet" else []
    sql = "select o.track_id, e.{} from objects as o join events as e on e.video_id = o.video_id"
    base = ["--lake", str(site.lake), "--format", form, *output]
    assert run(["query", sql.format("label, o.class, e.track_ids, o.score, e.score"), *base]) == 2
    told = "marey: two columns are called score: give one another name, with AS\n"
    assert capsys.readouterr() == ("", told)
    assert not (tmp_path / "out").exists()
    assert run(["query", sql.format("score, o.score as of_object"), *base]) == 0
    assert run(["query", "select named_struct('a', 1, 'a', 2) as s", *base]) == 2
    assert "two fields of s are called a" in capsys.readouterr().err


_STAMP = "arrow_cast(1001, 'Timestamp(Nanosecond, {})')"
NANOSECONDS = {
    _STAMP.format("None"): "1970-01-01T00:00:00.000001",
    _STAMP.format('Some("UTC")'): "1970-01-01T00:00:00.000001+00:00",
    "arrow_cast(1500000001, 'Duration(Nanosecond)')": "0:00:01.500000",
    "arrow_cast(1500000001, 'Time64(Nanosecond)')": "00:00:01.500000",
    f"make_array({_STAMP.format('None')})": ["1970-01-01T00:00:00.000001"],
    f"named_struct('a', {_STAMP.format('None')})": {"a": "1970-01-01T00:00:00.000001"},
    f"map(['a'], [{_STAMP.format('None')}])": {"a": "1970-01-01T00:00:00.000001"},
}


def test_nanoseconds_are_written_without_pandas(site: Site) -> None:
    """For them pyarrow asks pandas, which users need not have; in a process that has not loaded it yet."""
    named = ", ".join(f"{sql} as c{n}" for n, sql in enumerate(NANOSECONDS))
    base = ["query", f"select {named}, now() as n", "--lake", str(site.lake), "--format"]
    code = f"""
import sys
class Absent:
    def find_spec(self, name, *_):
        if name == "pandas":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from pipeline.cli import run
print([run([*{base!r}, form]) for form in ("table", "csv", "json")], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment(), check=False
    )
    assert done.stderr == "[0, 0, 0]\n"
    table, _, rest = done.stdout.partition("\nc0,")
    lines, _, found = rest.partition("\n[")
    assert "1970-01-01 00:00:00.000001+00:00" in table
    assert "1970-01-01 00:00:00.000001+00:00" in lines
    [row] = json.loads(f"[{found}")
    assert [row[f"c{n}"] for n in range(len(NANOSECONDS))] == list(NANOSECONDS.values())


def test_times_of_whole_seconds_are_written_as_the_others_are(site: Site, capsys: Capture) -> None:
    """Or pandas, which takes the first for all, leaves the column as text."""
    kind = "'Timestamp(Microsecond, Some(\"UTC\"))'"
    times = ("2025-03-01T22:30:00", "2025-03-01T22:30:00.480000")
    sql = " UNION ALL ".join(f"SELECT arrow_cast('{time}Z', {kind}) AS at" for time in times)
    base = ["query", f"SELECT at, [at] AS several FROM ({sql}) AS t ORDER BY at", "--lake", str(site.lake)]
    wanted = [pd.Timestamp(time, tz="UTC") for time in times]
    assert run([*base, "--format", "csv"]) == 0
    found = pd.read_csv(io.StringIO(capsys.readouterr().out), parse_dates=["at"])
    assert found["at"].tolist() == wanted
    assert found["several"][0] == '["2025-03-01T22:30:00.000000+00:00"]'
    assert run([*base, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert pd.to_datetime([row["at"] for row in rows]).tolist() == wanted


@pytest.mark.parametrize(
    ("form", "sql", "remedy"),
    [
        ("csv", "to_timestamp_seconds(1714675805000)", "CAST it to bigint"),  # milliseconds, by mistake
        ("table", "arrow_cast(2147483647, 'Date32')", "CAST it to bigint"),
        ("json", "case value when 1500 then arrow_cast(2147483647, 'Date32') end", "CAST it to bigint"),
        ("parquet", "interval '1 day'", "CAST it to varchar"),
    ],
)
def test_values_that_a_format_does_not_hold_are_told(
    site: Site, form: str, sql: str, remedy: str, tmp_path: Path, capsys: Capture
) -> None:
    """They were called bugs of marey."""
    output = ["--output", str(tmp_path / "out")] if form == "parquet" else []
    base = [
        "query",
        f"select {sql} as at from generate_series(1, 2000)",
        "--lake",
        str(site.lake),
        "--format",
        form,
        *output,
    ]
    assert run(base) == 2
    told = rf"marey: --format {form} does not hold a column's values \(.*\): {remedy}\n"
    out, err = capsys.readouterr()
    assert (out, re.fullmatch(told, err) is not None) == ("", True)
    assert not list(tmp_path.iterdir())


def test_query_as_of(site: Site, capsys: Capture) -> None:
    for when, count in (("2020-01-01", 0), ("2100-01-01T00:00:00", 60)):
        assert (
            run(
                [
                    "query",
                    "select count(*) as n from frames",
                    "--lake",
                    str(site.lake),
                    "--json",
                    "--as-of",
                    when,
                ]
            )
            == 0
        )
        assert json.loads(capsys.readouterr().out) == [{"n": count}]


def test_a_query_without_end_can_be_interrupted(site: Site) -> None:
    """It took neither Ctrl-C nor SIGTERM until it was answered."""
    sql = "select max(value) from generate_series(1, 9000000000000)"
    code = f"""
import os, signal, threading
from pipeline.cli import commands, run
from pipeline.lake import query
for number in (signal.SIGINT, signal.SIGTERM):
    threading.Timer(0.7, os.kill, (os.getpid(), number)).start()
    print(run(["query", {sql!r}, "--lake", {str(site.lake)!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment(),
        check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "130\n143\n")
    assert done.stderr.splitlines() == [
        f"marey: {how}; what is done stays done" for how in ("interrupted", "terminated")
    ]


def test_query_loads_neither_torch_nor_prefect(site: Site) -> None:
    code = (
        "import sys; from pipeline.cli import run; "
        f"run(['query', 'select 1 as one', '--lake', {str(site.lake)!r}]); "
        "print(*sorted({'torch', 'prefect', 'av', 'cv2'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment(), check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert "one" in done.stdout


def test_config_shows_what_a_command_would_use(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read back it is the same; the order is file, environment, --set."""
    path = write_config(tmp_path / "a.toml", load(None, {"video.sample_fps": 3, "run.decoders": 2}))
    monkeypatch.setenv("MAREY_VIDEO__SAMPLE_FPS", "4")
    for arguments, fps in (([], 4.0), (["--set", "video.sample_fps=5"], 5.0)):
        assert run(["config", "--show", "--config", str(path), *arguments]) == 0
        shown = Config.model_validate(tomllib.loads(capsys.readouterr().out))
        assert (shown.video.sample_fps, shown.run.decoders) == (fps, 2)
    monkeypatch.delenv("MAREY_VIDEO__SAMPLE_FPS")
    assert run(["config"]) == 0
    assert Config.model_validate(tomllib.loads(capsys.readouterr().out)) == Config()


def test_config_schema(capsys: Capture) -> None:
    assert run(["config", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    for section, field in Config.model_fields.items():
        assert schema["properties"][section]["description"] == field.description


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("track.weights=my models/a.safetensors", "my models/a.safetensors"),
        ("track.weights='a'", "a"),
        ('track.weights="a=b"', "a=b"),
        (" track.weights = a ", "a"),
    ],
)
def test_set_takes_text_with_and_without_quotes(setting: str, value: str, capsys: Capture) -> None:
    assert run(["config", "--set", setting]) == 0
    assert tomllib.loads(capsys.readouterr().out)["track"]["weights"] == value


def test_doctor(site: Site, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "bad.mp4").write_text("x")
    assert run(["doctor", "--config", str(site.toml), "--json"]) == 0
    machine = json.loads(capsys.readouterr().out)
    assert machine["cnn_runs_on"] == "torch on cpu"
    assert len(machine["weights_detector"]) == 32
    assert run(["doctor", str(site.video), str(tmp_path / "bad.mp4"), "--json"]) == 1
    out, err = capsys.readouterr()
    good, bad = json.loads(out)
    assert (good["codec"], good["frames"], good["frames_lost"]) == ("h264 yuv420p", 60, 0)
    assert "error" in bad
    assert err.count("\n") == 1


def test_evaluate_detector_json(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The figures of the written detections, by the scorer's own hand elsewhere; here the way to them."""
    pytest.importorskip("pycocotools")
    folder = prepared(tmp_path_factory.getbasetemp() / "prepared")
    truth = _stills(tmp_path)
    monkeypatch.setenv("MAREY_PERCEIVE__RUNTIME", "torch")
    base = ["evaluate", "detector", "--data", str(truth), "--images", str(tmp_path), "--input", "96x64"]
    weights = ["--weights", str(folder / "tiny.safetensors"), "--detections", str(tmp_path / "found.json")]
    assert run([*base, *weights, "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    found = json.loads((tmp_path / "found.json").read_text())
    assert result["detections"] == len(found) > 0
    assert set(result["classes"]) == {"person", "car"}
    assert 0 <= result["mean_ap50"] <= 1
    assert "on cpu, input 96x64" in err
    assert result["left_out"] == []
    whole = json.loads(truth.read_text())
    dragon = {"image_id": 1, "category_id": 3, "bbox": [5, 5, 20, 20]}
    whole["categories"].append({"id": 3, "name": "dragon"})
    truth.write_text(json.dumps({**whole, "annotations": [*whole["annotations"], dragon]}))
    assert run([*base, *weights, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {**result, "left_out": ["dragon"]}
    assert "no classes of the detector, so left out: dragon" in err
    assert run([*base, "--weights", str(folder / "stir.safetensors")]) == 2
    assert "'events' weights, not 'detector'" in capsys.readouterr().err


def _stills(folder: Path) -> Path:
    """Pictures of the scene with their boxes, in COCO format without area and iscrowd; one shows nothing."""
    from tests.analyze.build import HEIGHT, SIDE, WIDTH, picture

    images, annotations = [], []
    for number in range(1, 5):
        t = 1.1 * number
        pixels = picture(t) if number < 4 else np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels[..., ::-1])
        images.append({"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT})
        for shape in range(len(COLOURS) if number < 4 else 0):
            x, y = place(shape, t)
            box = [x - SIDE / 2, y - SIDE / 2, SIDE, SIDE]
            annotations.append({"image_id": number, "category_id": shape + 1, "bbox": box})
    names = [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
    path = folder / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    return path


def test_train_detector_command(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: Capture
) -> None:
    """A step of training from given weights; the same command again has nothing left to do."""
    folder = prepared(tmp_path_factory.getbasetemp() / "prepared")
    truth = _stills(tmp_path)
    command = [
        "train", "detector", "--data", str(truth), "--images", str(tmp_path), "--out", str(tmp_path / "out"),
        "--from", str(folder / "tiny.safetensors"), "--steps", "1", "--batch", "2", "--size", "32",
        "--threads", "1",
    ]  # fmt: skip
    for _ in range(2):
        assert run(command) == 0
        out, err = capsys.readouterr()
        assert (out, err.splitlines()[-1]) == ("", f"weights: {tmp_path / 'out' / 'detector.safetensors'}")
    command[command.index("--steps") + 1] = "2"
    assert run(command) == 2
    assert "was made with other settings (steps" in capsys.readouterr().err


def test_marey_is_a_program(tmp_path: Path) -> None:
    """As installed, and as a module: the same."""
    script = Path(sys.executable).with_name("marey")
    assert script.exists(), "the entry point is not installed: make setup"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == marey("--version", cwd=tmp_path).stdout != ""
    assert os.access(script, os.X_OK)


def test_settings_of_the_tests_are_read_back(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = prepared(tmp_path_factory.getbasetemp() / "prepared")
    path = write_config(tmp_path / "c.toml", config(folder))
    assert load(path) == config(folder)


def test_what_was_loaded_is_not_looked_through_once_more_at_the_end() -> None:
    program = (
        "import atexit, gc, sys; from pipeline.cli import main;"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000)); sys.argv = ['marey', '-h']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"
