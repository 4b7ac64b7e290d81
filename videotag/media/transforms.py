"""Pure functions on frames: scaled size, crop and normalization.

Shapes: T frames, H height, W width; frames are uint8 RGB with the channel axis last.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from videotag.errors import ShapeError


def scaled_size(width_px: int, height_px: int, short_side_px: int) -> tuple[int, int]:
    """(width, height) in pixels after scaling the short side to short_side_px and rounding the long side.

    Halves are rounded up: 175x131 becomes 342x256 for a short side of 256, since 175 * 256 / 131 = 341.98.

    Args:
        width_px: Width, at least 1.
        height_px: Height, at least 1.
        short_side_px: Short side of the result, at least 1.
    """
    short = min(width_px, height_px)
    width, height = (
        int(Fraction(side * short_side_px, short) + Fraction(1, 2)) for side in (width_px, height_px)
    )
    return width, height


def forced_size(width_px: int, height_px: int, short_side_px: int) -> tuple[int, int]:
    """(width, height) in pixels as VideoTag scales: always 4:3 or 3:4, unless the short side already fits.

    Distorts other aspect ratios; for weights that were trained with it. VideoTag scaled with Pillow, and its
    center crop may be one pixel off ours if the margin is odd.

    Args:
        width_px: Width, at least 1.
        height_px: Height, at least 1.
        short_side_px: Short side of the result, at least 1.
    """
    if min(width_px, height_px) == short_side_px:
        return width_px, height_px
    long_side_px = int(short_side_px * 4 / 3)
    return (short_side_px, long_side_px) if width_px < height_px else (long_side_px, short_side_px)


def center_crop(frames: np.ndarray, size_px: int) -> np.ndarray:
    """The center square of every frame; an odd margin is one pixel larger at the right and at the bottom.

    Args:
        frames: (..., H, W, channels) of any dtype, H and W at least size_px.
        size_px: Side of the square in pixels.

    Returns:
        (..., size_px, size_px, channels) view.

    Raises:
        ShapeError: The frames are smaller than the square.
    """
    height, width = frames.shape[-3:-1]
    if min(height, width) < size_px:
        raise ShapeError(
            f"frames are {width}x{height} pixels, expected at least {size_px} on both sides to crop"
        )
    top, left = (height - size_px) // 2, (width - size_px) // 2
    return frames[..., top : top + size_px, left : left + size_px, :]


def normalize(frames: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(x / 255 - mean) / std for every channel.

    Args:
        frames: (T, H, W, 3) uint8 RGB; T may be 0.
        mean: (3,) mean per channel, for values in [0, 1].
        std: (3,) standard deviation per channel, for values in [0, 1].

    Returns:
        (T, 3, H, W) float32, C-contiguous.

    Raises:
        ShapeError: The frames are not (T, H, W, 3) uint8.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ShapeError(f"frames are {frames.dtype} {frames.shape}, expected uint8 (T, H, W, 3)")
    num_frames, height, width, _ = frames.shape
    result = np.empty((num_frames, 3, height, width), np.float32)
    for channel in range(3):
        plane = result[:, channel]  # (T, H, W), written in place to avoid a float copy of all frames
        np.multiply(frames[..., channel], np.float32(1 / (255 * std[channel])), out=plane)
        plane -= np.float32(mean[channel] / std[channel])
    return result
