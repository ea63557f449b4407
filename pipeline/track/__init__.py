"""Detections of one video to tracks and objects."""

from pipeline.track.text import track_mot
from pipeline.track.tracker import Tracker, beyond_lookahead

__all__ = ["Tracker", "beyond_lookahead", "track_mot"]
