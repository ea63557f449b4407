"""Fitting a picture of any shape into the CNN's input, and its boxes back into the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.media.reader import Picture

GREY = 114
"""Value of the pixels beside the picture: near the mean of natural pictures, as detectors are trained."""


@dataclass(frozen=True)
class Letterbox:
    """A displayed picture inside an input of `width` x `height`: aspect kept, in the middle, grey beside it.

    The content, `content_width` x `content_height` input pixels, has its upper left corner at
    (`left`, `top`). It stands for the whole displayed picture, `display_width` x `display_height`; sides are
    rounded to whole pixels, so x and y have each their own scale.
    """

    width: int
    height: int
    display_width: int
    display_height: int
    content_width: int
    content_height: int
    left: int
    top: int

    @classmethod
    def fit(
        cls, display_width: int, display_height: int, width: int, height: int, *, stretch: bool = False
    ) -> Letterbox:
        """The largest content with the picture's aspect, or with `stretch` the whole input."""
        if min(display_width, display_height, width, height) < 1:
            raise ValueError(f"sides are 1 or more, got {display_width}x{display_height} in {width}x{height}")
        if stretch:
            return cls(width, height, display_width, display_height, width, height, 0, 0)
        scale = min(width / display_width, height / display_height)
        content_width = min(width, max(1, round(display_width * scale)))
        content_height = min(height, max(1, round(display_height * scale)))
        left, top = (width - content_width) // 2, (height - content_height) // 2
        return cls(width, height, display_width, display_height, content_width, content_height, left, top)

    @property
    def scale_x(self) -> float:
        """Input pixels per displayed pixel, along x."""
        return self.content_width / self.display_width

    @property
    def scale_y(self) -> float:
        """Input pixels per displayed pixel, along y."""
        return self.content_height / self.display_height

    def to_display(self, boxes: NDArray[np.floating]) -> NDArray[np.floating]:
        """Boxes or points in displayed pixels, cut at the picture's border.

        Args:
            boxes: (..., 2 n) float, x and y in turn, in input pixels. Coordinates are continuous: 0 is the
                left edge of the first pixel.

        Returns:
            The same shape and dtype.
        """
        points = boxes.reshape(*boxes.shape[:-1], -1, 2)
        moved = (points - (self.left, self.top)) / (self.scale_x, self.scale_y)
        moved = moved.clip(0, (self.display_width, self.display_height))
        return moved.reshape(boxes.shape).astype(boxes.dtype)

    def paste(self, content: Picture) -> Picture:
        """A new input picture, (height, width, 3) RGB uint8, around `content` of the content's size."""
        if content.shape != (self.content_height, self.content_width, 3):
            raise ValueError(f"content has shape {content.shape}, this letterbox is {self}")
        if content.shape == (self.height, self.width, 3):
            return content.copy()
        picture = np.full((self.height, self.width, 3), GREY, np.uint8)
        bottom, right = self.top + self.content_height, self.left + self.content_width
        picture[self.top : bottom, self.left : right] = content
        return picture
