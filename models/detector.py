"""The detector: anchor-free heads on the frame encoder; `models.boxes` makes boxes of their outputs.

Per cell of strides 8, 16 and 32: class scores, the four distances from the cell's centre to the sides of the
box as distributions over bins (Generalized Focal Loss, arXiv 2006.04388), and an appearance embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.boxes import STRIDES
from models.encoder import FAST_BLOCKS, FrameEncoder, Separable, normalised

CLASSES = ("person", "cycle", "car", "bus", "truck")


@dataclass(frozen=True)
class DetectorConfig:
    """What a checkpoint needs to build its network again."""

    classes: tuple[str, ...] = CLASSES
    channels: int = 96
    bins: int = 10
    appearance: int = 32
    embedding: int = 64
    blocks: tuple[int, ...] = FAST_BLOCKS  # of the backbone's stages
    towers: tuple[int, ...] = (1, 2, 2)  # separable convolutions of the heads at strides 8, 16, 32
    input_width: int = 512
    input_height: int = 288

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("a detector needs at least one class")
        if len(self.towers) != len(STRIDES):
            raise ValueError(f"towers {self.towers}: one depth for each of the strides {STRIDES}")
        if self.input_width % 32 or self.input_height % 32:
            raise ValueError(f"input {self.input_width}x{self.input_height}: not multiples of 32")

    def to_json(self) -> dict[str, object]:
        return {"kind": "detector", **asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DetectorConfig:
        """The inverse of `to_json`.

        Raises:
            TypeError, ValueError: a key or value that no detector has.
        """
        ready: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "kind"
        }
        return cls(**ready)


class RawOutput(NamedTuple):
    """Outputs over all cells, levels one after the other, row by row; A = sum of H/s * W/s."""

    logits: Tensor  # (N, A, classes), before the sigmoid
    sides: Tensor  # (N, A, 4, bins), before the softmax: left, top, right, bottom
    appearance: Tensor  # (N, A, E), unit length
    embedding: Tensor  # (N, D), unit length


class Head(nn.Module):
    """Heads of one level: one tower of `depth` separable convolutions, and a layer for each output."""

    def __init__(self, config: DetectorConfig, depth: int) -> None:
        super().__init__()
        c = config.channels
        self.tower = nn.Sequential(*(Separable(c, c) for _ in range(depth)))
        self.logits = nn.Conv2d(c, len(config.classes), 1)
        self.sides = nn.Conv2d(c, 4 * config.bins, 1)
        self.appearance = nn.Conv2d(c, config.appearance, 1)
        nn.init.constant_(self.logits.bias, -4.6)  # type: ignore[arg-type]  # 1% of cells hold an object

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.tower(x)
        return self.logits(x), self.sides(x), self.appearance(x)


class Detector(nn.Module):
    """Encoder and heads."""

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config or DetectorConfig()
        self.encoder = FrameEncoder(self.config.channels, self.config.embedding, self.config.blocks)
        self.heads = nn.ModuleList(Head(self.config, depth) for depth in self.config.towers)

    def cells(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `forward` of normalised images, but sides (N, A, 4 * bins), looks (N, A, E) of any length."""
        maps, embedding = self.encoder(images)
        parts = [head(x) for head, x in zip(self.heads, maps, strict=True)]
        # Channels last, as they lie in memory: nothing has to be turned round.
        logits, sides, appearance = (
            torch.cat([p[i].permute(0, 2, 3, 1).flatten(1, 2) for p in parts], dim=1) for i in range(3)
        )  # each (N, A, channels)
        return logits, sides, appearance, embedding

    def forward(self, images: Tensor) -> RawOutput:
        """`images` (N, 3, H, W), RGB in [0, 255], H and W multiples of 32."""
        logits, sides, appearance, embedding = self.cells(normalised(images))
        n, cells, _ = logits.shape
        return RawOutput(
            logits,
            sides.reshape(n, cells, 4, self.config.bins),
            F.normalize(appearance, dim=2),
            embedding,
        )


def cell_centres(height: int, width: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Centres (A, 2) in input pixels and strides (A,) of all cells, in the order of `RawOutput`."""
    centres, strides = [], []
    for stride in STRIDES:
        ys = (torch.arange(height // stride, device=device) + 0.5) * stride
        xs = (torch.arange(width // stride, device=device) + 0.5) * stride
        grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).reshape(-1, 2)
        centres.append(grid)
        strides.append(torch.full((len(grid),), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)


def decode_boxes(sides: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Boxes (N, A, 4), xyxy in input pixels, from the distributions `sides` (N, A, 4, bins)."""
    bins = torch.arange(sides.shape[-1], dtype=sides.dtype, device=sides.device)
    distance = sides.softmax(dim=-1) @ bins * strides[:, None]  # (N, A, 4)
    low, high = distance[..., :2], distance[..., 2:]
    return torch.cat([centres - low, centres + high], dim=-1)


class Exported(nn.Module):
    """The network as it is run, without what is cheaper done for the few cells that count.

    `forward` takes (N, H, W, 3) uint8 RGB and returns scores (N, A, classes) in [0, 1], sides before the
    softmax (N, A, 4 * bins), appearance (N, A, E) of any length and the frame embedding (N, D).
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dtype = next(self.detector.parameters()).dtype
        # Scaled before the axes are named anew: between the two OpenVINO would turn the pictures round twice.
        images = normalised(pictures.to(dtype)).permute(0, 3, 1, 2)  # (N, 3, H, W), channels last in memory
        logits, sides, appearance, embedding = self.detector.cells(images)
        # In float64, since the last elements of a float32 tensor are rounded differently from the others.
        scores = logits.double().sigmoid().float()
        return scores, sides.float(), appearance.float(), embedding.float()
