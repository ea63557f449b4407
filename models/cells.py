"""One step of a recurrent cell in NumPy, as torch computes it, so that models trained there run here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]

CELLS = {"gru": 3, "lstm": 4, "rnn": 1}
"""Kinds of recurrent cell, with the number of their gates."""


def step(cell: str, given: Singles, kept: Singles, state: Singles) -> Singles:
    """The next state, (..., state).

    Args:
        cell: one of `CELLS`.
        given: what the input gives to the gates, with its bias, (..., gates * hidden), in torch's order.
        kept: the same of the hidden state.
        state: the hidden state, (..., hidden); of an LSTM hidden and cell state behind one another.
    """
    size = given.shape[-1] // CELLS[cell]
    hidden = state[..., :size]
    if cell == "gru":
        gates = sigmoid(given[..., : 2 * size] + kept[..., : 2 * size])
        new = np.tanh(given[..., 2 * size :] + gates[..., :size] * kept[..., 2 * size :])
        return np.asarray(new + gates[..., size:] * (hidden - new))
    total = given + kept
    if cell == "rnn":
        return np.asarray(np.tanh(total))
    gates = sigmoid(total)
    inner = gates[..., size : 2 * size] * state[..., size:]
    inner += gates[..., :size] * np.tanh(total[..., 2 * size : 3 * size])
    return np.concatenate([gates[..., 3 * size :] * np.tanh(inner), inner], axis=-1)


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    """The logistic function, by a formula that overflows nowhere."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
