"""Training of the motion model on simulated trajectories, and its likelihood against a constant velocity."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from models.cells import CELLS
from models.motion import (
    HEADS,
    LOG_NOISE,
    MIN_STEP_S,
    NUM_FEATURES,
    ConstantVelocity,
    Motion,
    MotionConfig,
    MotionModel,
    MotionState,
    box_nll,
    save_motion,
)
from models.training.trajectories import Scene, sequences

Array = NDArray[np.float64]
Progress = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class MotionTraining:
    """Settings of a training run; the seed decides scenes, start and order."""

    model: MotionConfig = field(default_factory=MotionConfig)
    seed: int = 20
    num_scenes: int = 2000
    num_held_out: int = 100
    length: int = 40  # observations per trajectory
    batch_size: int = 256
    learning_rate: float = 3e-3
    max_steps: int = 2200
    max_cpu_seconds: float = 600.0  # a run that takes longer is cut
    far_weight: float = 0.3
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("num_scenes", "num_held_out", "length", "batch_size", "max_steps", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not self.max_cpu_seconds > 0:
            raise ValueError(f"max_cpu_seconds must be above 0, got {self.max_cpu_seconds}")


class MotionNet(nn.Module):
    """`models.motion.Motion` in torch, for gradients: same weights, same formulas, float32."""

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        gates = CELLS[config.cell] * config.hidden
        self.config = config
        self.input = nn.Linear(NUM_FEATURES, gates)
        self.hidden = nn.Linear(config.hidden, gates)
        self.head = nn.Linear(config.hidden, 4 * len(HEADS))
        nn.init.orthogonal_(self.hidden.weight)
        nn.init.zeros_(self.hidden.bias)
        nn.init.normal_(self.head.weight, std=0.02)
        first = torch.tensor([0.0, -1.5, 0.0, -2.0, -6.0, -6.0, -2.0])  # in the order of HEADS
        with torch.no_grad():
            self.head.bias.copy_(first.repeat_interleave(4))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Negative log-likelihoods per coordinate of the next and of later boxes.

        Args:
            rows: (B, L, 11) as `normalised` gives them, without NaN.

        Returns:
            Two of (B, L - 1, 4): of the next observation, and of the later one in columns 6 to 11; positions
            in heights of the observed box.
        """
        times, boxes, scores = rows[..., 0], rows[..., 1:5], rows[..., 5]
        later_times, later = rows[..., 6], rows[..., 7:]
        batch, length, _ = boxes.shape
        state = _Tensors.empty(boxes[:, 0], self.config.state_size)
        state = self.update(state, boxes[:, 0], scores[:, 0], torch.zeros(batch))
        near_terms, far_terms = [], []
        for i in range(1, length):
            far_terms.append(_terms(state, later[:, i - 1], later_times[:, i - 1] - times[:, i - 1]))
            dt = times[:, i] - times[:, i - 1]
            near_terms.append(_terms(state, boxes[:, i], dt))
            state = self.update(state, boxes[:, i], scores[:, i], dt)
        return torch.stack(near_terms, dim=1), torch.stack(far_terms, dim=1)

    def update(self, state: _Tensors, boxes: Tensor, scores: Tensor, dt_s: Tensor) -> _Tensors:
        """`Motion.update` with gradients."""
        dt = dt_s[:, None]
        scale, move, variance = state.closed_form(dt)
        error = (boxes - state.position) / scale - move
        sigmas = error / torch.sqrt(variance + 1e-6)
        features = torch.cat(
            [
                sigmas / (1 + sigmas.abs() / 3),
                torch.arcsinh(20 * error) / 3,
                torch.arcsinh(2 * state.velocity) / 2,
                torch.log(dt.clamp(0.01, 5.0)) / 2,
                dt,
                scores[:, None],
                (boxes[:, 2:3] - boxes[:, 3:4]).clamp(-2, 2),
                torch.full_like(dt, 1 / (1 + state.age)),
                torch.full_like(dt, min(state.age, 20) / 20),
            ],
            dim=1,
        )
        hidden = self._cell(features, state.hidden)
        out = self.head(hidden[:, : self.config.hidden])
        gains = torch.sigmoid(out[:, :8])
        velocity = state.velocity * torch.exp(-state.damping * dt)
        velocity = velocity + gains[:, 4:] * error / (dt + MIN_STEP_S) + 0.3 * torch.tanh(out[:, 8:12])
        damping = nn.functional.softplus(out[:, 12:16])
        noise = torch.exp(out[:, 16:28].clamp(*LOG_NOISE))
        position = state.position + scale * (move + gains[:, :4] * error)
        return _Tensors(position, velocity, hidden, damping, noise, state.age + 1)

    def _cell(self, features: Tensor, state: Tensor) -> Tensor:
        size = self.config.hidden
        hidden = state[:, :size]
        given, kept = self.input(features), self.hidden(hidden)
        if self.config.cell == "gru":
            reset, keep = torch.sigmoid(given[:, : 2 * size] + kept[:, : 2 * size]).chunk(2, dim=1)
            new = torch.tanh(given[:, 2 * size :] + reset * kept[:, 2 * size :])
            return new + keep * (hidden - new)
        if self.config.cell == "rnn":
            return torch.tanh(given + kept)
        into, forget, change, out = (given + kept).chunk(4, dim=1)
        cell = torch.sigmoid(forget) * state[:, size:] + torch.sigmoid(into) * torch.tanh(change)
        return torch.cat([torch.sigmoid(out) * torch.tanh(cell), cell], dim=1)

    def export(self) -> Motion:
        """The trained model for inference."""
        return Motion(self.config, {k: v.detach().numpy().copy() for k, v in self.state_dict().items()})


