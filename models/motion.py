"""The motion model: a recurrent filter that carries one state per track and predicts the next box.

A box is seen as z = (centre x, centre y, log width, log height). The filter keeps a position and a velocity
per track, as a Kalman filter does, but a recurrent cell reads what happens (innovations, elapsed time, score)
and gives the gains, the damping of the velocity and the growth of the uncertainty:

    mean(dt) = position + scale * velocity * (1 - exp(-damping * dt)) / damping
    variance(dt) = noise + walk * dt + drift * dt**2

with scale = (h, h, 1, 1), h the box's height: velocities are in box heights per second and the model does not
know pixels. Both are closed in dt, so any gap is bridged in one step. After KalmanNet (Revach et al. 2022,
arXiv 2107.10043), with irregular steps and all noise learned. Inference is plain numpy, batched over tracks;
`models.training.motion` has the same formulas in torch, and a test holds the two together.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from models.cells import CELLS, Singles, sigmoid, step

Array = NDArray[np.float64]
Index = NDArray[np.intp] | NDArray[np.bool_]

WEIGHTS = Path(__file__).parent / "weights" / "motion.safetensors"
NUM_FEATURES = 18
HEADS = ("position_gain", "velocity_gain", "push", "damping", "noise", "walk", "drift")
LOG_NOISE = (-12.0, 2.0)  # natural logarithms of variances: noise, walk and drift lie within
MIN_STEP_S = 0.02
"""Seconds added to a step where an innovation becomes a velocity."""


@dataclass(frozen=True)
class MotionConfig:
    """Architecture of the model; stored with its weights."""

    cell: str = "gru"
    hidden: int = 48

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {self.cell!r}")
        if not 1 <= self.hidden <= 1024:
            raise ValueError(f"hidden must be 1 to 1024, got {self.hidden}")

    @property
    def state_size(self) -> int:
        """Numbers in the hidden state of a track; an LSTM has hidden and cell state."""
        return 2 * self.hidden if self.cell == "lstm" else self.hidden


@dataclass(frozen=True)
class MotionState:
    """States of N tracks after their last observations.

    For `Motion`, `head` holds damping, noise, walk and drift, (N, 4) each, behind one another. For
    `ConstantVelocity` it holds the covariances.
    """

    position: Array = field(repr=False)  # (N, 4) centre x, centre y in pixels, log width, log height
    velocity: Array = field(repr=False)  # (N, 4) heights/s, heights/s, 1/s, 1/s
    hidden: Singles = field(repr=False)  # (N, state_size)
    head: Array = field(repr=False)  # (N, 16)
    age: Array = field(repr=False)  # (N,) observations so far

    def __len__(self) -> int:
        return len(self.position)

    def take(self, index: Index) -> MotionState:
        """The states of some tracks, by position or by mask."""
        return MotionState(*(part[index] for part in self._parts()))

    def put(self, index: Index, other: MotionState) -> None:
        """Write the states of `other` to the places `index`, in place."""
        for mine, theirs in zip(self._parts(), other._parts(), strict=True):
            mine[index] = theirs

    def join(self, *others: MotionState) -> MotionState:
        """These tracks, then the others."""
        parts = zip(self._parts(), *(other._parts() for other in others), strict=True)
        return MotionState(*(np.concatenate(same) for same in parts))

    def warp(
        self, dx: float, dy: float, scale: float, rotation: float, centre: tuple[float, float]
    ) -> MotionState:
        """The states after the picture moved: turned and scaled about `centre`, then shifted."""
        if scale == 1 and rotation == 0:
            position = self.position.copy()
            position[:, :2] += (dx, dy)
            return MotionState(position, self.velocity, self.hidden, self.head, self.age)
        cos, sin = np.cos(rotation), np.sin(rotation)
        turn = np.array([[cos, sin], [-sin, cos]])  # for row vectors
        position, velocity = self.position.copy(), self.velocity.copy()
        position[:, :2] = (position[:, :2] - centre) @ turn * scale + centre + (dx, dy)
        position[:, 2:] += np.log(scale)
        velocity[:, :2] = velocity[:, :2] @ turn
        return replace(self, position=position, velocity=velocity)

    def _parts(self) -> tuple[NDArray[Any], ...]:
        return self.position, self.velocity, self.hidden, self.head, self.age


class MotionModel(Protocol):
    """What the tracker needs of a motion model."""

    def start(self, boxes: Array, scores: Array) -> MotionState:
        """States of new tracks; `boxes` as z, (N, 4); scores (N,)."""

    def predict(self, state: MotionState, dt_s: Array) -> tuple[Array, Array]:
        """Mean (N, 4) and variance (N, 4) of the boxes z, `dt_s` (N,) seconds after the last observations."""

    def update(self, state: MotionState, boxes: Array, scores: Array, dt_s: Array) -> MotionState:
        """States after observing `boxes`, (N, 4), `dt_s` seconds after the last observations."""


def to_z(xyxy: Array) -> Array:
    """Corners (N, 4) to (centre x, centre y, log width, log height)."""
    size = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 1e-3)
    return np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, np.log(size)], axis=1)


def to_xyxy(z: Array) -> Array:
    """(centre x, centre y, log width, log height), (N, 4), to corners."""
    half = np.exp(np.minimum(z[:, 2:], 12.0)) / 2
    return np.concatenate([z[:, :2] - half, z[:, :2] + half], axis=1)


class Motion:
    """The recurrent model; holds weights only, the states are the caller's."""

    def __init__(self, config: MotionConfig, tensors: dict[str, NDArray[np.float32]]) -> None:
        """Take over the weights.

        Raises:
            ValueError: a tensor is missing, unknown or of another shape than the config asks for.
        """
        shapes = tensor_shapes(config)
        if {k: v.shape for k, v in tensors.items()} != shapes:
            raise ValueError(f"motion weights do not fit {config}: expected {shapes}")
        if not all(np.isfinite(v).all() for v in tensors.values()):
            raise ValueError("motion weights are not finite")
        self.config = config
        self.tensors = tensors
        self._input, self._input_bias = tensors["input.weight"].T.copy(), tensors["input.bias"]
        self._hidden, self._hidden_bias = tensors["hidden.weight"].T.copy(), tensors["hidden.bias"]
        self._head, self._head_bias = tensors["head.weight"].T.copy(), tensors["head.bias"]

    def start(self, boxes: Array, scores: Array) -> MotionState:
        """States of new tracks, see `MotionModel.start`."""
        n = len(boxes)
        empty = MotionState(
            boxes.astype(np.float64), np.zeros((n, 4)), np.zeros((n, self.config.state_size), np.float32),
            np.zeros((n, 16)), np.zeros(n),
        )  # fmt: skip
        return self.update(empty, empty.position, scores, np.zeros(n))

    def predict(self, state: MotionState, dt_s: Array) -> tuple[Array, Array]:
        """Mean and variance of the next boxes, see `MotionModel.predict`."""
        move, variance = _closed_form(state, dt_s[:, None])
        scale = _scale(state.position)
        return state.position + scale * move, scale * scale * variance

    def update(self, state: MotionState, boxes: Array, scores: Array, dt_s: Array) -> MotionState:
        """States after an observation, see `MotionModel.update`."""
        dt = dt_s[:, None]
        scale = _scale(state.position)
        move, variance = _closed_form(state, dt)
        error = (boxes - state.position) / scale - move
        features = _features(state, error, variance, dt_s, scores, boxes)
        hidden = self._cell(features, state.hidden)
        out = (hidden[:, : self.config.hidden] @ self._head + self._head_bias).astype(np.float64)  # (N, 28)
        gains = sigmoid(out[:, :8])
        moved = move + gains[:, :4] * error
        velocity = state.velocity * np.exp(-state.head[:, :4] * dt)
        velocity += gains[:, 4:] * error / (dt + MIN_STEP_S) + 0.3 * np.tanh(out[:, 8:12])
        head = np.empty((len(out), 16))
        head[:, :4] = _softplus(out[:, 12:16])
        head[:, 4:] = np.exp(_within(out[:, 16:28], *LOG_NOISE))
        return MotionState(state.position + scale * moved, velocity, hidden, head, state.age + 1)

    def forecast(self, state: MotionState, horizon_s: float) -> tuple[Array, Array]:
        """Boxes (N, 4) as corners in pixels, and variances of z, `horizon_s` after the last observations."""
        mean, variance = self.predict(state, np.full(len(state), horizon_s))
        return to_xyxy(mean), variance

    def _cell(self, features: Singles, state: Singles) -> Singles:
        """One step of the cell; (N, features), (N, state) -> (N, state)."""
        given = features @ self._input + self._input_bias
        kept = state[:, : self.config.hidden] @ self._hidden + self._hidden_bias
        return step(self.config.cell, given, kept, state)


