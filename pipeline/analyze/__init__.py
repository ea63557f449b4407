"""The main job: source -> segments -> perception -> tracking -> events -> commit."""

from pipeline.analyze.job import analyze
from pipeline.analyze.outcome import Options, Reporter, Summary, VideoResult
from pipeline.analyze.reinterpret import reinterpret

__all__ = ["Options", "Reporter", "Summary", "VideoResult", "analyze", "reinterpret"]
