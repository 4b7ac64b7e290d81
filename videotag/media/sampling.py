"""Frame sampling by frame number, for sources without display times.

Shapes: T sampled frames, K distinct ones among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def even_indices(num_frames: int, num_sampled: int, offsets: Sequence[float] | None = None) -> np.ndarray:
    """(T,) int64 frame numbers, one in each of T equal parts; frames of a shorter video are repeated.

    Args:
        num_frames: Number of frames of the video, at least 1.
        num_sampled: Number T of sampled frames, at least 1.
        offsets: (T,) position in each part, in [0, 1); None takes the middle.
    """
    positions = np.full(num_sampled, 0.5) if offsets is None else np.asarray(offsets)
    return ((np.arange(num_sampled) + positions) * num_frames / num_sampled).astype(np.int64)


def videotag_indices(num_frames: int, num_sampled: int, offsets: Sequence[float] | None = None) -> np.ndarray:
    """(T,) int64 frame numbers by VideoTag's rule, for weights that were trained with it.

    Parts are num_frames // T frames long, so the end of most videos is never sampled (of 599 frames, 300 are
    taken from the first half); a video of fewer than T frames is repeated from its beginning.

    Args:
        num_frames: Number of frames of the video, at least 1.
        num_sampled: Number T of sampled frames, at least 1.
        offsets: (T,) position in each part, in [0, 1), as VideoTag draws it in training; None takes the
            middle, rounded down.
    """
    length = num_frames // num_sampled
    if not length:
        return np.arange(num_sampled) % num_frames
    position = (length - 1) // 2 if offsets is None else (np.asarray(offsets) * length).astype(np.int64)
    return np.arange(num_sampled) * length + position


def image_rows(repeats: Sequence[int], indices: np.ndarray | None = None) -> np.ndarray:
    """(T,) int64: for each sampled frame, the index of its image in the order in which a reader yields them.

    Args:
        repeats: Number of sampled frames that show each image, in that order.
        indices: (T,) sampled frame numbers in any order if the reader yields each of the K distinct ones
            once, so that `repeats` sum to K; None if `repeats` sum to T.
    """
    images = np.repeat(np.arange(len(repeats)), repeats)
    return images if indices is None else images[np.unique(indices, return_inverse=True)[1]]
