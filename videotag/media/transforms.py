"""Pure functions on frames: size, crop, and the network's input.

Shapes: T frames, H height, W width; frames are uint8 RGB, the last axis is colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from videotag.errors import ShapeError


def scaled_size(width_px: int, height_px: int, short_side_px: int) -> tuple[int, int]:
    """(width, height) with the short side scaled to short_side_px and the long one to the nearest integer.

    Halves are rounded up: 175x131 at 256 is 342x256, since 175 * 256 / 131 = 341.98.
    """
    short = min(width_px, height_px)
    width, height = (
        int(Fraction(side * short_side_px, short) + Fraction(1, 2)) for side in (width_px, height_px)
    )
    return width, height


def forced_size(width_px: int, height_px: int, short_side_px: int) -> tuple[int, int]:
    """(width, height) as VideoTag scales: 4:3 or 3:4 whatever the shape was, unless the short side fits.

    It squashes wide and tall pictures; for weights that were trained so. VideoTag scaled with Pillow, and
    its crop of an odd margin may be a pixel beside ours.
    """
    if min(width_px, height_px) == short_side_px:
        return width_px, height_px
    long_side_px = int(short_side_px * 4 / 3)
    return (short_side_px, long_side_px) if width_px < height_px else (long_side_px, short_side_px)


def center_crop(frames: np.ndarray, size_px: int) -> np.ndarray:
    """The middle square of every frame, as a view; an odd margin is one pixel larger at the right and bottom.

    Args:
        frames: (..., H, W, colours), H and W at least size_px.
        size_px: side of the square.

    Returns:
        (..., size_px, size_px, colours).

    Raises:
        ShapeError: the frames are smaller than the square.
    """
    height, width = frames.shape[-3:-1]
    if min(height, width) < size_px:
        raise ShapeError(
            f"frames are {width}x{height} pixels, expected at least {size_px} on both sides to crop"
        )
    top, left = (height - size_px) // 2, (width - size_px) // 2
    return frames[..., top : top + size_px, left : left + size_px, :]


def normalize(frames: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(x / 255 - mean) / std per colour, colour axis first: (T, 3, H, W) float32, C-contiguous.

    Args:
        frames: (T, H, W, 3) uint8; T may be 0.
        mean: three numbers in units of 0..1.
        std: three numbers in units of 0..1.

    Raises:
        ShapeError: frames are not uint8 (T, H, W, 3).
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ShapeError(f"frames are {frames.dtype} {frames.shape}, expected uint8 (T, H, W, 3)")
    num_frames, height, width, _ = frames.shape
    result = np.empty((num_frames, 3, height, width), np.float32)
    for colour in range(3):
        plane = result[:, colour]  # (T, H, W), written in place: no float copy of all frames
        np.multiply(frames[..., colour], np.float32(1 / (255 * std[colour])), out=plane)
        plane -= np.float32(mean[colour] / std[colour])
    return result
