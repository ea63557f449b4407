"""Training views made on a GPU: all pictures lie in its memory, and are cut, coloured and disturbed there.

The same things happen as in `models.training.augment` on a CPU, with other random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.training.augment import FILL, Patch, Plan
from models.training.coco import TrainingImage
from models.training.device_disturb import disturb

MAX_SIDE = 640  # pixels; larger pictures are shrunk when they are loaded


class DeviceImages:
    """Pictures as uint8 in a device's memory, whole and at half size."""

    def __init__(self, images: Sequence[TrainingImage], device: str) -> None:
        distinct = list({id(image): image for image in images}.values())
        longest = max(max(image.width, image.height) for image in distinct)
        self.side = -(-min(longest, MAX_SIDE) // 2) * 2
        self.rows = {id(image): row for row, image in enumerate(distinct)}
        shape = (len(distinct), 3, self.side, self.side)
        self.whole = torch.empty(shape, dtype=torch.uint8, device=device)
        half = (*shape[:2], self.side // 2, self.side // 2)
        self.half = torch.empty(half, dtype=torch.uint8, device=device)
        for row, image in enumerate(distinct):
            picture = torch.from_numpy(self._fitted(image)).to(device).permute(2, 0, 1)
            self.whole[row] = picture
            self.half[row] = F.avg_pool2d(picture[None].float(), 2)[0].round().byte()

    def _fitted(self, image: TrainingImage) -> np.ndarray:
        """The picture in the upper left of a grey square."""
        square = np.full((self.side, self.side, 3), FILL, np.uint8)
        pixels, scale = image.pixels(), self._scale(image)
        if scale < 1:
            size = (round(image.width * scale), round(image.height * scale))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        square[: pixels.shape[0], : pixels.shape[1]] = pixels
        return square

    def _scale(self, image: TrainingImage) -> float:
        return min(1.0, self.side / max(image.width, image.height))

    def views(self, plans: Sequence[Plan], size: int, rng: np.random.Generator) -> Tensor:
        """The views (N, 3, size, size) float32 of `plans`, RGB in [0, 255], disturbed."""
        return disturb(self.draw(plans, size), rng).contiguous(memory_format=torch.channels_last)

    def draw(self, plans: Sequence[Plan], size: int) -> Tensor:
        """The views (N, 3, size, size) float32 of `plans` as they are without disturbance."""
        out = torch.full((len(plans), 3, size, size), float(FILL), device=self.whole.device)
        placed = [(number, patch) for number, plan in enumerate(plans) for patch in plan.patches]
        for level in (self.whole, self.half):
            here = [p for p in placed if (level is self.half) == (self._shrinks(p[1]) > 1.5)]
            for group in _one_a_view(here):
                self._paste(level, group, out)
        mirrored = torch.tensor([plan.mirrored for plan in plans], device=out.device)
        return torch.where(mirrored[:, None, None, None], out.flip(3), out)

    def _shrinks(self, patch: Patch) -> float:
        """Pixels of the stored picture for one of the view."""
        return self._scale(patch.image) / patch.scale

    def _paste(self, level: Tensor, group: Sequence[tuple[int, Patch]], out: Tensor) -> None:
        """Sample one patch in each of some views, bilinearly."""
        size, device = out.shape[-1], out.device
        per_level = level.shape[-1] / self.side
        numbers = torch.tensor([number for number, _ in group], device=device)
        rows = torch.tensor([self.rows[id(patch.image)] for _, patch in group], device=device)
        # A pixel of the view at x lies at (x - region + shift) / scale in the picture, centres at halves.
        steps = [self._shrinks(patch) * per_level for _, patch in group]
        starts = [
            [(shift - corner) * step for shift, corner in zip(patch.shift, patch.region, strict=False)]
            for (_, patch), step in zip(group, steps, strict=True)
        ]
        step, start = (torch.tensor(v, dtype=torch.float32, device=device) for v in (steps, starts))
        middle = torch.arange(size, device=device) + 0.5
        along = (start[:, :, None] + middle * step[:, None, None]) / level.shape[-1] * 2 - 1  # (G, 2, S)
        grid = torch.stack(
            [along[:, 0, None, :].expand(-1, size, -1), along[:, 1, :, None].expand(-1, -1, size)], dim=-1
        )
        # What lies outside becomes zero, so grey is moved there and back.
        sampled = F.grid_sample(level[rows].float() - FILL, grid, align_corners=False) + FILL
        region = torch.tensor([patch.region for _, patch in group], device=device)[:, :, None]
        place = torch.arange(size, device=device)
        columns = (place >= region[:, 0]) & (place < region[:, 2])  # (G, S)
        lines = (place >= region[:, 1]) & (place < region[:, 3])
        inside = lines[:, None, :, None] & columns[:, None, None, :]
        out[numbers] = torch.where(inside, sampled, out[numbers])


def _one_a_view(placed: Sequence[tuple[int, Patch]]) -> list[list[tuple[int, Patch]]]:
    """Groups with at most one patch of each view."""
    groups: list[list[tuple[int, Patch]]] = []
    seen: dict[int, int] = {}
    for number, patch in placed:
        turn = seen[number] = seen.get(number, -1) + 1
        if turn == len(groups):
            groups.append([])
        groups[turn].append((number, patch))
    return groups
