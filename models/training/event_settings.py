"""How an event model is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainSettings:
    """How an event model is trained.

    `max_epochs` rounds over the clips, ended when the held-out loss has not fallen for `patience` rounds.
    `held_out` is the share of groups kept for that. `frame_weight` is the share of the loss that looks at
    single frames instead of the clip's mean. `joined` is the weight, beside it, of the frames' loss on
    windows cut from clips joined at random, which teach where an event begins and ends. `speed` and `gain`
    are factors, drawn up to both ways; `crop` is the least share of a clip that is kept.
    """

    max_epochs: int = 60
    patience: int = 12
    held_out: float = 0.2
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    frame_weight: float = 0.3
    joined: float = 1.0
    speed: float = 1.25
    gain: float = 1.3
    crop: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"max_epochs and batch_size must be at least 1, got {self.max_epochs}, {self.batch_size}"
            )
        if not 0 < self.crop <= 1 or self.speed < 1 or self.gain < 1:
            raise ValueError(
                f"crop is in 0..1, speed and gain are at least 1, got {self.crop}, {self.speed}, {self.gain}"
            )
        if self.joined < 0:
            raise ValueError(f"joined is at least 0, got {self.joined}")
