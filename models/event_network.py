"""Event models at work, in NumPy: frame embeddings of one video in, logits per frame and label out.

Training is torch (`models/temporal.py`), which takes a second to import; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.cells import CELLS, step
from models.event_config import (
    GRID_CHANNELS,
    GRID_COLUMNS,
    GRID_ROWS,
    GRID_SIZE,
    EventModelConfig,
    Floats,
    Part,
)
from models.files import CheckpointError, read_checkpoint

State = tuple[Floats, Floats]
"""Of a causal model: the cell's, (1, 1, state), and the last frame, (1, D), to which the next is compared."""

Lengths = NDArray[np.int64]

_TOP_CELLS = (1, 3, 6, 12, 24, 48)
_GAINS = np.array((64.0, 1000.0), np.float32)
"""Before the logarithm: 1 is then slow motion, and a grey difference of the size of sensor noise."""

_TOP_CHANGES = (1, 3, 6, 12, 24, 64)
_CHANGE_GAIN = 20.0
"""The CNN's vector has unit length and 64 numbers; from frame to frame they change by 0.01."""

_CUT = 0.5
"""How far the CNN's vector moves where one shot ends and another begins. Within the clips of
`shared/data/fights/train` 999 of 1,000 steps are below 0.48; from the end of a clip of one source to the
beginning of one of another 99 of 100 are above 0.51. All weights of the CNN give vectors of unit length."""


def look(parts: tuple[Part, ...], embeddings: Floats) -> Floats:
    """What a model sees of embeddings, before standardisation: (..., T, D) -> (..., T, F).

    Raises:
        ValueError: the embeddings lack a part, see `Part.cut`.
    """
    return np.concatenate([_view(part, part.cut(embeddings)) for part in parts], axis=-1)


def inputs(config: EventModelConfig, embeddings: Floats) -> Floats:
    """What a model of this config sees of embeddings, see `look`.

    Raises:
        ValueError: the embeddings are not of the length that the model expects, or lack a part.
    """
    wanted, given = config.embedding_dim, embeddings.shape[-1]
    if wanted is not None and given != wanted:
        raise ValueError(f"embeddings have {given} numbers, the event model expects {wanted}")
    return look(config.parts, embeddings)


def cuts(embeddings: Floats) -> NDArray[np.bool_]:
    """Between which neighbours of (T, D) one shot ends and another begins, (T - 1,).

    Known by the CNN's numbers: of embeddings that are motion grids alone it cannot be told.
    """
    moved = np.diff(embeddings[:, :-GRID_SIZE], axis=0)
    return np.asarray(np.linalg.norm(moved, axis=1) > _CUT)


def _view(part: Part, values: Floats) -> Floats:
    if part.view == "plain":
        return values
    if part.view == "changes":
        changes = np.zeros_like(values)  # of the first frame: none
        np.abs(values[..., 1:, :] - values[..., :-1, :], out=changes[..., 1:, :])
        return _tops(np.log1p(_CHANGE_GAIN * changes), _TOP_CHANGES)[0]  # (..., T, 6)
    cells = values.reshape(*values.shape[:-1], GRID_ROWS * GRID_COLUMNS, GRID_CHANNELS)  # (..., T, 48, 2)
    cells = np.log1p(np.maximum(cells, 0) * _GAINS)
    if part.view == "grid":
        return cells.reshape(values.shape)
    tops, ordered = _tops(np.ascontiguousarray(cells.swapaxes(-1, -2)), _TOP_CELLS)  # (..., T, 2, 6)
    both = np.concatenate([tops, ordered.std(axis=-1, ddof=1, keepdims=True)], axis=-1)
    return both.swapaxes(-1, -2).reshape(*values.shape[:-1], -1)  # (..., T, 7 * 2)


def _tops(values: Floats, counts: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Means of the greatest of (..., N), (..., counts), and all of them in rising order."""
    ordered = np.sort(values, axis=-1)
    return np.stack([ordered[..., -n:].mean(axis=-1) for n in counts], axis=-1), ordered


def tensor_shapes(config: EventModelConfig, num_inputs: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights; `num_inputs` is what `look` gives for these embeddings."""
    ways = _ways(config)
    size = config.hidden * len(ways) if ways else config.width
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (num_inputs,), "std": (num_inputs,),
        "enter.0.weight": (config.width, num_inputs), "enter.0.bias": (config.width,),
        "leave.1.weight": (len(config.labels), size), "leave.1.bias": (len(config.labels),),
    }  # fmt: skip
    for way in ways:
        gates = CELLS[config.cell] * config.hidden
        shapes |= {
            f"{way}.weight_ih_l0": (gates, config.width), f"{way}.bias_ih_l0": (gates,),
            f"{way}.weight_hh_l0": (gates, config.hidden), f"{way}.bias_hh_l0": (gates,),
        }  # fmt: skip
    return shapes


def _ways(config: EventModelConfig) -> tuple[str, ...]:
    """Recurrent layers by name: with time, and against it."""
    if config.cell == "mean":
        return ()
    return ("ahead",) if config.causal else ("ahead", "back")


