"""Disturbed pixels, a batch at a time, on any device: colour, grey, night, noise, blur, JPEG blocks."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip
_BLUR_REACH = 4  # pixels to each side


def disturb(views: Tensor, rng: np.random.Generator) -> Tensor:
    """Views (N, 3, S, S) float32 in [0, 255], S a multiple of 16, disturbed as `augment.disturb` does."""
    dice = _Dice(rng, len(views), views.device)
    out = torch.where(dice.chosen(0.8), _recoloured(views, dice), views)
    out = torch.where(dice.chosen(0.06), out.mean(dim=1, keepdim=True), out)
    generator = torch.Generator(views.device).manual_seed(int(rng.integers(2**62)))
    out = torch.where(dice.chosen(0.08), _darkened(out, dice, generator), out)
    strength = torch.where(dice.chosen(0.15), dice.uniform(2, 12), 0.0)
    out = out + strength * _normal(out.shape, generator)
    out = out.clamp(0, 255)
    for share, change, low, high in ((0.15, blur, 0.5, 1.6), (0.25, jpeg, 20.0, 70.0)):
        which = np.flatnonzero(rng.random(len(views)) < share)
        rows = torch.from_numpy(which).to(out.device)
        amounts = torch.from_numpy(rng.uniform(low, high, len(which)).astype(np.float32)).to(out.device)
        if len(which):
            out = out.index_copy(0, rows, change(out[rows], amounts))
    return out


class _Dice:
    """Random numbers for each view."""

    def __init__(self, rng: np.random.Generator, count: int, device: torch.device) -> None:
        self.rng, self.count, self.device = rng, count, device

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        """(N, channels, 1, 1) float32."""
        values = self.rng.uniform(low, high, (self.count, channels, 1, 1)).astype(np.float32)
        return torch.from_numpy(values).to(self.device)

    def chosen(self, share: float) -> Tensor:
        """(N, 1, 1, 1) bool, a `share` of them true."""
        return self.uniform(0, 1) < share


def _normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, device=generator.device, generator=generator)


def _recoloured(views: Tensor, dice: _Dice) -> Tensor:
    """White balance, contrast, brightness and saturation."""
    out = views * dice.uniform(0.85, 1.15, channels=3)
    mean = out.mean(dim=(1, 2, 3), keepdim=True)
    out = (out - mean) * dice.uniform(0.7, 1.3) + mean + dice.uniform(-35, 35)
    grey = out.mean(dim=1, keepdim=True)
    return grey + (out - grey) * dice.uniform(0.4, 1.5)


def _darkened(views: Tensor, dice: _Dice, generator: torch.Generator) -> Tensor:
    """Night: dark, low contrast, noisy."""
    dark = (views.clamp(0, 255) / 255) ** dice.uniform(1.5, 2.5) * dice.uniform(0.4, 0.9)
    n, _, height, width = views.shape
    return 255 * dark + 10 * _normal(torch.Size((n, 1, height, width)), generator)


def blur(views: Tensor, sigmas: Tensor) -> Tensor:
    """Views (N, 3, S, S) under Gaussians of `sigmas` (N,) pixels, at most 2."""
    reach = torch.arange(-_BLUR_REACH, _BLUR_REACH + 1, device=views.device)
    kernels = torch.exp(-((reach / sigmas[:, None]) ** 2) / 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)  # (3 N, 9)
    planes = F.pad(views, (_BLUR_REACH,) * 4, mode="replicate").flatten(0, 1)[None]  # (1, 3 N, S + 8, S + 8)
    planes = F.conv2d(planes, kernels[:, None, None, :], groups=len(kernels))
    planes = F.conv2d(planes, kernels[:, None, :, None], groups=len(kernels))
    return planes.view(views.shape)


def jpeg(views: Tensor, qualities: Tensor) -> Tensor:
    """Views (N, 3, S, S), RGB in [0, 255], as JPEG of `qualities` (N,) in 1 to 99 would give them back.

    Baseline JPEG (ITU-T T.81) with its example tables, scaled by quality as the Independent JPEG Group does;
    colour at half the resolution.
    """
    scale = torch.where(qualities < 50, 5000 / qualities, 200 - 2 * qualities)[:, None, None, None]
    red, green, blue = views.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = torch.stack([(blue - luma) / 1.772, (red - luma) / 1.402], dim=1)
    luma = _quantised((luma - 128)[:, None], _table(_LUMA, scale)) + 128
    chroma = _quantised(F.avg_pool2d(chroma, 2), _table(_CHROMA, scale))
    blueness, redness = F.interpolate(chroma, scale_factor=2.0, mode="bilinear").unbind(1)
    luma = luma[:, 0]
    green = luma - (0.114 * 1.772 * blueness + 0.299 * 1.402 * redness) / 0.587
    return torch.stack([luma + 1.402 * redness, green, luma + 1.772 * blueness], dim=1).clamp(0, 255)


def _table(values: tuple[int, ...], scale: Tensor) -> Tensor:
    """Steps of quantisation (N, 1, 1, 1, 8, 8) by vertical and horizontal frequency; `scale` (N, 1, 1, 1)."""
    steps = torch.tensor(values, dtype=torch.float32, device=scale.device).view(8, 8)
    return ((steps * scale[..., None, None] + 50) / 100).floor().clamp(1, 255)


def _quantised(planes: Tensor, steps: Tensor) -> Tensor:
    """Planes (N, C, H, W), blocks of 8x8 through the cosine transform and its rounding."""
    n, channels, height, width = planes.shape
    blocks = planes.reshape(n, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    dct = _dct(str(planes.device))
    coefficients = dct @ blocks @ dct.T
    restored: Tensor = dct.T @ ((coefficients / steps).round() * steps) @ dct
    return restored.transpose(3, 4).reshape(planes.shape)


@cache
def _dct(device: str) -> Tensor:
    """The orthonormal cosine transform (8, 8) of eight samples, a row for each frequency."""
    rows = [[math.cos(math.pi * k * (2 * n + 1) / 16) / 2 for n in range(8)] for k in range(8)]
    rows[0] = [math.sqrt(1 / 8)] * 8
    return torch.tensor(rows, device=device)
