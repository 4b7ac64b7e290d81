"""Augmentation of training clips: crop and flip, the same for all frames of a video.

Follows Temporal Segment Networks, arXiv:1608.00859: corner cropping and scale jittering.
Shapes: K frames, H height, W width, S side of the square crop in pixels.
"""

from __future__ import annotations

import itertools

import numpy as np
from PIL import Image

from videotag.train_section import VideoTrainSection

_SCALES = (1.0, 0.875, 0.75, 0.66)  # relative to the short side
#: Indices into _SCALES for width and height; combining adjacent scales jitters the aspect ratio.
_SHAPES = [(a, b) for a, b in itertools.product(range(4), repeat=2) if abs(a - b) <= 1]
_ANCHORS = (
    (0.0, 0.0),
    (0.0, 1.0),
    (1.0, 0.0),
    (1.0, 1.0),
    (0.5, 0.5),
)  # (top, left) as margin fractions


def augmented(images: np.ndarray, train: VideoTrainSection, rng: np.random.Generator) -> np.ndarray:
    """Square crops of the frames, possibly mirrored, as the TRAIN section configures.

    Args:
        images: Frames (K, H, W, 3) uint8; H and W are at least target_size.
        train: TRAIN section; its crop, flip and target_size apply.
        rng: Source of the random crop and flip.

    Returns:
        Frames (K, S, S, 3) uint8, where S is target_size.
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
