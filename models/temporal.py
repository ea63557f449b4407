"""Recurrent event model: frame embeddings of one video in, a score per frame and label out.

An embedding is what perception stores of a frame: the CNN's numbers, then the motion grid, `GRID_ROWS` rows
of `GRID_COLUMNS` cells of two numbers: residual optical flow in picture widths per second, and grey
difference to the sampled frame before, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from models.checkpoint import CheckpointError, load, save

GRID_ROWS, GRID_COLUMNS, GRID_CHANNELS = 6, 8, 2
GRID_SIZE = GRID_ROWS * GRID_COLUMNS * GRID_CHANNELS

View = Literal["plain", "grid", "ranks", "changes"]
Cell = Literal["gru", "lstm", "rnn", "mean"]
State = tuple[Tensor, ...]

_TOP_CELLS = (1, 3, 6, 12, 24, 48)
_GAINS = (64.0, 1000.0)
"""Before the logarithm: 1 is then slow motion, and a grey difference of the size of sensor noise."""


_TOP_CHANGES = (1, 3, 6, 12, 24, 64)
_CHANGE_GAIN = 20.0
"""The CNN's vector has unit length and 64 numbers; from frame to frame they change by 0.01."""


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

    def cut(self, embeddings: Tensor) -> Tensor:
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
    seconds, and `mean`, the non-recurrent average over the window, exists only so.
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

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels must be one or more different names, got {self.labels}")
        if not self.parts:
            raise ValueError("parts must name at least one part of the embedding")
        if self.cell not in get_args(Cell):
            raise ValueError(f"cell {self.cell!r} is not one of {get_args(Cell)}")
        if self.cell == "mean" and self.causal:
            raise ValueError("cell 'mean' looks at whole windows and cannot be causal")
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
        chosen["parts"] = tuple(Part(**part) for part in chosen["parts"])
        return cls(**chosen)


def look(parts: tuple[Part, ...], embeddings: Tensor) -> Tensor:
    """What the model sees of embeddings, before standardisation: (B, T, D) -> (B, T, F)."""
    return torch.cat([_view(part, part.cut(embeddings)) for part in parts], dim=-1)


def _view(part: Part, values: Tensor) -> Tensor:
    if part.view == "plain":
        return values
    if part.view == "changes":
        before = torch.cat([values[..., :1, :], values[..., :-1, :]], dim=-2)  # of the first: itself
        ordered = torch.log1p(_CHANGE_GAIN * (values - before).abs()).sort(dim=-1, descending=True).values
        return torch.stack([ordered[..., :n].mean(dim=-1) for n in _TOP_CHANGES], dim=-1)  # (B, T, 6)
    cells = values.reshape(*values.shape[:-1], GRID_ROWS * GRID_COLUMNS, GRID_CHANNELS)  # (B, T, 48, 2)
    cells = torch.log1p(cells.clamp_min(0) * cells.new_tensor(_GAINS))
    if part.view == "grid":
        return cells.flatten(-2)
    ordered = cells.sort(dim=-2, descending=True).values
    tops = [ordered[..., :n, :].mean(dim=-2) for n in _TOP_CELLS]
    return torch.cat([*tops, ordered.std(dim=-2)], dim=-1)  # (B, T, 7 * 2)


