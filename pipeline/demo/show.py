"""The demo end to end: render, analyse, compare with the truth, draw."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.analyze import Options, Reporter, analyze
from pipeline.config import load
from pipeline.demo.render import render_demo
from pipeline.demo.truth import DemoTruth, demo_rules
from pipeline.lake.lookup import column_list
from pipeline.lake.query import query
from pipeline.lake.schema import STAGES
from pipeline.outputs import check_folder
from pipeline.report.clip import annotate
from pipeline.report.timeline import timeline_picture

EVENT_TOLERANCE_S = 1.5
"""How far a found event may lie from the true one and still be it: boxes of a moving object end at its feet
only roughly."""


@dataclass(frozen=True)
class Shown:
    """What the demo found, beside what is true, and where it lies."""

    status: str
    video: str
    lake: str
    clip: str
    timeline: str
    seconds: dict[str, float]
    counts: list[dict[str, Any]] = field(default_factory=list)  # class, true, found
    events: list[dict[str, Any]] = field(default_factory=list)  # label, true t, found t
    text: str = ""


def run_demo(out: Path, *, seed: int, reporter: Reporter, say: Callable[[str], None]) -> Shown:
    """Render a street, analyse it with the default models, and compare.

    Files in `out`: street.mp4, street.toml (the rules), lake/, street-annotated.mp4, timeline.png.

    Raises:
        UsageError: `out` is no folder, or cannot be written.
    """
    check_folder(out)
    video, rules = out / "street.mp4", out / "street.toml"
    watch: dict[str, float] = {}
    began = time.monotonic()
    say("rendering a street of which everything is known")
    truth = render_demo(video, seed)
    rules.write_text(demo_rules(), encoding="utf-8")
    began = _lap(watch, "render", began)
    config = load(rules)
    summary = analyze([str(video)], str(out / "lake"), config, Options(upgrade=True), reporter)
    began = _lap(watch, "analyze", began)
    video_id = summary.results[0].video_id
    rows = {table: _rows(out / "lake", table, video_id) for table in ("tracks", "objects", "events")}
    clip, picture = out / "street-annotated.mp4", out / "timeline.png"
    say("drawing what was found")
    annotate(video, clip, rows["tracks"], rows["events"], config.rules)
    timeline_picture(
        picture,
        rows["objects"],
        rows["events"],
        rows["tracks"],
        truth.duration_s,
        title=video.name,
        thumbnail=_scene(video),
    )
    _lap(watch, "draw", began)
    counts, events = count_objects(truth, rows["objects"]), match_events(truth, rows["events"])
    state = summary.results[0].state
    return Shown(
        "ok" if state == "current" else state,
        str(video),
        str(out / "lake"),
        str(clip),
        str(picture),
        watch,
        counts,
        events,
        _text(out, counts, events, watch),
    )


def _lap(watch: dict[str, float], stage: str, began: float) -> float:
    now = time.monotonic()
    watch[stage] = round(now - began, 1)
    return now


def _rows(lake: Path, table: str, video_id: str | None) -> pa.Table:
    stage = STAGES[table]
    order = {"tracks": "sample, track_id", "objects": "track_id", "events": "t_start, label"}[table]
    sql = f"SELECT {column_list(stage.names)} FROM {table} WHERE video_id = '{video_id}' ORDER BY {order}"
    return query(str(lake), sql).cast(stage)


def _scene(video: Path) -> Any:
    import av

    with av.open(str(video)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def count_objects(truth: DemoTruth, objects: pa.Table) -> list[dict[str, Any]]:
    """True and found objects per class; found ones count from 1 s on."""
    true = truth.objects["class"].to_pylist()
    found = [row["class"] for row in objects.to_pylist() if row["t_end"] - row["t_start"] >= 1.0]
    names = sorted({*true, *found}, key=lambda name: (-true.count(name), name))
    return [{"class": name, "true": true.count(name), "found": found.count(name)} for name in names]


def match_events(truth: DemoTruth, events: pa.Table) -> list[dict[str, Any]]:
    """True and found events side by side; each found one stands beside the nearest true one of its kind."""
    found = [row for row in events.to_pylist() if row["source"] == "rule"]
    table = []
    for true in truth.events.to_pylist():
        same = [f for f in found if (f["label"], f["direction"]) == (true["label"], true["direction"])]
        near = min(same, key=lambda f: abs(f["t_start"] - true["t_start"]), default=None)
        if near is not None and abs(near["t_start"] - true["t_start"]) > EVENT_TOLERANCE_S:
            near = None
        if near is not None:
            found.remove(near)
        table.append(_event(true["label"], true["direction"], true, near))
    return table + [_event(row["label"], row["direction"], None, row) for row in found]


def _event(label: str, direction: str | None, true: Any, found: Any) -> dict[str, Any]:
    return {
        "label": label,
        "direction": direction,
        "true_s": round(true["t_start"], 1) if true else None,
        "found_s": round(found["t_start"], 1) if found else None,
    }


def _text(
    out: Path, counts: list[dict[str, Any]], events: list[dict[str, Any]], watch: dict[str, float]
) -> str:
    lines = ["", "objects of 1 s and more        true  found"]
    lines += [f"  {row['class']:28} {row['true']:4} {row['found']:6}" for row in counts]
    lines += ["", "events                                      true at  found at"]
    for row in events:
        what = row["label"] + (f" ({row['direction'].replace('_', ' ')})" if row["direction"] else "")
        lines.append(f"  {what:40} {_at(row['true_s'])}  {_at(row['found_s'])}")
    hits = sum(row["true_s"] is not None and row["found_s"] is not None for row in events)
    true = sum(row["true_s"] is not None for row in events)
    extra = sum(row["true_s"] is None for row in events)
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in watch.items())
    lines += [
        "",
        f"{hits} of {true} true events found, {extra} found that are not true; {spent}",
        "",
        f"annotated clip   {out / 'street-annotated.mp4'}",
        f"timeline         {out / 'timeline.png'}",
        f"ask the lake     marey query 'select * from objects' --lake {out / 'lake'}",
    ]
    return "\n".join(lines)


def _at(seconds: float | None) -> str:
    return f"{seconds:6.1f} s" if seconds is not None else "      --"
