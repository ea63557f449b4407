"""The config: order of its sources, what is refused and how, and its text."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.config import CameraPattern, Config, Rule, load
from pipeline.config_text import to_toml
from pipeline.errors import UsageError

SITE = """
[video]
sample_fps = 5
stall_s = 7
[run]
decoders = 2
[[rules]]
name = "d"
kind = "dwell"
min_duration_s = 3
zone = [[0, 0], [1, 0], [1, 1]]
"""
GATE = {"name": "gate", "kind": "line_crossing", "line": [[0.1, 0.2], [0.9, 0.2]]}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MAREY_"):
            monkeypatch.delenv(name)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return path


def test_order(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults, file, environment, command line; key by key."""
    assert load().video.sample_fps == 10.0
    assert load(site).video.sample_fps == 5.0
    monkeypatch.setenv("MAREY_VIDEO__SAMPLE_FPS", "6")
    config = load(site)
    assert (config.video.sample_fps, config.video.stall_s, config.run.decoders) == (6.0, 7.0, 2)
    config = load(site, {"video.sample_fps": 8, "rules": []})
    assert (config.video.sample_fps, config.video.stall_s, config.rules) == (8.0, 7.0, ())


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAREY_EVENTS__MODELS", '["fight", "mine.safetensors"]')
    monkeypatch.setenv("MAREY_RULES", json.dumps([GATE]))
    monkeypatch.setenv("MAREY_PERCEIVE__EMBEDDINGS", "false")
    monkeypatch.setenv("MAREY_RUN", '{"threads": 3}')
    monkeypatch.setenv("MAREY_SHARED", "/somewhere")  # not ours to judge
    config = load()
    assert config.events.models == ("fight", "mine.safetensors")
    assert [rule.name for rule in config.rules] == ["gate"]
    assert (config.perceive.embeddings, config.run.threads) == (False, 3)
    assert Config().run.threads == 0  # only `load` looks at the environment


ZONE = {"name": "z", "kind": "zone_entry", "zone": [[0, 0], [1, 1], [1, 0], [0, 1]]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[vidio]\nx = 1", "unknown key 'vidio'"),
        ("[video]\nfps = 5", "unknown key 'video.fps'"),
        ("[video]\nsample_fps = -1", "video.sample_fps = -1: Input should be greater than or equal to 0"),
        ("[video]\nsample_fps = nan", "video.sample_fps = nan: Input should be a finite number"),
        ("[video]\nstall_s = inf", "video.stall_s = inf: Input should be a finite number"),
        ("[perceive]\ninput_width = 500", "perceive.input_width = 500: Input should be a multiple of 32"),
        ('[perceive]\ndevice = "tpu"', "perceive.device = 'tpu': Input should be 'auto', 'cpu' or 'cuda'"),
        (f"[track]\nhigh_score = '{'x' * 200}'", f"track.high_score = '{'x' * 76}...: Input should be"),
        ("[[cameras]]\ntimezone = 'Mars'", "cameras.0: unknown time zone 'Mars'"),
        ("[[rules]]\nname = 'a'\nkind = 'jump'", "rule 'a'.kind = 'jump': Input should be 'line_crossing'"),
        ("[[rules]]\nkind = 'dwell'", "rules.0.name: Field required"),
        ("[[rules]]\nname = 'a'\nkind = 'dwell'\nzonne = 1", "unknown key \"rule 'a'.zonne\""),
        ("[[rules]]\nname = 'a'\nkind = 'dwell'", "rule 'a': dwell needs zone"),
        (to_toml(Config()).replace("# [[rules]]", "[[rules]] #"), "rules.0.name: Field required"),
        ("video = 3", "video = 3: Input should be a valid dictionary"),
        ("= 3", "is not TOML"),
        ("\0", "is not TOML"),
    ],
)
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    """One line that names file, key, value and what is allowed."""
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert f"config {path}" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("notify", "https://hooks.example/hunter2", "--set: notify: Input should be a valid dictionary"),
        ("notify.webhook", ["https://hooks.example/hunter2"], "--set: notify.webhook: Input should be"),
        (
            "events.models",
            "https://me:hunter2@own.example/w.safetensors?key=hunter2#sha256=ab",
            "--set: events.models = 'https://own.example/w.safetensors#sha256=ab': Input should be",
        ),
    ],
)
def test_a_refusal_tells_no_secret(key: str, value: object, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(None, {key: value})
    assert str(caught.value).startswith(told)
    assert "hunter2" not in str(caught.value)


def test_a_mark_of_the_byte_order_is_passed_over(tmp_path: Path) -> None:
    """Editors of Windows put one in front; TOML called the file wrong in its first line."""
    path = tmp_path / "c.toml"
    path.write_text("[video]\nsample_fps = 5\n", encoding="utf-8-sig")
    assert load(path).video.sample_fps == 5
    path.write_text("[video]\nsample_fps = -5\n", encoding="utf-8-sig")
    with pytest.raises(UsageError, match=r"c\.toml, line 2: video\.sample_fps = -5"):
        load(path)


ZONES = """[[rules]]
name = 'b'
kind = 'dwell'
zone = [
  [0.1, 0.1],
  [0.9, 0.1], [0.9, 0.9],
  [0.1, 0.9]
]"""


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("[[rules]]\nname = 'b'\nkind = 'dwell'\nmin_duration_s = -1", 9),
        ("[[rules]]\nname = 'b'\nkind = 'jump'", 8),
        ("[[ rules ]]  # twice\nname = 'b'\nkind = 'dwell'", 6),
        ("[[rules]]\nname = 'b'\n[[rules]]\nname = 'c'\nkind = 'stopped'\nmin_duration_s = 1", 6),
        ("[video]\nsample_fps = -1", 7),
        ("[video]\nfps = 5", 7),
        (f"{ZONES}\nmin_duration_s = -1", 14),
        (f"{ZONES}\nmin_duration_s = 1\nclasses = ['dragon']", 15),
    ],
)
def test_refusal_names_the_line(tmp_path: Path, wrong: str, line: int) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"# rules\n[[rules]]\nname = 'a'\nkind = 'stopped'\nmin_duration_s = 1\n{wrong}\n[run]\n")
    with pytest.raises(UsageError, match=f"config {path}, line {line}: "):
        load(path)


