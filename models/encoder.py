"""The frame encoder: an EfficientNet-Lite0 backbone and a light neck to stride 8.

The backbone follows the published layer table of EfficientNet-Lite0 (Tan and Le, EfficientNet, arXiv
1905.11946, in the Lite variant: ReLU6 everywhere, no squeeze-and-excitation), with TensorFlow's SAME padding,
so that ImageNet weights published for it fit. Input is RGB, uint8 in [0, 255]; the network itself normalises.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import gt
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.boxes import STRIDES

INPUT_MEAN = 127.0
INPUT_SCALE = 128.0


class Stage(NamedTuple):
    expansion: int
    kernel: int
    stride: int
    channels: int
    blocks: int


LITE0_STEM = 32
LITE0 = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
LITE0_BLOCKS = tuple(stage.blocks for stage in LITE0)
FAST_BLOCKS = (1, 2, 2, 3, 2, 2, 0)
"""Blocks kept of each stage: without the last ones of strides 16 and 32, a fifth of the time is saved."""


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


class SameConv(nn.Module):
    """Convolution with TensorFlow's SAME padding for even inputs, then batch norm and, if `act`, ReLU6.

    At stride 2 an even input is padded by one more pixel at the right and bottom than at the left and top.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        total = kernel - stride
        self.pad = (total // 2, total - total // 2) * 2 if stride == 2 else None
        padding = 0 if stride == 2 else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = _norm(outputs)
        self.act = act
        # Forward and backward take longer in bfloat16 than in float32 on CPUs; other convolutions gain.
        self.slow_in_bfloat16 = groups > 1 and (kernel == 5 or stride == 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.pad is not None:
            x = F.pad(x, self.pad)
        x = self.bn(self._convolve(x))
        return F.relu6(x) if self.act else x

    def _convolve(self, x: Tensor) -> Tensor:
        if self.slow_in_bfloat16 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self.conv(x.float()).to(x.dtype)  # type: ignore[no-any-return]
        return self.conv(x)  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise, project 1x1; the input is added where shapes agree (MBConv without SE)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [SameConv(inputs, hidden, 1)] if expansion > 1 else []
        layers.append(SameConv(hidden, hidden, kernel, stride, groups=hidden))
        layers.append(SameConv(hidden, outputs, 1, act=False))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class Backbone(nn.Module):
    """EfficientNet-Lite0 without its classifier, and with only the first `blocks` of each stage.

    `forward` takes (N, 3, H, W), normalised, H and W multiples of 32, and returns the maps at strides
    8, 16 and 32 with `channels` channels.
    """

    def __init__(self, blocks: tuple[int, ...] = FAST_BLOCKS) -> None:
        super().__init__()
        if len(blocks) != len(LITE0) or min(blocks[:-1]) < 1 or any(map(gt, blocks, LITE0_BLOCKS)):
            raise ValueError(f"blocks {blocks}: one number per stage, at most {LITE0_BLOCKS}")
        self.blocks = blocks
        self.taps = (2, 4, 6 if blocks[6] else 5)  # stages whose outputs are taken: strides 8, 16, 32
        self.channels = tuple(LITE0[tap].channels for tap in self.taps)
        self.stem = SameConv(3, LITE0_STEM, 3, 2)
        stages, inputs = [], LITE0_STEM
        for stage, count in zip(LITE0, blocks, strict=True):
            layers = []
            for index in range(count):
                stride = stage.stride if index == 0 else 1
                layers.append(InvertedResidual(inputs, stage.channels, stage.kernel, stride, stage.expansion))
                inputs = stage.channels
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.taps:
                maps.append(x)
        return maps


def load_imagenet(backbone: Backbone, weights: Mapping[str, Tensor]) -> None:
    """Fill the backbone from a published EfficientNet-Lite0 state dict.

    The published names differ, the order of layers does not: stem, then blocks, each convolution followed by
    its batch norm. The classifier's entries (`_conv_head`, `_bn1`, `_fc`) are left out, and the blocks that
    the backbone does without.

    Raises:
        ValueError: a layer has another shape, or the number of layers differs.
    """
    theirs = [v for k, v in weights.items() if not k.startswith(("_conv_head", "_bn1.", "_fc"))]
    whole = Backbone(LITE0_BLOCKS).state_dict()
    if len(theirs) != len(whole):
        raise ValueError(f"{len(theirs)} tensors, EfficientNet-Lite0's backbone has {len(whole)}")
    published = dict(zip(whole, theirs, strict=True))
    for name, mine in backbone.state_dict().items():
        if mine.shape != published[name].shape:
            raise ValueError(f"{name}: shape {tuple(published[name].shape)}, expected {tuple(mine.shape)}")
        mine.copy_(published[name])


class Separable(nn.Module):
    """Depthwise then pointwise convolution, each with batch norm and ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 5, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = SameConv(inputs, inputs, kernel, stride, groups=inputs)
        self.pointwise = SameConv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class Neck(nn.Module):
    """Top-down and bottom-up path over three levels (PANet, arXiv 1803.01534), depthwise throughout."""

    def __init__(self, inputs: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(SameConv(n, channels, 1) for n in inputs)
        self.down = nn.ModuleList(Separable(channels, channels) for _ in inputs[:-1])
        self.shrink = nn.ModuleList(Separable(channels, channels, stride=2) for _ in inputs[:-1])
        self.up = nn.ModuleList(Separable(channels, channels) for _ in inputs[:-1])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        p3, p4, p5 = (layer(x) for layer, x in zip(self.lateral, maps, strict=True))
        p4 = self.down[1](p4 + F.interpolate(p5, scale_factor=2.0))
        p3 = self.down[0](p3 + F.interpolate(p4, scale_factor=2.0))
        p4 = self.up[0](p4 + self.shrink[0](p3))
        p5 = self.up[1](p5 + self.shrink[1](p4))
        return [p3, p4, p5]


def normalised(images: Tensor) -> Tensor:
    """Colours in [0, 255] as the backbone wants them."""
    return (images - INPUT_MEAN) / INPUT_SCALE


class FrameEncoder(nn.Module):
    """Backbone and neck: three maps of `channels` at strides 8, 16, 32, and one embedding per frame.

    The embedding is the mean over the picture of a projection of the stride-32 map, of unit length:
    what is in the scene, whatever its place. Where things move is told by the motion grid beside it.
    """

    def __init__(
        self, channels: int = 96, embedding: int = 64, blocks: tuple[int, ...] = FAST_BLOCKS
    ) -> None:
        super().__init__()
        self.backbone = Backbone(blocks)
        self.neck = Neck(self.backbone.channels, channels)
        self.project = nn.Linear(channels * len(STRIDES), embedding)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """`images` (N, 3, H, W), normalised -> three maps (N, C, H/s, W/s), embedding (N, E)."""
        maps = self.neck(self.backbone(images))
        pooled = torch.cat([m.mean(dim=(2, 3)) for m in maps], dim=1)  # (N, 3 C)
        return maps, F.normalize(self.project(pooled), dim=1)