def _scale(position: Array) -> Array:
    scale = np.empty(position.shape)
    scale[:, :2] = np.exp(np.minimum(position[:, 3:], 12.0))
    scale[:, 2:] = 1.0
    return scale


def _closed_form(state: MotionState, dt: Array) -> tuple[Array, Array]:
    """Move and variance after `dt` (N, 1) seconds, in heights."""
    damping, noise = state.head[:, :4], state.head[:, 4:8]
    reach = -np.expm1(-damping * dt) / np.maximum(damping, 1e-6)
    variance = noise + dt * (state.head[:, 8:12] + dt * state.head[:, 12:16])
    return state.velocity * reach, variance


def _features(
    state: MotionState, error: Array, variance: Array, dt_s: Array, scores: Array, boxes: Array
) -> Singles:
    """(N, 18) inputs of the cell, all within a few units."""
    sigmas = error / np.sqrt(variance + 1e-6)
    x = np.empty((len(boxes), NUM_FEATURES), np.float32)
    x[:, 0:4] = sigmas / (1 + np.abs(sigmas) / 3)
    x[:, 4:8] = np.arcsinh(20 * error) / 3
    x[:, 8:12] = np.arcsinh(2 * state.velocity) / 2
    x[:, 12] = np.log(_within(dt_s, 0.01, 5.0)) / 2
    x[:, 13] = dt_s
    x[:, 14] = scores
    x[:, 15] = _within(boxes[:, 2] - boxes[:, 3], -2, 2)
    x[:, 16] = 1 / (1 + state.age)
    x[:, 17] = np.minimum(state.age, 20) / 20
    return x


