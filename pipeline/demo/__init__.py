"""A rendered street with known paths: the demo's video and its truth, and rendered scenes for training.

`render_demo` writes the video, `demo_rules` the config that goes with it, `render_training_images` random
scenes with boxes for the detector's training mix. See `pipeline.demo.render`, `truth` and `training`.
"""

from pipeline.demo.render import RECORDED_AT, render_demo
from pipeline.demo.training import render_training_images
from pipeline.demo.truth import DemoTruth, demo_rules

__all__ = ["RECORDED_AT", "DemoTruth", "demo_rules", "render_demo", "render_training_images"]
