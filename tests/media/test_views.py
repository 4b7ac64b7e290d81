"""Several views of a video from one decoding: each has the frames that a reader of its own would have."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.media.decode_pool import DecodePool
from videotag.media.video import FrameReader
from videotag.media.views import View

VIEWS = (
    {"num_frames": 5, "short_side_px": 40, "crop_px": 39},
    {"num_frames": 30, "short_side_px": 31},
    {"fps": 10.0, "short_side_px": 24},
    {"num_frames": 4, "by_videotag": True, "short_side_px": 32},
    {"short_side_px": 20},
)


@pytest.mark.parametrize("in_child", [False, True])
def test_each_view_has_the_frames_of_its_own_reader(make_noise, in_child):
    path = make_noise("a.mp4", 12)
    with DecodePool() as pool:
        first, *others = VIEWS
        reader = (pool.reader if in_child else FrameReader)(path, **first, others=others)
        frames = list(reader)
    assert [frame.time_sec for frame in frames] == sorted(frame.time_sec for frame in frames)
    for number, view in enumerate(VIEWS):
        own = FrameReader(path, **view)
        expected, found = list(own), [frame for frame in frames if frame.view == number]
        assert len(found) == len(expected)
        for frame, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(frame.image, wanted.image)
            assert (frame.repeats, frame.time_sec) == (wanted.repeats, wanted.time_sec)
        if number == 0:
            assert reader.rows == own.rows


def test_a_view_of_a_fixed_size_ignores_the_aspect_ratio(make_noise):
    frames = list(FrameReader(make_noise("a.mp4", 3), short_side_px=None, size_px=(48, 27)))
    assert [frame.image.shape for frame in frames] == [(27, 48, 3)] * 3


@pytest.mark.parametrize("size", [{"num_frames": 0}, {"crop_px": 0}, {"size_px": (48, 0)}])
def test_a_view_of_size_0_is_an_error(size):
    with pytest.raises(ValueError, match="expected at least 1"):
        View(**size)
