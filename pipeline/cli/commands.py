"""The whole command line: importing this registers all commands with their apps."""

from __future__ import annotations

from pipeline.cli import analyze, demo, exchange, lake, look, maintain, models, serve, setup, speed  # noqa: F401
from pipeline.cli.app import app

__all__ = ["app"]