def test_classes_of_other_weights_are_not_known_before_they_are_loaded(tmp_path: Path) -> None:
    wanted = {"rules": [{"name": "a", "kind": "crowding", "min_count": 2, "classes": ["dragon"]}]}
    with pytest.raises(
        UsageError, match="--set: rule 'a': unknown class 'dragon': the detector knows person"
    ):
        load(None, wanted)
    for own in ({"perceive.weights": "mine.safetensors"}, {"perceive.detector": "mine.onnx"}):
        assert load(None, {**wanted, **own}).rules[0].classes == ("dragon",)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kind": "line_crossing"}, "needs line"),
        ({"kind": "wrong_way"}, "needs line"),
        ({"kind": "occupancy"}, "needs zone"),
        ({"kind": "appear"}, "needs zone"),
        ({"kind": "disappear"}, "needs zone"),
        ({"kind": "crowding"}, "needs min_count of 2 or more"),
        ({"kind": "line_crossing", "line": [[0, 0], [0, 0]]}, "two different points"),
        ({"kind": "zone_entry"}, "needs zone"),
        ({"kind": "zone_entry", "zone": [[0, 0], [1, 1]]}, "at least three corners"),
        ({"kind": "zone_entry", "zone": ZONE["zone"]}, "not a simple polygon: Self-intersection"),
        ({"kind": "zone_exit", "zone": [[0, 0], [0.5, 0.5], [1, 1]]}, "not a simple polygon"),
        ({"kind": "zone_exit", "zone": [[0, 0], [2, 0], [1, 1]]}, "outside 0..1"),
        ({"kind": "stopped"}, "needs min_duration_s above 0"),
        ({"kind": "dwell", "zone": [[0, 0], [1, 0], [1, 1]]}, "needs min_duration_s above 0"),
    ],
)
def test_wrong_rules(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match="rule 'yard': ") as caught:
        load(None, {"rules": [GATE, {"name": "yard", **rule}]})
    assert message in str(caught.value)


