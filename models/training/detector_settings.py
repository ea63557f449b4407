"""What a training of the detector is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.precision import Precision
from models.training.augment import AugmentSettings
from models.training.detector_loss import LossWeights


@dataclass(frozen=True)
class TrainSettings:
    """One stretch of training."""

    steps: int
    batch: int = 16
    pairs: int = 4  # views of a batch that show again the image of another view
    learning_rate: float = 2e-3
    backbone_rate: float = 0.3  # the backbone's learning rate, relative
    warmup: int = 200
    weight_decay: float = 0.02
    ema: float = 0.998
    frozen_stages: int = 2  # stem and first stages that keep their weights
    frozen_norm: bool = True  # the backbone's batch norms keep their statistics
    seed: int = 0
    precision: Precision = "float32"  # bfloat16: of the convolutions; weights and losses stay float32
    checkpoint_every: int = 100
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    loss: LossWeights = field(default_factory=LossWeights)
