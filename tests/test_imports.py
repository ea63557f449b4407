"""The arrows: flows -> pipeline -> models; in pipeline cli -> analyze -> stages that do not know others."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers import ROOT

STAGES = ("sources", "media", "perceive", "track", "rules", "events", "lake")
BASE = {
    "errors",
    "config",
    "keys",
    "ids",
    "mot",
    "event_rows",
    "retry",
    "s3",
    "allowed",
    "pool",
    "weights",
}  # what every stage may use
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "allowed": {"errors"},
    "pool": {"allowed", "errors"},
    "weights": {"pool"},
    "sqs": {"s3"},
    "notify": BASE | {"lake", "sqs"},
    "uploads": BASE | {"lake", "sources", "sqs"},
    "retry": {"errors"},
    "s3": {"errors", "retry"},
    "keys": set(),
    "config": {"errors", "keys", "config_lines"},
    "ids": {"config"},
    "mot": {"errors"},
    "event_rows": {"ids", "lake"},
    "config_lines": set(),
    "config_text": {"config"},
    **{stage: BASE | {"lake"} for stage in STAGES},  # of the lake the schemas only, see below
    "report": BASE | {"lake", "media", "events", "sources", "outputs"},
    "exchange": BASE | {"lake", "media", "report"},
    "analyze": BASE | {"notify"} | set(STAGES),
    "evaluate": BASE | {"lake", "media", "perceive", "track", "report"},
    "demo": BASE | {"lake", "analyze", "report", "media", "outputs"},
    "doctor": BASE | {"analyze", "media"},
    "speed": BASE | {"analyze", "lake", "media", "perceive", "track"},
    "event_data": BASE | {"evaluate", "media", "perceive", "sources"},
    "event_card": {"evaluate"},
    "outputs": {"errors"},
    "training_events": BASE | {"events", "evaluate", "event_card", "event_data", "outputs"},
    "training_detector": BASE,
    "training_motion": BASE | {"evaluate", "track"},
}


def imports(path: Path) -> set[str]:
    """Dotted names of the modules that a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources(package: str) -> list[Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    return files


def unit(name: str) -> str | None:
    """The part of pipeline that a dotted name belongs to."""
    parts = name.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 else None


def test_models_import_nothing_of_pipeline_or_flows() -> None:
    for path in sources("models"):
        above = {name for name in imports(path) if name.split(".")[0] in ("pipeline", "flows", "prefect")}
        assert not above, f"{path.relative_to(ROOT)} imports {sorted(above)}"


def test_pipeline_imports_nothing_of_flows_or_prefect() -> None:
    for path in sources("pipeline"):
        above = {name for name in imports(path) if name.split(".")[0] in ("flows", "prefect")}
        assert not above, f"{path.relative_to(ROOT)} imports {sorted(above)}"


def test_parts_of_pipeline_know_only_what_lies_below_them() -> None:
    for path in sources("pipeline"):
        own = path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py")
        if own in ("cli", "__init__"):
            continue
        used = {part for part in map(unit, imports(path)) if part and (ROOT / "pipeline" / part).exists()}
        used |= {
            part for part in map(unit, imports(path)) if part and (ROOT / f"pipeline/{part}.py").exists()
        }
        wrong = used - ALLOWED[own] - {own}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_stages_use_the_schemas_of_the_lake_and_nothing_else_of_it() -> None:
    for stage in (*STAGES, "event_rows"):
        if stage == "lake":
            continue
        files = (
            sources(f"pipeline/{stage}")
            if (ROOT / "pipeline" / stage).is_dir()
            else [ROOT / f"pipeline/{stage}.py"]
        )
        for path in files:
            modules = {name for name in imports(path) if name.startswith("pipeline.lake.")}
            wrong = {name for name in modules if not name.startswith("pipeline.lake.schema")}
            assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_no_module_is_loaded_by_one_that_it_loads() -> None:
    """Imports inside functions may: `Location.parse` makes a `Bucket`, which is a `Location`."""
    files = [path for package in ("models", "pipeline", "flows") for path in sources(package)]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    loads = {name: _at_top(ast.parse(path.read_text(encoding="utf-8"))) for name, path in names.items()}
    graph = {name: found & loads.keys() - {name} for name, found in loads.items()}
    assert any(graph.values())
    TopologicalSorter(graph).prepare()  # a CycleError names them


def _at_top(module: ast.Module) -> set[str]:
    """Dotted names of the modules that a file imports when it is loaded."""
    found: set[str] = set()
    for node in module.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("pipeline.lake.tables", {"torch", "prefect", "boto3", "av", "cv2"}),
        ("pipeline.cli.commands", {"torch", "prefect", "deltalake", "av", "cv2", "pyarrow"}),
        ("pipeline.lake.query", {"torch", "prefect", "av", "cv2"}),
        ("models.runtime", {"torch", "openvino"}),
        ("pipeline.analyze.job, pipeline.track, pipeline.events", {"torch", "prefect"}),
        ("pipeline.config", {"torch", "prefect", "deltalake", "av", "cv2", "pyarrow"}),
        ("pipeline.media.child", {"torch", "prefect", "deltalake"}),
    ],
)
def test_importing_does_not_load_what_is_not_needed(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
