"""The event model in torch, for training: frame embeddings of one video in, a score per frame and label out.

`models.event_network` is what it runs by; a test holds the two together.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from models.checkpoint import CheckpointError, load, save
from models.event_config import EventModelConfig
from models.event_network import EventNetwork, inputs


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
        seen = self._look(embeddings)[valid_steps(lengths, embeddings.shape[1])]  # (N, F)
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

    def _look(self, embeddings: Tensor) -> Tensor:
        """What `inputs` gives; embeddings are data, so no gradient is lost."""
        seen = inputs(self.config, embeddings.numpy(force=True))
        return torch.from_numpy(seen).to(embeddings.device)

    def _enter(self, embeddings: Tensor) -> Tensor:
        seen: Tensor = self.enter((self._look(embeddings) - self.mean) / self.std)
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


def network_of(model: EventModel) -> EventNetwork:
    """What runs a trained model; later training does not change it."""
    tensors = {name: tensor.numpy(force=True).copy() for name, tensor in model.state_dict().items()}
    return EventNetwork(model.config, tensors)


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
