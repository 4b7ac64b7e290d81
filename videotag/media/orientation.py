"""Rotates and mirrors stored pictures for display, following the display matrix that phones write.

The matrix maps stored to displayed pixels, y pointing down: x' = a x + c y, y' = b x + d y.
Source: ISO 14496-12, track header box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Orientation:
    """One of the eight combinations of rotation by a multiple of 90 degrees and mirroring.

    Attributes:
        transposed: Whether rows and columns are swapped, before mirroring.
        mirror_x: Whether left and right of the displayed picture are swapped.
        mirror_y: Whether top and bottom of the displayed picture are swapped.
        rotation_deg: Clockwise rotation of 0, 90, 180 or 270 degrees, disregarding mirroring.
    """

    transposed: bool = False
    mirror_x: bool = False
    mirror_y: bool = False
    rotation_deg: int = 0

    @classmethod
    def from_matrix(cls, a: float, b: float, c: float, d: float) -> Orientation:
        """The orientation nearest to the matrix x' = a x + c y, y' = b x + d y; its scale does not matter."""
        transposed = abs(a) < abs(b)
        along_x, along_y = (c, b) if transposed else (a, d)
        rotation_deg = round(math.degrees(math.atan2(b, a)) / 90) * 90 % 360
        return cls(transposed, along_x < 0, along_y < 0, rotation_deg)

    @classmethod
    def from_frame(cls, frame: Any) -> Orientation:
        """The orientation declared by a decoded av.VideoFrame; upright if it declares none."""
        try:
            matrix = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV fails on kinds of side data that it does not know yet
            angle = math.radians(-frame.rotation)  # PyAV's rotation is counter-clockwise
            return cls.from_matrix(math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle))
        if matrix is None:
            return cls()
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        return cls.from_matrix(a, b, c, d)

    def rotated_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the displayed picture, given those of the stored one; also the inverse."""
        return (height, width) if self.transposed else (width, height)

    def upright(self, image: np.ndarray) -> np.ndarray:
        """The displayed picture of a stored one, as a view.

        Args:
            image: (height, width, channels) array of any dtype, as stored.

        Returns:
            (height, width, channels) view, with height and width swapped if transposed.
        """
        if self.transposed:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]
