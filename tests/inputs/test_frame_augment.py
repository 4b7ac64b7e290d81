"""Crops and flips of training clips: which there are, and that all frames of a clip get the same."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.inputs.frame_augment import augmented
from videotag.train_section import VideoTrainSection

HEIGHT, WIDTH = 40, 60


def clip(num_frames=2):
    """Frames whose red is the column and whose green is the row, so that pixels tell where they come from."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[..., 0], frame[..., 1] = np.arange(WIDTH)[None], np.arange(HEIGHT)[:, None]
    return np.stack([frame] * num_frames)


def section(**options):
    return VideoTrainSection(short_size=HEIGHT, target_size=32, **options)


def many(train, count=200):
    return [augmented(clip(), train, np.random.default_rng(seed)) for seed in range(count)]


def test_the_middle_without_flip_is_the_plain_square():
    for images in many(section(crop="center", flip=False), 3):
        np.testing.assert_array_equal(images, clip()[:, 4:36, 14:46])


@pytest.mark.parametrize("crop", ["center", "random", "multiscale"])
def test_all_frames_of_a_clip_are_treated_alike_and_the_same_seed_repeats(crop):
    train = section(crop=crop)
    for seed in range(20):
        images = augmented(clip(3), train, np.random.default_rng(seed))
        assert images.shape == (3, 32, 32, 3)
        assert np.array_equal(images, np.stack([images[0]] * 3))
        assert np.array_equal(images, augmented(clip(3), train, np.random.default_rng(seed)))


def test_half_of_the_clips_are_mirrored_unless_flip_is_off():
    mirrored = sum(int(i[0, 0, 0, 0]) > int(i[0, 0, -1, 0]) for i in many(section(crop="center")))
    assert 70 < mirrored < 130
    assert not any(int(i[0, 0, 0, 0]) > int(i[0, 0, -1, 0]) for i in many(section(flip=False)))


def test_random_squares_lie_everywhere_and_keep_pixels():
    corners = {
        (int(i[0, 0, 0, 0]), int(i[0, 0, 0, 1])) for i in many(section(crop="random", flip=False), 400)
    }
    assert {left for left, _ in corners} == set(range(WIDTH - 32 + 1))
    assert {top for _, top in corners} == set(range(HEIGHT - 32 + 1))


def test_multiscale_takes_corners_and_the_middle_in_sizes_and_shapes_of_the_paper():
    sizes, places = set(), set()
    for images in many(section(crop="multiscale", flip=False), 600):
        left, right = int(images[0, 0, 0, 0]), int(images[0, 0, -1, 0])
        top, bottom = int(images[0, 0, 0, 1]), int(images[0, -1, 0, 1])
        sizes.add((right - left, bottom - top))
        places.add((left < 5, top < 5, right > WIDTH - 6, bottom > HEIGHT - 6))
    widths, heights = {w for w, _ in sizes}, {h for _, h in sizes}
    for seen in (
        widths,
        heights,
    ):  # shares of 40 pixels, as far as resizing blurs the border
        assert all(min(abs(s - round(40 * k) + 1) for k in (1, 0.875, 0.75, 0.66)) <= 1 for s in seen)
    assert any(w != h for w, h in sizes)
    assert {(True, True, False, False), (False, True, True, False)} <= places
    assert {(True, False, False, True), (False, False, True, True), (False, False, False, False)} <= places
