"""8-bit inference: convolutions whose inputs and weights are rounded to 256 levels, for CPUs that count so.

Symmetric, weights per output channel, inputs per layer by ranges that were measured on pictures
(Krishnamoorthi, Quantizing deep convolutional networks for efficient inference, arXiv 1806.08342); the
network is not trained for it. What is made here rounds in floating point, as torch simulates it; OpenVINO
finds the roundings and computes in integers between them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.detector import Detector
from models.encoder import SameConv

_FINE = ("encoder.backbone.stem", "encoder.backbone.stages.0.", "encoder.backbone.stages.1.0.")
"""Layers next to the pixels stay as they are: where these are rounded, boxes get loose."""

_SIGNED, _UNSIGNED = (-128, 127), (0, 255)


def _coarse(detector: Detector) -> Iterator[tuple[str, SameConv]]:
    """The layers that are rounded, in a fixed order: all with a batch norm but those of `_FINE`."""
    for name, module in detector.named_modules():
        if isinstance(module, SameConv) and not name.startswith(_FINE):
            yield name, module


def measured_ranges(detector: Detector, batches: Iterable[Tensor]) -> Tensor:
    """What goes into each layer: a picture's lowest and highest value, in the mean over pictures.

    Args:
        detector: in evaluation mode.
        batches: pictures (N, 3, H, W) such as the network is to see, RGB in [0, 255]; one batch or more.

    Returns:
        (layers, 2) float32, on the CPU.
    """
    seen: dict[nn.Module, list[Tensor]] = {}

    def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        low, high = given[0].float().flatten(1).aminmax(dim=1)
        seen.setdefault(layer, []).append(torch.stack([low, high], 1))

    layers = [layer for _, layer in _coarse(detector)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        with torch.inference_mode():
            for batch in batches:
                detector(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([torch.cat(seen[layer]).mean(0) for layer in layers]).cpu()


def rounded(detector: Detector, ranges: Tensor) -> Detector:
    """A copy of the detector, in evaluation mode, that rounds to 8 bits.

    Args:
        detector: in evaluation mode.
        ranges: (layers, 2), of `measured_ranges`.

    Raises:
        ValueError: `ranges` belongs to another network.
    """
    made = copy.deepcopy(detector)
    layers = list(_coarse(made))
    if ranges.shape != (len(layers), 2):
        raise ValueError(f"ranges of shape {tuple(ranges.shape)} for {len(layers)} layers")
    for (name, layer), (low, high) in zip(layers, ranges.tolist(), strict=True):
        above, _, last = name.rpartition(".")
        setattr(made.get_submodule(above), last, _Rounded(layer, low, high))
    return made.eval()


class _Rounded(nn.Module):
    """A `SameConv` in evaluation mode of which input and weights are rounded."""

    def __init__(self, layer: SameConv, low: float, high: float) -> None:
        super().__init__()
        self.conv, self.pad, self.act = fuse_conv_bn_eval(layer.conv, layer.bn), layer.pad, layer.act
        self.levels = _SIGNED if low < 0 else _UNSIGNED
        self.step = max(low / self.levels[0] if low < 0 else 0.0, high / self.levels[1], 1e-6)
        self.steps = (self.conv.weight.detach().abs().amax((1, 2, 3)) / 127).clamp(min=1e-9)
        self.zeros = torch.zeros(len(self.steps), dtype=torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, self.step, 0, *self.levels)
        if self.pad is not None:
            x = F.pad(x, self.pad)
        conv = self.conv
        # Rounded here rather than once, for OpenVINO to see it.
        weight = torch.fake_quantize_per_channel_affine(conv.weight, self.steps, self.zeros, 0, -127, 127)
        x = F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, groups=conv.groups)
        return F.relu6(x) if self.act else x
