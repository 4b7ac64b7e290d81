"""Which frames of a video are taken, where frames are counted and not timed.

Shapes: T sampled frames, K distinct ones among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def even_indices(num_frames: int, num_sampled: int, offsets: Sequence[float] | None = None) -> np.ndarray:
    """(T,) int: a frame of each of num_sampled equal parts; the frames of a shorter video are repeated.

    Args:
        num_frames: of the video, at least 1.
        num_sampled: T.
        offsets: where in each part, from 0 to below 1; in the middle if not given.
    """
    places = np.full(num_sampled, 0.5) if offsets is None else np.asarray(offsets)
    return ((np.arange(num_sampled) + places) * num_frames / num_sampled).astype(np.int64)


def videotag_indices(num_frames: int, num_sampled: int, offsets: Sequence[float] | None = None) -> np.ndarray:
    """(T,) int: VideoTag's rule, for weights that were trained so.

    Parts are num_frames // num_sampled long, so that the end of most videos is never seen (of 599 frames
    300 are taken from the first half); a shorter video starts again from its beginning.

    Args:
        num_frames: of the video, at least 1.
        num_sampled: T.
        offsets: where in each part, from 0 to below 1, as VideoTag draws it in training; in the middle,
            rounded down, if not given.
    """
    length = num_frames // num_sampled
    if not length:
        return np.arange(num_sampled) % num_frames
    place = (length - 1) // 2 if offsets is None else (np.asarray(offsets) * length).astype(np.int64)
    return np.arange(num_sampled) * length + place


def rows_of(repeats: Sequence[int], indices: np.ndarray | None = None) -> np.ndarray:
    """(T,) int: which of the images that a reader gave each sampled frame shows.

    Args:
        repeats: of the images, as they came.
        indices: (T,) frame numbers in any order, of which the reader was asked for each distinct one, so
            that `repeats` sum to K; None if it was asked for T.
    """
    images = np.repeat(np.arange(len(repeats)), repeats)
    return images if indices is None else images[np.unique(indices, return_inverse=True)[1]]