class EventNetwork:
    """A trained event model; holds weights only, the state of a causal one is the caller's."""

    def __init__(self, config: EventModelConfig, tensors: Mapping[str, Floats]) -> None:
        """Take over the weights, by the names that they have in torch.

        Raises:
            ValueError: a tensor is missing, unknown, of another shape than the config asks for, or not
                finite.
        """
        shapes = tensor_shapes(config, tensors["mean"].size if "mean" in tensors else 0)
        found = {name: tensor.shape for name, tensor in tensors.items()}
        if wrong := sorted(name for name in shapes | found if shapes.get(name) != found.get(name)):
            told = (f"{n} is {found.get(n, 'missing')}, expected {shapes.get(n, 'none')}" for n in wrong)
            raise ValueError(f"event weights: {', '.join(told)}")
        if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("event weights are not finite")
        self.config = config
        self._mean, self._std = tensors["mean"], tensors["std"]
        self._enter_weight, self._enter_bias = tensors["enter.0.weight"].T.copy(), tensors["enter.0.bias"]
        self._leave_weight, self._leave_bias = tensors["leave.1.weight"].T.copy(), tensors["leave.1.bias"]
        ways = _ways(config)
        self._num_ways = len(ways)
        if ways:
            # Both ways go side by side, in one product each: (ways, inputs, gates) and (ways, 1, gates).
            self._input, self._hidden = (
                np.stack([tensors[f"{way}.weight_{name}_l0"].T for way in ways]) for name in ("ih", "hh")
            )
            self._input_bias, self._hidden_bias = (
                np.stack([tensors[f"{way}.bias_{name}_l0"][None] for way in ways]) for name in ("ih", "hh")
            )

    def logits(self, embeddings: Floats, lengths: Lengths) -> Floats:
        """Logits (B, T, labels) of padded sequences (B, T, D), of which the first (B,) steps are valid.

        What stands in the padding has no influence on valid steps.

        Raises:
            ValueError: the embeddings are not those of this model.
        """
        seen = self._enter(embeddings)  # (B, T, width)
        count, num_steps, _ = seen.shape
        steps, ends = np.arange(num_steps)[None], np.asarray(lengths)[:, None]
        if self.config.cell == "mean":
            total = seen.sum(axis=1, where=(steps < ends)[..., None])  # (B, width)
            mean = total / np.maximum(ends, 1).astype(np.float32)
            return np.repeat(self._leave(mean)[:, None], num_steps, axis=1)
        seen = seen.swapaxes(0, 1)  # (T, B, width)
        if self.config.causal:
            out = self._recur(seen[None], self._begin(count))[0][0]
        else:
            # Valid steps in reverse order, the padding where it is: (T, B, 1).
            turn = np.where(steps < ends, ends - 1 - steps, steps).T[..., None]
            both = np.stack([seen, np.take_along_axis(seen, turn, axis=0)])
            ahead, back = self._recur(both, self._begin(count))[0]
            out = np.concatenate([ahead, np.take_along_axis(back, turn, axis=0)], axis=-1)
        return self._leave(out).swapaxes(0, 1)

    def advance(self, embeddings: Floats, state: State | None) -> tuple[Floats, State]:
        """The next (T, D) frames of one video: logits (T, labels) and the state after them.

        Raises:
            ValueError: the model is not causal, or the embeddings are not those of this model.
        """
        if not self.config.causal:
            raise ValueError("only a causal model can be advanced")
        cell, before = (self._begin(1), embeddings[:1]) if state is None else state
        seen = self._enter(np.concatenate([before, embeddings]))[1:]
        out, cell = self._recur(seen[None, :, None], cell)
        return self._leave(out[0, :, 0]), (cell, embeddings[-1:].copy())

    def _begin(self, count: int) -> Floats:
        size = self.config.hidden * (2 if self.config.cell == "lstm" else 1)
        return np.zeros((self._num_ways, count, size), np.float32)

    def _recur(self, given: Floats, state: Floats) -> tuple[Floats, Floats]:
        """Outputs (ways, T, B, hidden) for (ways, T, B, width), and the state (ways, B, state) after them."""
        ways, num_steps, count, _ = given.shape
        size = self.config.hidden
        # A product per step: over one of all, BLAS would wake its threads, which costs more than it gains.
        gates = given @ self._input[:, None] + self._input_bias[:, None]  # (ways, T, B, gates)
        out = np.empty((ways, num_steps, count, size), np.float32)
        for n in range(num_steps):
            kept = state[..., :size] @ self._hidden + self._hidden_bias
            state = step(self.config.cell, gates[:, n], kept, state)
            out[:, n] = state[..., :size]
        return out, state

    def _enter(self, embeddings: Floats) -> Floats:
        seen = inputs(self.config, embeddings)
        if seen.shape[-1] != len(self._mean):
            raise ValueError(
                f"embeddings give {seen.shape[-1]} inputs, the event model has {len(self._mean)}"
            )
        entered = (seen - self._mean) / self._std @ self._enter_weight + self._enter_bias
        return np.maximum(entered, 0, out=entered)

    def _leave(self, out: Floats) -> Floats:
        logits: Floats = out @ self._leave_weight + self._leave_bias
        return logits


def load_event_network(path: Path) -> EventNetwork:
    """An event model from a file of `models.temporal.save_events`.

    Raises:
        CheckpointError: the file is missing, no event model, or its tensors do not fit its config.
    """
    tensors, values = read_checkpoint(path, "events", "np")
    try:
        floats = {name: tensor.astype(np.float32, copy=False) for name, tensor in tensors.items()}
        return EventNetwork(EventModelConfig.from_json(values), floats)
    except (TypeError, KeyError, ValueError) as exc:
        raise CheckpointError(f"{path}: tensors and config do not fit: {exc}") from exc
