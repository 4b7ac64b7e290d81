"""How the frames of a training clip vary: crop and flip, the same for all frames of a video.

After Temporal Segment Networks, arXiv:1608.00859: corner cropping and scale jittering.
Shapes: K frames, H height, W width, S pixels of the square's side.
"""

from __future__ import annotations

import itertools

import numpy as np
from PIL import Image

from videotag.sections import VideoTrainSection

_SCALES = (1.0, 0.875, 0.75, 0.66)  # of the short side
#: Width and height by their place in _SCALES; neighbours may be mixed, which changes the shape a little.
_SHAPES = [(a, b) for a, b in itertools.product(range(4), repeat=2) if abs(a - b) <= 1]
_ANCHORS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))  # (top, left) shares of the margin


def augmented(images: np.ndarray, train: VideoTrainSection, rng: np.random.Generator) -> np.ndarray:
    """The frames cut to squares, and mirrored or not, as the TRAIN section says.

    Args:
        images: (K, H, W, 3) uint8, H and W at least target_size.
        train: crop, flip and target_size.
        rng: decides.

    Returns:
        (K, S, S, 3) uint8, S being target_size.
    """
    size = train.target_size
    height, width = images.shape[1:3]
    if train.crop == "multiscale":
        across, down = _SHAPES[rng.integers(len(_SHAPES))]
        crop_width, crop_height = (round(min(height, width) * _SCALES[i]) for i in (across, down))
        share_top, share_left = _ANCHORS[rng.integers(len(_ANCHORS))]
    else:
        crop_width = crop_height = size
        share_top, share_left = 0.5, 0.5
    top, left = int((height - crop_height) * share_top), int((width - crop_width) * share_left)
    if train.crop == "random":
        top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
    images = images[:, top : top + crop_height, left : left + crop_width]
    if images.shape[1:3] != (size, size):
        images = np.stack([_resized(image, size) for image in images])
    if train.flip and rng.random() < 0.5:
        images = images[:, :, ::-1]
    return images


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