def _within(x: Array, low: float, high: float) -> Array:
    """`np.clip`, several times faster for a few numbers."""
    return np.asarray(np.minimum(np.maximum(x, low), high))


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(0.0, x))


def tensor_shapes(config: MotionConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights."""
    gates, size, outputs = CELLS[config.cell] * config.hidden, config.hidden, 4 * len(HEADS)
    return {
        "input.weight": (gates, NUM_FEATURES), "input.bias": (gates,),
        "hidden.weight": (gates, size), "hidden.bias": (gates,),
        "head.weight": (outputs, size), "head.bias": (outputs,),
    }  # fmt: skip


@dataclass(frozen=True)
class ConstantVelocity:
    """The Kalman filter of constant velocity over the same z: the baseline, with the same interface.

    Standard deviations are relative to the box's height (positions) or plain (log sizes). The defaults are
    the most likely ones on simulated trajectories, see `models.training.motion.fit_constant_velocity`.
    """

    noise: tuple[float, float] = (0.024, 0.10)  # of a measured box: position, log size
    walk: tuple[float, float] = (1.28, 0.60)  # of acceleration, per second and root second
    first_speed: tuple[float, float] = (1.0, 0.05)  # of a new track's velocity, per second

    def start(self, boxes: Array, scores: Array) -> MotionState:
        """States of new tracks, see `MotionModel.start`."""
        n = len(boxes)
        covariance = np.zeros((n, 16))
        covariance[:, 0:4] = _twice(self.noise) ** 2
        covariance[:, 8:12] = _twice(self.first_speed) ** 2
        return MotionState(
            boxes.astype(np.float64), np.zeros((n, 4)), np.zeros((n, 0), np.float32), covariance, np.ones(n)
        )

    def predict(self, state: MotionState, dt_s: Array) -> tuple[Array, Array]:
        """Mean and variance of the next boxes, see `MotionModel.predict`."""
        scale = _scale(state.position)
        spread, _, _ = self._propagate(state, dt_s[:, None])
        mean = state.position + scale * state.velocity * dt_s[:, None]
        return mean, scale * scale * (spread + _twice(self.noise) ** 2)

    def update(self, state: MotionState, boxes: Array, scores: Array, dt_s: Array) -> MotionState:
        """States after an observation, see `MotionModel.update`."""
        scale, dt = _scale(state.position), dt_s[:, None]
        pp, pv, vv = self._propagate(state, dt)
        error = (boxes - state.position) / scale - state.velocity * dt
        total = pp + _twice(self.noise) ** 2
        position = state.position + scale * (state.velocity * dt + pp / total * error)
        covariance = np.concatenate(
            [pp * (1 - pp / total), pv * (1 - pp / total), vv - pv * pv / total, 0 * pp], 1
        )
        velocity = state.velocity + pv / total * error
        return MotionState(position, velocity, state.hidden, covariance, state.age + 1)

    def _propagate(self, state: MotionState, dt: Array) -> tuple[Array, Array, Array]:
        """Variance of position, covariance, variance of velocity after `dt`; white acceleration."""
        pp, pv, vv = state.head[:, 0:4], state.head[:, 4:8], state.head[:, 8:12]
        walk = _twice(self.walk) ** 2
        return (
            pp + dt * (2 * pv + dt * vv) + walk * dt**3 / 3,
            pv + dt * vv + walk * dt**2 / 2,
            vv + walk * dt,
        )


def _twice(pair: tuple[float, float]) -> Array:
    return np.repeat(np.array(pair), 2)


def box_nll(mean: Array, variance: Array, boxes: Array) -> Array:
    """(N,) negative log-likelihood of boxes z, positions in units of the observed height."""
    error = boxes - mean
    terms = 0.5 * (error * error / variance + np.log(2 * np.pi * variance))
    return np.asarray(terms.sum(axis=1) - 2 * boxes[:, 3])


def save_motion(motion: Motion, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write the weights as safetensors, the config as JSON in the metadata; `notes` are further metadata.

    Raises:
        ValueError: the file cannot be written.
    """
    metadata = {
        **(notes or {}),
        "kind": "motion",
        "config": json.dumps(asdict(motion.config), sort_keys=True),
    }
    try:
        save_file(motion.tensors, str(path), metadata=metadata)
    except (SafetensorError, OSError) as exc:
        raise ValueError(f"motion weights {path} cannot be written: {exc}") from exc


def load_motion(path: Path = WEIGHTS) -> Motion:
    """Read weights written by `save_motion`. Nothing is unpickled.

    Raises:
        ValueError: the file is missing, is not safetensors, or does not hold a motion model.
    """
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
    except (OSError, SafetensorError) as exc:
        raise ValueError(f"motion weights {path} cannot be read: {exc}") from exc
    if metadata.get("kind") != "motion":
        raise ValueError(f"{path} does not hold a motion model (kind {metadata.get('kind')!r})")
    try:
        config = MotionConfig(**json.loads(metadata["config"]))
    except (KeyError, TypeError, json.JSONDecodeError) as exc:
        raise ValueError(f"motion weights {path} have no valid config: {exc}") from exc
    return Motion(config, tensors)
