"""What vehicles are made of: flat faces, wheels and bars. Metres, x forward, y left, z up from the ground."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.demo.camera import Floats
from pipeline.demo.raster import Colour


@dataclass(frozen=True)
class Face:
    """A flat convex polygon in local metres (N, 3), seen from the side its normal points to."""

    points: Floats
    normal: Floats
    colour: Colour
    gloss: float = 0.0  # 0 dull, 1 glass
    glow: bool = False  # shines by itself


@dataclass(frozen=True)
class Faces:
    """Faces as arrays: corners (F, 4, 3), normals and colours (F, 3), gloss and glow (F,)."""

    corners: Floats
    normals: Floats
    colours: Floats
    gloss: Floats
    glow: Floats

    @classmethod
    def of(cls, faces: tuple[Face, ...]) -> Faces:
        return cls(
            np.array([face.points for face in faces], np.float32).reshape(-1, 4, 3),
            np.array([face.normal for face in faces], np.float32).reshape(-1, 3),
            np.array([face.colour for face in faces], np.float32).reshape(-1, 3),
            np.array([face.gloss for face in faces], np.float32),
            np.array([face.glow for face in faces], np.float32),
        )


@dataclass(frozen=True)
class Solid:
    """A convex-ish body: faces, then details that lie on them. All have four corners."""

    faces: tuple[Face, ...]
    details: tuple[Face, ...] = ()

    @cached_property
    def skin(self) -> Faces:
        return Faces.of(self.faces)

    @cached_property
    def marks(self) -> Faces:
        return Faces.of(self.details)


@dataclass(frozen=True)
class Wheel:
    x: float
    y: float
    radius: float
    arch: bool = True


@dataclass(frozen=True)
class Bar:
    """A round bar along a line of points (N, 3)."""

    points: Floats
    width_m: float
    colour: Colour


@dataclass(frozen=True)
class Mesh:
    solids: tuple[Solid, ...]
    wheels: tuple[Wheel, ...] = ()
    bars: tuple[Bar, ...] = ()

    @cached_property
    def outline(self) -> Floats:
        """Points (N, 3) that enclose the vehicle."""
        clouds = [face.points for solid in self.solids for face in solid.faces]
        clouds += [bar.points for bar in self.bars]
        clouds += [circle(w.x, w.y, w.radius, w.radius, 12) for w in self.wheels]
        return np.concatenate(clouds)


def circle(x: float, y: float, z: float, radius: float, corners: int = 20) -> Floats:
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack(
        [x + radius * np.cos(turn), np.full(corners, y), z + radius * np.sin(turn)], axis=1
    ).astype(np.float32)