@dataclass(frozen=True)
class _Tensors:
    """`MotionState` with gradients; all tracks of one age."""

    position: Tensor  # (B, 4)
    velocity: Tensor  # (B, 4)
    hidden: Tensor  # (B, S)
    damping: Tensor  # (B, 4)
    noise: Tensor  # (B, 12) noise, walk, drift
    age: int

    @staticmethod
    def empty(boxes: Tensor, size: int) -> _Tensors:
        n = len(boxes)
        return _Tensors(
            boxes, torch.zeros(n, 4), torch.zeros(n, size), torch.zeros(n, 4), torch.zeros(n, 12), 0
        )

    def closed_form(self, dt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scale, move and variance after `dt` (B, 1) seconds."""
        height = torch.exp(self.position[:, 3:].clamp(max=12.0))
        scale = torch.cat([height, height, torch.ones_like(height), torch.ones_like(height)], dim=1)
        reach = -torch.expm1(-self.damping * dt) / self.damping.clamp(min=1e-6)
        noise, walk, drift = self.noise.chunk(3, dim=1)
        return scale, self.velocity * reach, noise + dt * (walk + dt * drift)


def _terms(state: _Tensors, boxes: Tensor, dt_s: Tensor) -> Tensor:
    """(B, 4) negative log-likelihoods, positions in units of the observed box's height."""
    scale, move, variance = state.closed_form(dt_s[:, None])
    error = (boxes - state.position) / scale - move
    units = torch.log(scale)
    units = torch.cat([units[:, :2] - boxes[:, 3:], units[:, 2:]], dim=1)
    variance = variance + 1e-8
    terms: Tensor = 0.5 * (error * error / variance + torch.log(2 * torch.pi * variance)) + units
    return terms


def train_motion(
    settings: MotionTraining,
    recorded: Sequence[Scene] = (),
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Motion, dict[str, float]]:
    """Train on simulated trajectories; equal settings give equal weights unless `max_cpu_seconds` cuts it.

    Args:
        settings: model, data and limits.
        recorded: true tracks of the user's own cameras, that half of the training is then made of.
        out: where to write the weights, if anywhere.
        progress: called every 50 steps with step, loss and CPU seconds.

    Returns:
        The model, and its metrics: mean negative log-likelihoods of the next box on held-out scenes, in nats
        per box, of the model (`nll`) and of the Kalman filter (`nll_kalman`).

    Raises:
        ValueError: `max_cpu_seconds` were over before the first step; nothing is written.
    """
    began = time.process_time()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    held_out = sequences(rng, settings.num_held_out, settings.length)
    seen = sequences(rng, settings.num_scenes, settings.length, recorded=recorded)
    data = torch.from_numpy(normalised(seen)).float()
    net = MotionNet(settings.model)
    made = time.process_time() - began
    steps = _fit(net, data, settings, rng, began, progress)
    if not steps:
        raise ValueError(
            f"nothing was learned: making the scenes took {made:.1f} s of CPU time, and there were "
            f"{settings.max_cpu_seconds:g} s for all; give more --minutes"
        )
    motion = net.eval().export()
    metrics = {
        "nll": likelihood(motion, held_out),
        "nll_kalman": likelihood(ConstantVelocity(), held_out),
        "steps": float(steps),
        "trajectories": float(len(data)),
        "cpu_seconds": time.process_time() - began,
    }
    if out is not None:
        notes = {"training": json.dumps(asdict(settings)), "metrics": json.dumps(metrics)}
        save_motion(motion, out, notes)
    return motion, metrics


def _fit(
    net: MotionNet, data: Tensor, settings: MotionTraining, rng: np.random.Generator, began: float,
    progress: Progress | None,
) -> int:  # fmt: skip
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    losses: list[float] = []
    for step in range(settings.max_steps):
        if time.process_time() - began >= settings.max_cpu_seconds:
            return step
        done = step / settings.max_steps
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * min(1, (step + 1) / 50) * 0.5 * (1 + np.cos(np.pi * done))
        batch = data[torch.from_numpy(rng.integers(0, len(data), settings.batch_size))]
        loss = _loss(net, batch, settings.far_weight)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if progress is not None and (step + 1) % 50 == 0:
            seconds = time.process_time() - began
            progress({"step": step + 1, "loss": float(np.mean(losses[-50:])), "cpu_seconds": seconds})
    return settings.max_steps


def _loss(net: MotionNet, batch: Tensor, far_weight: float) -> Tensor:
    """Mean over observed steps; a coordinate counts at most 20 nats.

    Unknown rows become the trajectory's last one: finite numbers, steps of 0 s, masked in the sum.
    """
    known, known_later = ~torch.isnan(batch[..., 0]), ~torch.isnan(batch[..., 6])
    last = batch[torch.arange(len(batch)), known.sum(dim=1) - 1]  # (B, 11)
    now = torch.where(known[..., None], batch[..., :6], last[:, None, :6])
    later = torch.where(known_later[..., None], batch[..., 6:], now[..., :5])
    near_terms, far_terms = net(torch.cat([now, later], dim=2))
    near_mask, far_mask = known[:, 1:, None].float(), known_later[:, :-1, None].float()
    near = (near_terms.clamp(max=20.0) * near_mask).sum() / near_mask.sum()
    far = (far_terms.clamp(max=20.0) * far_mask).sum() / far_mask.sum().clamp(min=1)
    loss: Tensor = near + far_weight * far
    return loss


def normalised(rows: Array) -> Array:
    """Rows of `sequences` with their boxes as z: t, z, score, later t, later z; (N, L, 11), NaN stays."""
    return np.concatenate([rows[..., :1], _z(rows[..., 1:5]), rows[..., 5:7], _z(rows[..., 7:])], axis=-1)


def _z(boxes: Array) -> Array:
    size = np.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
    return np.concatenate([(boxes[..., 2:] + boxes[..., :2]) / 2, np.log(size)], axis=-1)


def likelihood(model: MotionModel, rows: Array) -> float:
    """Mean negative log-likelihood of the next box, nats per box, positions in observed heights.

    `rows` is what `sequences` gives; the first two predictions of a trajectory are not counted, since no
    model knows a velocity then.
    """
    total, count = 0.0, 0
    for terms in _walk_likelihood(model, normalised(rows), 2):
        total, count = total + float(terms.sum()), count + len(terms)
    return total / max(count, 1)


def _walk_likelihood(model: MotionModel, rows: Array, skip: int) -> list[Array]:
    out = []
    state: MotionState = model.start(rows[:, 0, 1:5], rows[:, 0, 5])
    for i in range(1, rows.shape[1]):
        keep = ~np.isnan(rows[:, i, 0])
        rows, state = rows[keep], state.take(keep)
        if not len(rows):
            break
        dt = rows[:, i, 0] - rows[:, i - 1, 0]
        if i > skip:
            out.append(box_nll(*model.predict(state, dt), rows[:, i, 1:5]))
        state = model.update(state, rows[:, i, 1:5], rows[:, i, 5], dt)
    return out


def fit_constant_velocity(rows: Array) -> ConstantVelocity:
    """The Kalman filter whose six noise levels are most likely on `rows` (as `normalised` gives them)."""

    def build(logs: Array) -> ConstantVelocity:
        a, b, c, d, e, f = np.exp(np.clip(logs, -8, 4)).tolist()
        return ConstantVelocity((a, b), (c, d), (e, f))

    def cost(logs: Array) -> float:
        return float(np.concatenate(_walk_likelihood(build(logs), rows, 1)).clip(max=60.0).mean())

    default = ConstantVelocity()
    first = np.log([*default.noise, *default.walk, *default.first_speed])
    found = minimize(cost, first, method="Nelder-Mead", options={"maxfev": 150, "xatol": 0.02, "fatol": 1e-3})
    return build(found.x)
