"""Generated clips: what they show, and that only the order of frames distinguishes twins."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.media.synthetic import (
    BACKGROUNDS,
    COLORS,
    ORDER_TAGS,
    ORDERS,
    SHAPES,
    TAGS,
    TONES_HZ,
    ClipSpec,
    draw_shape,
    random_specs,
    render,
    sound,
)


def show(spec, **how):
    return render(spec, **{"num_frames": 12, "size_px": 64, **how})


def coloured(frame, colour):
    """Where a frame is near a colour."""
    return np.abs(frame.astype(int) - COLORS[colour]).max(axis=-1) < 12


@pytest.mark.parametrize("change", ORDERS)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_twins_hold_the_same_frames_in_reverse(change, background):
    spec = ClipSpec("circle", "red", background, change, seed=3, word="goal")
    first, second = show(spec), show(spec.twin())
    np.testing.assert_array_equal(first, second[::-1])
    np.testing.assert_array_equal(first.mean(axis=0), second.mean(axis=0))
    assert (first != second).any()
    assert spec.twin().twin() == spec


def test_twins_differ_in_their_order_tag_alone():
    for spec in random_specs(12, 0, tone=True, text=True):
        difference = set(spec.tags) ^ set(spec.twin().tags)
        assert len(difference) == 2
        assert difference <= set(ORDER_TAGS)


def test_tags_are_unique_and_in_the_order_of_their_ids():
    assert len(set(TAGS)) == len(TAGS)
    for spec in random_specs(60, 0, tone=True, text=True):
        assert list(spec.label_ids) == sorted(set(spec.label_ids))
        assert tuple(TAGS[i] for i in spec.label_ids) == spec.tags
        assert len(spec.tags) >= 4


def test_every_tag_occurs_in_a_set_of_usual_size():
    specs = random_specs(60, 0, tone=True, text=True)
    assert {tag for spec in specs for tag in spec.tags} == set(TAGS)


def test_the_same_seed_gives_the_same_specs_and_another_seed_others():
    assert random_specs(20, 7, tone=True) == random_specs(20, 7, tone=True)
    assert random_specs(20, 7) != random_specs(20, 8)
    assert random_specs(20, 7) == random_specs(40, 7)[:20]


def test_twins_stand_side_by_side():
    specs = random_specs(9, 1)
    assert len(specs) == 9
    assert all(a.twin() == b for a, b in zip(specs[:8:2], specs[1:8:2], strict=True))


@pytest.mark.parametrize(("reverse", "tag"), [(False, "grows"), (True, "shrinks")])
def test_a_shape_grows_or_shrinks(reverse, tag):
    spec = ClipSpec("square", "green", "dark", "size", reverse)
    areas = [coloured(frame, "green").sum() for frame in show(spec)]
    assert tag in spec.tags
    assert areas == sorted(areas, reverse=reverse)
    assert max(areas) > 4 * min(areas)


@pytest.mark.parametrize(("reverse", "tag"), [(False, "moves right"), (True, "moves left")])
def test_a_shape_moves_right_or_left(reverse, tag):
    spec = ClipSpec("circle", "blue", "light", "place", reverse)
    places = [np.nonzero(coloured(frame, "blue"))[1].mean() for frame in show(spec)]
    assert tag in spec.tags
    assert places == sorted(places, reverse=reverse)
    assert abs(places[-1] - places[0]) > 30


@pytest.mark.parametrize(
    ("reverse", "tag", "first"), [(False, "red then blue", "red"), (True, "blue then red", "blue")]
)
def test_a_shape_changes_its_colour(reverse, tag, first):
    spec = ClipSpec("triangle", "yellow", "dark", "colour", reverse)
    frames = show(spec)
    second = {"red": "blue", "blue": "red"}[first]
    assert {tag, "red", "blue"} <= set(spec.tags)
    assert "yellow" not in spec.tags
    assert all(coloured(frame, first).any() for frame in frames[:6])
    assert all(coloured(frame, second).any() for frame in frames[6:])


def test_shapes_are_told_apart_by_the_share_of_their_box():
    shares = {}
    for shape in SHAPES:
        frame = np.zeros((128, 128, 3), np.uint8)
        draw_shape(frame, shape, "yellow", center=(0.5, 0.5), radius=0.3)
        y, x = np.nonzero(coloured(frame, "yellow"))
        shares[shape] = len(y) / ((np.ptp(y) + 1) * (np.ptp(x) + 1))
    assert shares["square"] == pytest.approx(1.0, abs=0.02)
    assert shares["circle"] == pytest.approx(np.pi / 4, abs=0.02)
    assert shares["triangle"] == pytest.approx(0.5, abs=0.03)


def test_edges_are_smooth():
    frame = np.zeros((64, 64, 3), np.uint8)
    draw_shape(frame, "circle", "yellow", center=(0.5, 0.5), radius=0.3)
    assert len(np.unique(frame[..., 0])) > 3


def test_a_shape_is_drawn_over_what_is_there_in_a_frame_of_any_size():
    frame = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    before = frame.copy()
    draw_shape(frame, "square", "red", center=(0.25, 0.5), radius=0.25)
    changed = (frame != before).any(axis=-1)
    y, x = np.nonzero(changed)
    assert (x.mean(), y.mean()) == pytest.approx((22.5, 20), abs=1)
    assert not changed[:, 45:].any()


@pytest.mark.parametrize("tone", TONES_HZ)
def test_the_tone_is_heard(tone):
    samples, rate = sound(ClipSpec("circle", "red", "dark", "size", tone=tone), 2.0)
    assert (samples.dtype, len(samples)) == (np.float32, 2 * rate)
    assert np.abs(samples).max() <= 1
    assert np.abs(np.fft.rfft(samples)).argmax() / 2 == TONES_HZ[tone]


def test_no_tone_is_no_sound():
    assert sound(ClipSpec("circle", "red", "dark", "size"), 2.0) is None


def test_the_word_is_written_in_every_frame():
    plain = ClipSpec("circle", "red", "dark", "size")
    words = [show(ClipSpec("circle", "red", "dark", "size", word=word)) for word in ("sale", "goal")]
    assert all((with_word[:, -10:] > 200).any(axis=(1, 2, 3)).all() for with_word in words)
    assert (words[0] != words[1]).any()
    np.testing.assert_array_equal(words[0][:, :40], show(plain)[:, :40])


@pytest.mark.parametrize("num_frames", [1, 2, 24])
def test_frames_have_the_size_asked_for(num_frames):
    frames = show(ClipSpec("circle", "red", "noise", "size"), num_frames=num_frames, size_px=48)
    assert (frames.shape, frames.dtype, frames.flags.c_contiguous) == (
        (num_frames, 48, 48, 3),
        np.uint8,
        True,
    )
