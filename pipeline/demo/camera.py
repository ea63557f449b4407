"""A pinhole camera over a ground plane, and the light of a scene.

World: metres, x to the right, y away from the camera, z up; the camera stands at (0, 0, `height_m`) and looks
along +y, tilted down by `pitch`. Picture: pixels, x to the right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
"""Mostly float32; float64 where times and paths are computed."""

NEAR_M = 0.3
"""Points nearer than this are projected as if they were this far away."""


@dataclass(frozen=True)
class Camera:
    """`focal_px` is the focal length in pixels, `pitch` in radians, positive downwards."""

    width: int
    height: int
    focal_px: float
    height_m: float
    pitch: float

    @cached_property
    def rotation(self) -> Floats:
        """(3, 3): world directions to view directions (right, down, forward)."""
        sin, cos = np.sin(self.pitch), np.cos(self.pitch)
        return np.array([[1, 0, 0], [0, -sin, -cos], [0, cos, -sin]], np.float32)

    @cached_property
    def position(self) -> Floats:
        return np.array([0, 0, self.height_m], np.float32)

    def project(self, points: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Pixels (N, 2) and depths in metres (N,) of world points (N, 3)."""
        view = (np.asarray(points, np.float32) - self.position) @ self.rotation.T
        depth = np.maximum(view[:, 2], NEAR_M)
        pixels = view[:, :2] * (self.focal_px / depth)[:, None]
        pixels += np.array([self.width / 2, self.height / 2], np.float32)
        return pixels, depth

    def ground(self, u: float, v: float) -> tuple[float, float]:
        """The ground point (x, y) in metres that is seen at pixel (u, v), below the horizon."""
        ray = self.rotation.T @ np.array(
            [(u - self.width / 2) / self.focal_px, (v - self.height / 2) / self.focal_px, 1], np.float32
        )
        if ray[2] >= 0:
            raise ValueError(f"pixel ({u}, {v}) is not below the horizon")
        reach = -self.height_m / float(ray[2])
        return float(ray[0]) * reach, float(ray[1]) * reach


@dataclass(frozen=True)
class Light:
    """A sun (`towards`: unit vector from the ground to it) and a sky; strengths are factors on colours."""

    towards: tuple[float, float, float]
    ambient: float = 0.6
    sun: float = 0.5
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shadow: float = 0.45
    """How much of the light a full shadow takes away, 0 to 1."""

    @classmethod
    def at(cls, azimuth: float, elevation: float, **strengths: float) -> Light:
        """Angles in radians; azimuth 0 is +x, pi / 2 is away from the camera."""
        flat = float(np.cos(elevation))
        towards = (flat * float(np.cos(azimuth)), flat * float(np.sin(azimuth)), float(np.sin(elevation)))
        return cls(towards, **strengths)  # type: ignore[arg-type]

    def in_view(self, camera: Camera) -> tuple[float, float, float]:
        """Direction to the sun as (right, down, towards the viewer)."""
        right, down, forward = camera.rotation @ np.array(self.towards, np.float32)
        return float(right), float(down), -float(forward)

    def on_ground(self, points: Floats) -> Floats:
        """Where the shadows of world points (N, 3) fall on the ground (N, 3), at most six heights away."""
        x, y, z = self.towards
        steep = max(z, float(np.hypot(x, y)) / 6, 1e-3)
        cast: Floats = points.copy()
        cast[:, 0] -= points[:, 2] * (x / steep)
        cast[:, 1] -= points[:, 2] * (y / steep)
        cast[:, 2] = 0
        return cast