def test_rules_have_names_of_their_own() -> None:
    with pytest.raises(UsageError, match="config: two rules are named 'gate'"):
        load(None, {"rules": [GATE, GATE]})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("foo.bar", 1, "--set: unknown key 'foo':"),
        ("sample_fps", 3, "--set: unknown key 'sample_fps' (did you mean 'video.sample_fps'?):"),
        ("percieve.min_score", 0.3, "--set: unknown key 'percieve' (did you mean 'perceive'?):"),
        ("events.min_scor", 0.3, "--set: unknown key 'events.min_scor' (did you mean 'events.min_score'?):"),
        ("video.fps", 1, "--set: unknown key 'video.fps'"),
        ("rules", 3, "--set: rules = 3"),
        ("video.sample_fps.x", 3, "--set: video.sample_fps: Input should be a valid number"),
        ("cameras.0.timezone", "UTC", "--set: cameras: Input should be a valid tuple"),
        ("", 3, "--set: unknown key ''"),
    ],
)
def test_wrong_overrides(site: Path, key: str, value: Any, message: str) -> None:
    """The place that is wrong is named, not the file that is right."""
    with pytest.raises(UsageError) as caught:
        load(site, {key: value})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MAREY_VIDEO", "abc", 'error parsing value for field "video"'),
        ("MAREY_VIDEO__FPS", "1", "unknown key 'video.fps'"),
        ("MAREY_VIDEO__SAMPLE_FPS", "fast", "video.sample_fps = 'fast'"),
        ("MAREY_RULES", "[3]", "rules.0 = 3"),
    ],
)
def test_wrong_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"MAREY_\* environment") as caught:
        load()
    assert message in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.toml cannot be read: No such file"):
        load(tmp_path / "no.toml")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_cameras_of_a_rule() -> None:
    rule = Rule.model_validate({**GATE, "cameras": "gate-*"})
    assert [rule.applies_to(name) for name in ("gate-1", "Gate-1", "yard", None)] == [
        True,
        False,
        False,
        False,
    ]
    assert Rule.model_validate(GATE).applies_to(None)
    config = Config.model_validate({"rules": [{**GATE, "cameras": "b"}, {**GATE, "name": "all"}]})
    assert [rule.name for rule in config.rules_for("a")] == ["all"]
    assert [rule.name for rule in config.rules_for("b")] == ["gate", "all"]


def leaves(kind: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from leaves(inner, f"{path}{name}.")
        else:
            yield f"{path}{name}", field


def test_schema_says_what_each_key_means() -> None:
    """Every key has a meaning, and a default where there can be one; `--schema` shows them."""
    schema = json.dumps(Config.model_json_schema())
    for kind in (Config, CameraPattern, Rule):
        for key, field in leaves(kind):
            assert field.description, key
            assert json.dumps(field.description) in schema, key
            assert not field.is_required() or key in ("name", "kind"), key
    assert all(field.description for field in Config.model_fields.values())


def test_the_text_of_the_default_config() -> None:
    text = to_toml(Config())
    assert Config.model_validate(tomllib.loads(text)) == Config()
    for _, field in leaves(Config):
        assert field.description in text
    for line in text.splitlines():
        assert not line or "#" in line


POINT = st.tuples(st.floats(0, 1), st.floats(0, 1))
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
RULES = st.builds(
    lambda name, cameras, classes, corner, size, speed: {
        "name": name,
        "kind": "stopped",
        "cameras": cameras,
        "classes": classes,
        "zone": [corner, (corner[0] + size, corner[1]), (corner[0], corner[1] + size)],
        "units": "pixels",
        "min_duration_s": speed,
    },
    WORDS,
    WORDS,
    st.lists(WORDS, max_size=3),
    st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    st.floats(1, 1e6),
    st.floats(1e-9, 1e9),
)


@given(
    rules=st.lists(RULES, max_size=2, unique_by=lambda rule: rule["name"]),
    cameras=st.lists(st.fixed_dictionaries({"timezone": st.sampled_from(["UTC", "Asia/Tokyo"])}), max_size=2),
    fps=st.floats(0, 240),
    weights=WORDS,
    models=st.lists(WORDS, max_size=2),
    embeddings=st.booleans(),
)
def test_text_reads_back(
    rules: Any, cameras: Any, fps: float, weights: str, models: list[str], embeddings: bool
) -> None:
    config = Config.model_validate(
        {
            "rules": rules,
            "cameras": cameras,
            "video": {"sample_fps": fps},
            "perceive": {"weights": weights, "embeddings": embeddings},
            "events": {"models": models},
        }
    )
    assert Config.model_validate(tomllib.loads(to_toml(config))) == config
