"""Results for people: annotated clips, timelines and pages."""

from pipeline.report.clip import annotate
from pipeline.report.timeline import timeline_picture

__all__ = ["annotate", "timeline_picture"]
