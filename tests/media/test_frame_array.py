"""Frames in an array, sampled like those of a file."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from videotag.errors import MediaError, ShapeError
from videotag.media.frame_array import ArrayReader


def frames(count, height=24, width=32):
    """Frame k is a plain picture of the grey level k."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, height, width, 3))


@pytest.mark.parametrize(
    ("count", "num_frames", "found"),
    [(10, 5, [1, 3, 5, 7, 9]), (3, 6, [0, 0, 1, 1, 2, 2]), (1, 4, [0, 0, 0, 0])],
)
def test_the_frames_at_the_midpoints_come_once_with_their_repeats(count, num_frames, found):
    reader = ArrayReader(frames(count), 25, num_frames, short_side_px=24)
    given = [int(frame.image[0, 0, 0]) for frame in reader for _ in range(frame.repeats)]
    assert given == found
    assert [frame.time_sec for frame in reader] == [index / 25 for index in sorted(set(found))]
    assert reader.info.duration_sec == count / 25


def test_too_large_pictures_are_rejected_before_scaling():
    huge = np.broadcast_to(np.zeros((1, 1, 1, 1), np.uint8), (1, 9000, 9000, 3))
    with pytest.raises(MediaError, match="9000x9000"):
        ArrayReader(huge, 25, 1)
    with pytest.raises(MediaError, match="expected at most"):  # 1 by 400 pixels, scaled to 8,000 by 3,200,000
        ArrayReader(frames(1, 400, 1), 25, 1, short_side_px=8000)


@pytest.mark.parametrize("fps", [2, 2.0, Fraction(2), np.int8(2), np.float32(2)])
def test_a_rate_may_be_any_real_number(fps):
    reader = ArrayReader(frames(3), fps, 3, short_side_px=24)
    assert [frame.time_sec for frame in reader] == [0, 0.5, 1]
    assert (reader.info.fps, reader.info.duration_sec) == (2, 1.5)


NO_RATES = [0, -1, float("nan"), float("inf"), 10**400, True, "25", 1j, np.complex64(1), np.ones((2, 2))]


@pytest.mark.parametrize("fps", NO_RATES, ids=range(len(NO_RATES)))
def test_an_invalid_rate_is_rejected(fps):
    with pytest.raises(ShapeError, match=r"^frames: fps .*, expected frames per second above 0$"):
        ArrayReader(frames(2), fps, 1)
