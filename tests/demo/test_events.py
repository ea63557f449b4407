"""The demo's true events against what the rules find on ideal tracks: two ways, one result."""

from __future__ import annotations

import tomllib

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import Config
from pipeline.demo import demo_rules
from pipeline.demo.scene import demo_actors, demo_camera
from pipeline.demo.truth import true_events
from pipeline.lake.schema import TRACKS
from pipeline.rules import RuleEngine


def ideal_tracks() -> pa.Table:
    """At 10 samples/s, boxes that stand on the figures' ground points, while these are in the picture."""
    camera, actors, rows = demo_camera(), demo_actors(0), []
    for sample in range(300):
        for actor in actors:
            pose = actor.pose(sample / 10)
            if pose is None:
                continue
            pixels, depth = camera.project(np.array([[pose.x, pose.y, 0.0]]))
            x, y = pixels[0].tolist()
            tall = actor.figure.height_m * camera.focal_px / float(depth[0])
            if 0 < x < camera.width and 0 < y < camera.height:
                rows.append(
                    {"track_id": actor.track_id, "sample": sample, "t": sample / 10, "x1": x - tall / 6,
                     "y1": y - tall, "x2": x + tall / 6, "y2": y, "class": actor.figure.label, "score": 1.0,
                     "observed": True}
                )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=TRACKS)


def test_rules_on_ideal_tracks_find_the_true_events() -> None:
    config, camera = Config(**tomllib.loads(demo_rules())), demo_camera()
    engine = RuleEngine(config.rules, (camera.width, camera.height), "demo")
    found = pa.concat_tables([engine.update(ideal_tracks()), engine.finish()]).to_pylist()
    true = true_events(demo_actors(0), 30.0).to_pylist()
    key = [(e["label"], e["track_ids"][0], e["direction"]) for e in found]
    assert sorted(key, key=str) == sorted(
        ((e["label"], e["track_id"], e["direction"]) for e in true), key=str
    )
    for event in true:
        (same,) = (f for f in found if (f["label"], f["track_ids"]) == (event["label"], [event["track_id"]]))
        # where a car begins to stand depends on what counts as standing
        tolerance = 1.0 if event["kind"] == "stopped" else 0.15
        assert same["t_start"] == pytest.approx(event["t_start"], abs=tolerance)
