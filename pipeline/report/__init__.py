"""Results for people: annotated clips and timelines."""

from pipeline.report.clip import annotate
from pipeline.report.timeline import timeline_picture

__all__ = ["annotate", "timeline_picture"]
