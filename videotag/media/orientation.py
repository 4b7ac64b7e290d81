"""How a stored picture is turned and mirrored for display, from the display matrix that phones write.

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
    """The signs and the larger entries of a display matrix: one of eight turns and mirrorings.

    Attributes:
        transposed: rows and columns are swapped, before the mirroring.
        mirror_x: left and right of the displayed picture are swapped.
        mirror_y: top and bottom of the displayed picture are swapped.
        rotation_deg: 0, 90, 180 or 270 clockwise, leaving mirroring aside.
    """

    transposed: bool = False
    mirror_x: bool = False
    mirror_y: bool = False
    rotation_deg: int = 0

    @classmethod
    def of_matrix(cls, a: float, b: float, c: float, d: float) -> Orientation:
        """The nearest orientation of a matrix; its scale does not matter."""
        transposed = abs(a) < abs(b)
        along_x, along_y = (c, b) if transposed else (a, d)
        turn = round(math.degrees(math.atan2(b, a)) / 90) * 90 % 360
        return cls(transposed, along_x < 0, along_y < 0, turn)

    @classmethod
    def of_frame(cls, frame: Any) -> Orientation:
        """The orientation that a decoded av.VideoFrame asks for; upright if it does not."""
        try:
            matrix = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV stumbles over kinds of side data that are newer than itself
            angle = math.radians(-frame.rotation)  # PyAV counts counter-clockwise
            return cls.of_matrix(math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle))
        if matrix is None:
            return cls()
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        return cls.of_matrix(a, b, c, d)

    def turned_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the displayed picture for the stored one, and the other way round."""
        return (height, width) if self.transposed else (width, height)

    def upright(self, image: np.ndarray) -> np.ndarray:
        """The displayed picture (H, W, 3) of a stored one, as a view."""
        if self.transposed:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]
