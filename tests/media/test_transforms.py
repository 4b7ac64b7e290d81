"""Size, crop and normalisation, against numbers by hand and NumPy written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videotag.errors import ShapeError
from videotag.media.transforms import center_crop, normalize, scaled_size


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((640, 360), 256, (455, 256)),  # 455.1
        ((175, 131), 256, (342, 256)),  # 341.98
        ((360, 640), 256, (256, 455)),
        ((64, 64), 256, (256, 256)),
        ((5, 2), 3, (8, 3)),  # 7.5 goes up
        ((1, 1000), 1, (1, 1000)),
    ],
)
def test_scaled_size_keeps_the_aspect_ratio(size, short, expected):
    assert scaled_size(*size, short) == expected


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 1000))
def test_the_short_side_is_exact_and_the_long_one_within_half_a_pixel(width, height, short):
    scaled = scaled_size(width, height, short)
    assert min(scaled) == short
    assert abs(max(scaled) - max(width, height) * short / min(width, height)) <= 0.5 + 1e-6
    assert scaled == scaled_size(height, width, short)[::-1]


def test_center_crop_leaves_the_larger_margin_at_the_right_and_bottom():
    frames = np.arange(2 * 5 * 8 * 3).reshape(2, 5, 8, 3).astype(np.uint8)
    cropped = center_crop(frames, 3)
    np.testing.assert_array_equal(cropped, frames[:, 1:4, 2:5])  # margins 1 and 1, 2 and 3
    np.testing.assert_array_equal(center_crop(frames[0], 3), cropped[0])
    assert np.shares_memory(cropped, frames)


def test_center_crop_of_the_whole_is_the_whole():
    frames = np.zeros((4, 4, 3), np.uint8)
    assert center_crop(frames, 4).shape == (4, 4, 3)


def test_center_crop_rejects_frames_that_are_too_small():
    with pytest.raises(ShapeError, match="frames are 300x200 pixels, expected at least 224 on both sides"):
        center_crop(np.zeros((200, 300, 3), np.uint8), 224)


def test_normalize_agrees_with_the_formula_for_every_byte_and_colour():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    frames = np.stack([np.roll(np.arange(256), 7 * c) for c in range(3)], axis=-1)
    frames = frames.astype(np.uint8).reshape(2, 8, 16, 3)
    found = normalize(frames, mean, std)
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((2, 3, 8, 16), np.float32, True)
    expected = ((frames / 255.0 - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_normalize_takes_views_and_no_frames():
    frames = np.zeros((2, 9, 9, 3), np.uint8)
    assert (
        normalize(center_crop(frames, 4), [0.5] * 3, [0.5] * 3).tolist()
        == np.full((2, 3, 4, 4), -1.0).tolist()
    )
    assert normalize(frames[:0], [0.5] * 3, [0.5] * 3).shape == (0, 3, 9, 9)


@pytest.mark.parametrize(
    "frames",
    [np.zeros((1, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 4), np.uint8)],
    ids=["float", "one frame", "four colours"],
)
def test_normalize_rejects_other_arrays(frames):
    with pytest.raises(ShapeError, match=r"expected uint8 \(T, H, W, 3\)"):
        normalize(frames, [0.5] * 3, [0.5] * 3)
