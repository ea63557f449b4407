"""What is written beside an event model: its card, and its training as a picture."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.files import bare
from pipeline.evaluate.events import NONE


def command_line(arguments: Sequence[str]) -> str:
    """How marey was called, as a shell takes it, but without what addresses hold of secrets."""
    storable = []
    for argument in arguments:
        option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        storable.append(f"{option}{equals}{bare(value)}")
    return shlex.join(["marey", *storable])


def card(name: str, report: Mapping[str, Any]) -> str:
    """The model card: what it is, what it was trained on, how, and how good it is."""
    validation = report.get("cross_validation")
    measured = "not measured"
    if validation is not None:
        folds = f"{validation['folds']}-fold cross-validation, whole sources"
        measured = f"{validation['accuracy']:.1%} of clips right ({folds})"
    elif report["held_accuracy"] is not None:
        measured = f"{report['held_accuracy']:.1%} of the clips right that decided when to stop"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    detector = report["config"]["detector"]
    lines = [
        f"# {name}",
        "",
        "Event model on frame embeddings.",
        "",
        f"- Made: {datetime.now(UTC):%Y-%m-%d} on {machine}",
        f"- Command: `{report['command'] or 'marey train events'}`",
        f"- Detector whose embeddings it saw: {detector or 'any'}",
        f"- Objects without which there is no event: {', '.join(report['config']['classes']) or 'none'}",
        f"- Clips by label: {json.dumps(report['clips'])}, from {report['groups']} sources",
        f"- Accuracy: {measured}",
        f"- Model: `{json.dumps(report['config'])}`",
        f"- Training: `{json.dumps(report['settings'])}`",
        f"- Best of {report['epochs']} epochs: number {report['best_epoch']}",
    ]
    return "\n".join([*lines, ""])


def draw_training(
    path: Path,
    losses: Mapping[str, Sequence[float]],
    best_epoch: int,
    confusion: Mapping[tuple[str, str], int] | None,
    measured_on: str,
) -> bool:
    """Losses by epoch and, where something was measured, how often which label was found for which.

    Args:
        path: .png file.
        losses: by name, of each epoch; NaN where there is none.
        best_epoch: whose weights were kept.
        confusion: clips by (truth, found).
        measured_on: which clips these are.

    Returns:
        False, and nothing is drawn, where matplotlib (extra `train`) is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, values in losses.items():
        if not np.isnan(values).all():
            left.plot(values, label=name)
    left.axvline(best_epoch, color="grey", linestyle=":", label="kept")
    left.set(title="loss", xlabel="epoch")
    left.legend()
    _draw_confusion(right, confusion or {}, measured_on)
    figure.savefig(path, dpi=100)
    return True


def _draw_confusion(axes: Any, confusion: Mapping[tuple[str, str], int], measured_on: str) -> None:
    names = sorted({name for pair in confusion for name in pair}, key=lambda name: (name == NONE, name))
    if not names:
        axes.set_axis_off()
        axes.set_title("no clips were kept for measuring")
        return
    table = np.array([[confusion.get((truth, found), 0) for found in names] for truth in names])
    axes.imshow(table / np.maximum(table.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        dark = count > 0.5 * table[row].sum()
        axes.text(column, row, count, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(title=f"clips: {measured_on}", xlabel="found", ylabel="true")
