"""What an event model is, but for its tensors: labels, what it looks at, kind and size of its cells.

An embedding is what perception stores of a frame: the CNN's numbers, then the motion grid, `GRID_ROWS` rows
of `GRID_COLUMNS` cells of two numbers: residual optical flow in picture widths per second, and grey
difference to the sampled frame before, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

GRID_ROWS, GRID_COLUMNS, GRID_CHANNELS = 6, 8, 2
GRID_SIZE = GRID_ROWS * GRID_COLUMNS * GRID_CHANNELS

View = Literal["plain", "grid", "ranks", "changes"]
Cell = Literal["gru", "lstm", "rnn", "mean"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Numbers start..stop of the embedding (as in a Python slice) and how the model looks at them.

    `plain` takes them as they are. `grid` and `ranks` are for a motion grid: `grid` takes the logarithm of
    every cell, `ranks` only how strong the strongest cells are, wherever they lie. `changes` is for the
    CNN's numbers: how much those that changed most since the frame before did, whichever they are.
    """

    start: int
    stop: int | None
    view: View = "plain"

    def __post_init__(self) -> None:
        if self.view not in get_args(View):
            raise ValueError(f"view {self.view!r} is not one of {get_args(View)}")

    def cut(self, embeddings: Floats) -> Floats:
        """(..., D) -> (..., d).

        Raises:
            ValueError: the embedding is too short, or a motion grid has another size.
        """
        part = embeddings[..., self.start : self.stop]
        wanted = None if self.stop is None and self.start >= 0 else (self.stop or 0) - self.start
        if part.shape[-1] == 0 or (wanted is not None and wanted > 0 and part.shape[-1] != wanted):
            raise ValueError(f"embedding of {embeddings.shape[-1]} numbers has no part {self}")
        if self.view in ("grid", "ranks") and part.shape[-1] != GRID_SIZE:
            raise ValueError(f"a motion grid has {GRID_SIZE} numbers, {self} has {part.shape[-1]}")
        return part


MOTION = Part(-GRID_SIZE, None, "ranks")
CHANGES = Part(0, -GRID_SIZE, "changes")


@dataclass(frozen=True)
class EventModelConfig:
    """Everything but the tensors.

    `embedding_dim` is the length of the embeddings, None where only their end is used; `detector` the digest
    of the weights that gave those it was trained on, None where it does not matter. `sample_fps` is the rate
    of the frames it was trained on. A causal model sees the past only; else it sees windows of `window_s`
    seconds, and `mean`, the non-recurrent average over the window, exists only so. `classes` are of objects
    that take part: where none is seen, there is no event; none named: all may, and none must.
    """

    labels: tuple[str, ...]
    parts: tuple[Part, ...] = (MOTION,)
    embedding_dim: int | None = None
    detector: str | None = None
    sample_fps: float = 10.0
    cell: Cell = "gru"
    causal: bool = False
    width: int = 16
    hidden: int = 16
    window_s: float = 6.0
    dropout: float = 0.3
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels must be one or more different names, got {self.labels}")
        if not self.parts:
            raise ValueError("parts must name at least one part of the embedding")
        if self.cell not in get_args(Cell):
            raise ValueError(f"cell {self.cell!r} is not one of {get_args(Cell)}")
        if self.cell == "mean" and self.causal:
            raise ValueError("cell 'mean' looks at whole windows and cannot be causal")
        if not all(isinstance(size, int) and size > 0 for size in (self.width, self.hidden)):
            raise ValueError(
                f"width and hidden must be whole numbers above 0, got {self.width!r}, {self.hidden!r}"
            )
        if self.sample_fps <= 0 or self.window_s <= 0:
            raise ValueError(
                f"sample_fps and window_s must be above 0, got {self.sample_fps}, {self.window_s}"
            )

    def to_json(self) -> dict[str, Any]:
        return {"kind": "events", **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EventModelConfig:
        """Raises ValueError or TypeError where a value is missing, unknown or wrong."""
        known = {f.name for f in fields(cls)}
        unknown = set(values) - known - {"kind"}
        if unknown:
            raise ValueError(f"unknown keys {sorted(unknown)}")
        chosen = {key: value for key, value in values.items() if key in known}
        chosen["labels"] = tuple(chosen["labels"])
        chosen["classes"] = tuple(chosen.get("classes", ()))
        chosen["parts"] = tuple(Part(**part) for part in chosen["parts"])
        return cls(**chosen)
