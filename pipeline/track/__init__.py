"""Detections of one video to tracks and objects."""

from pipeline.track.text import track_mot
from pipeline.track.tracker import Tracker

__all__ = ["Tracker", "track_mot"]