class EventModel(nn.Module):
    """Standardise, one dense layer, a recurrent layer (one or both ways), one dense layer to the labels."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: EventModelConfig, num_inputs: int) -> None:
        """Random weights; `num_inputs` is what `look` gives for these embeddings."""
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(num_inputs))
        self.register_buffer("std", torch.ones(num_inputs))
        self.enter = nn.Sequential(nn.Linear(num_inputs, config.width), nn.ReLU(), nn.Dropout(config.dropout))
        self.ahead = _recurrent(config)
        self.back = None if config.causal else _recurrent(config)
        ways = 1 if config.causal or config.cell == "mean" else 2
        size = config.width if config.cell == "mean" else ways * config.hidden
        self.leave = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(size, len(config.labels)))

    def standardise_by(self, embeddings: Tensor, lengths: Tensor) -> None:
        """Take mean and deviation of the inputs from training data, (B, T, D) with (B,) valid steps."""
        seen = look(self.config.parts, embeddings)[valid_steps(lengths, embeddings.shape[1])]  # (N, F)
        self.mean.copy_(seen.mean(dim=0))
        self.std.copy_(seen.std(dim=0).clamp_min(1e-3))

    def forward(self, embeddings: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, T, labels) of padded sequences (B, T, D), of which the first (B,) steps are valid.

        What stands in the padding has no influence on valid steps.
        """
        seen = self._enter(embeddings)  # (B, T, width)
        if self.ahead is None:
            valid = valid_steps(lengths, seen.shape[1])[..., None]
            mean = (seen * valid).sum(dim=1, keepdim=True) / lengths.clamp_min(1)[:, None, None]
            return self._leave(mean.expand_as(seen))
        out = self.ahead(seen)[0]  # (B, T, hidden)
        if self.back is not None:
            turned = turn(self.back(turn(seen, lengths))[0], lengths)
            out = torch.cat([out, turned], dim=-1)  # (B, T, 2 * hidden)
        return self._leave(out)

    def advance(self, embeddings: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The next (T, D) frames of one video: logits (T, labels) and the state after them; causal only."""
        if not self.config.causal or self.ahead is None:
            raise ValueError("only a causal model can be advanced")
        # The state's last tensor is the last frame, to which the next one is compared.
        cell, before = (None, embeddings[:1]) if state is None else (state[:-1], state[-1])
        known = cell if cell is None or len(cell) > 1 else cell[0]
        seen = self._enter(torch.cat([before, embeddings])[None])[:, 1:]
        out, after = self.ahead(seen, known)
        return self._leave(out)[0], (*(after if isinstance(after, tuple) else (after,)), embeddings[-1:])

    def _enter(self, embeddings: Tensor) -> Tensor:
        wanted = self.config.embedding_dim
        if wanted is not None and embeddings.shape[-1] != wanted:
            raise ValueError(
                f"embeddings have {embeddings.shape[-1]} numbers, the event model expects {wanted}"
            )
        seen: Tensor = self.enter((look(self.config.parts, embeddings) - self.mean) / self.std)
        return seen

    def _leave(self, out: Tensor) -> Tensor:
        logits: Tensor = self.leave(out)
        return logits


def _recurrent(config: EventModelConfig) -> nn.GRU | nn.LSTM | nn.RNN | None:
    cells: dict[str, type[nn.GRU] | type[nn.LSTM] | type[nn.RNN]] = {
        "gru": nn.GRU,
        "lstm": nn.LSTM,
        "rnn": nn.RNN,
    }
    kind = cells.get(config.cell)
    return None if kind is None else kind(config.width, config.hidden, batch_first=True)


def valid_steps(lengths: Tensor, num_steps: int) -> Tensor:
    """Mask (B, T), true for the first `lengths` (B,) steps."""
    return torch.arange(num_steps, device=lengths.device)[None] < lengths[:, None]


def turn(sequences: Tensor, lengths: Tensor) -> Tensor:
    """The valid steps of (B, T, F) in reverse order; the padding stays where it is."""
    steps = torch.arange(sequences.shape[1], device=lengths.device)[None]
    index = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)  # (B, T)
    return sequences.gather(1, index[..., None].expand_as(sequences))


def save_events(path: Path, model: EventModel) -> None:
    """Write an event model with its config."""
    save(path, model.state_dict(), model.config.to_json())


def load_events(path: Path) -> EventModel:
    """An event model in evaluation mode.

    Raises:
        CheckpointError: the file is missing, no event model, or its tensors do not fit its config.
    """
    tensors, values = load(path, "events")
    try:
        model = EventModel(EventModelConfig.from_json(values), tensors["mean"].shape[0])
        model.load_state_dict(tensors)
    except (TypeError, KeyError, RuntimeError, ValueError) as exc:
        raise CheckpointError(f"{path}: tensors and config do not fit: {exc}") from exc
    return model.eval()
