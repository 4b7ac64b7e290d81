"""Steps sampled, videos mixed, modalities blanked: against hand tables, and what must never happen."""

from __future__ import annotations

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.train_section import FeatureTrainSection
from videotag.training.feature_augment import augment, drop_modalities, has_augmentation, mixup, sample_steps


def make_batch(lengths, dims=(("rgb", 2),), seed=0):
    """Features whose value is 10 * video + step + 1 and, as datasets make them, zeros after the end."""
    longest = max(lengths)
    mask = np.arange(longest) < np.array(lengths)[:, None]
    inputs = {}
    for name, dim in dims:
        value = 10.0 * np.arange(len(lengths))[:, None] + np.arange(longest) + 1
        x = np.repeat((value * mask)[:, :, None], dim, axis=2).astype(np.float32)
        inputs[name], inputs[f"{name}.mask"] = paddle.to_tensor(x), paddle.to_tensor(mask)
    return inputs


class Draws:
    """A generator whose draws are written in the test."""

    def __init__(self, **answers):
        self._answers = answers

    def __getattr__(self, name):
        return lambda *args, **options: np.array(self._answers[name])


# ---------------------------------------------------------------- sample_steps


def test_the_steps_of_lowest_rank_are_kept_in_time_order():
    inputs = make_batch([5, 2, 3])
    ranks = [[4, 0, 3, 1, 2], [0, 1, 2, 3, 4], [4, 2, 3, 0, 1]]  # the padding of the third ranks first
    x = sample_steps(inputs, 3, Draws(permuted=ranks))
    # Video 0: ranks 0, 1, 2 are steps 1, 3, 4. Video 1 is shorter and stays whole, as does video 2.
    np.testing.assert_array_equal(x["rgb"][:, :, 0].numpy(), [[2, 4, 5], [11, 12, 0], [21, 22, 23]])
    np.testing.assert_array_equal(x["rgb.mask"].numpy(), [[1, 1, 1], [1, 1, 0], [1, 1, 1]])
    assert x["rgb.mask"].dtype == paddle.bool


def test_sampled_steps_are_distinct_real_and_in_order_for_any_lengths():
    rng = np.random.default_rng(0)
    for _ in range(20):
        lengths = rng.integers(1, 12, size=5)
        num_steps = int(rng.integers(1, 14))
        inputs = make_batch(lengths)
        x = sample_steps(inputs, num_steps, rng)
        assert x["rgb"].shape[1] == min(num_steps, max(lengths))
        for video, length in enumerate(lengths):
            kept = x["rgb"].numpy()[video, :, 0][x["rgb.mask"].numpy()[video]]
            steps = kept - 10 * video - 1
            assert len(steps) == min(num_steps, length)
            assert np.all(np.diff(steps) > 0)
            assert steps.min() >= 0
            assert steps.max() < length
            assert np.all(x["rgb"].numpy()[video, len(steps) :] == 0)


def test_every_step_has_the_same_chance():
    inputs = make_batch([4] * 2000)
    x = sample_steps(inputs, 2, np.random.default_rng(0))
    steps = (x["rgb"][:, :, 0].numpy() - 1) % 10
    assert np.bincount(steps.astype(int).ravel(), minlength=4) == pytest.approx([1000] * 4, rel=0.1)


def test_modalities_of_one_length_keep_the_same_steps():
    inputs = make_batch([9, 7, 2], dims=(("rgb", 3), ("audio", 1)))
    x = sample_steps(inputs, 4, np.random.default_rng(3))
    np.testing.assert_array_equal(x["rgb"][:, :, 0].numpy(), x["audio"][:, :, 0].numpy())


def test_a_modality_that_is_short_enough_stays_as_it_is():
    inputs = make_batch([3, 2])
    long = make_batch([8, 5], dims=(("audio", 1),))
    x = sample_steps(inputs | long, 4, np.random.default_rng(0))
    assert x["rgb"] is inputs["rgb"]
    assert x["rgb.mask"] is inputs["rgb.mask"]
    assert x["audio"].shape == [2, 4, 1]


# ---------------------------------------------------------------- mixup


def test_mixup_shares_features_and_labels_and_unites_masks():
    inputs = make_batch([3, 1])
    labels = paddle.to_tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    rng = Draws(beta=[0.25, 0.5], permutation=[1, 0])
    x, mixed = mixup(inputs, labels, 0.4, rng)
    # Video 0 is 1, 2, 3; video 1 is 11, then padding.
    np.testing.assert_allclose(x["rgb"][0, :, 0].numpy(), [0.25 * 1 + 0.75 * 11, 0.5, 0.75])
    np.testing.assert_allclose(x["rgb"][1, :, 0].numpy(), [0.5 * 11 + 0.5 * 1, 1.0, 1.5])
    assert x["rgb.mask"].numpy().all()
    assert x["rgb.mask"].dtype == paddle.bool
    np.testing.assert_allclose(mixed.numpy(), [[0.25, 0, 1], [0.5, 0, 1]])


def test_a_video_mixed_with_itself_stays():
    inputs = make_batch([3, 1])
    labels = paddle.to_tensor([[1.0], [0.0]])
    x, mixed = mixup(inputs, labels, 0.4, Draws(beta=[0.3, 0.7], permutation=[0, 1]))
    np.testing.assert_allclose(x["rgb"].numpy(), inputs["rgb"].numpy(), rtol=1e-6)
    np.testing.assert_array_equal(x["rgb.mask"].numpy(), inputs["rgb.mask"].numpy())
    np.testing.assert_allclose(mixed.numpy(), labels.numpy(), rtol=1e-6)


def test_shares_follow_the_beta_distribution():
    inputs = make_batch([1] * 4000)
    labels = paddle.to_tensor(np.eye(4000, dtype=np.float32)[:, :1])
    _, mixed = mixup(inputs, labels, 2.0, np.random.default_rng(0))
    x, _ = mixup(
        {
            "rgb": paddle.to_tensor(np.eye(2, dtype=np.float32).repeat(2000, 0)[:, None, :]),
            "rgb.mask": paddle.ones([4000, 1], "bool"),
        },
        labels,
        2.0,
        np.random.default_rng(0),
    )
    share = x["rgb"].numpy()[:2000, 0, 0]
    share = share[share < 1]  # partners of the other half
    # Beta(2, 2) has mean 1/2 and variance 1 / (4 * (2 * 2 + 1)) = 0.05.
    assert share.mean() == pytest.approx(0.5, abs=0.02)
    assert share.var() == pytest.approx(0.05, rel=0.1)
    assert mixed.numpy().sum() == pytest.approx(1.0, abs=1.0)


# ---------------------------------------------------------------- drop_modalities


def test_a_modality_is_blanked_where_its_draw_is_below_the_probability_and_one_stays():
    inputs = make_batch([2, 2, 2], dims=(("rgb", 1), ("audio", 1)))
    draws = [[0.1, 0.9], [0.6, 0.7], [0.2, 0.4]]  # one goes, none goes, both would: the larger draw stays
    x = drop_modalities(inputs, 0.5, Draws(random=draws))
    np.testing.assert_array_equal(x["rgb"][:, 0, 0].numpy(), [0, 11, 0])
    np.testing.assert_array_equal(x["audio"][:, 0, 0].numpy(), [1, 11, 21])


def test_a_probability_of_one_leaves_one_modality_of_every_video_evenly():
    inputs = make_batch([1] * 3000, dims=(("rgb", 1), ("audio", 1), ("text", 1)))
    x = drop_modalities(inputs, 1.0, np.random.default_rng(0))
    stays = np.stack([x[name].numpy()[:, 0, 0] > 0 for name in ("rgb", "audio", "text")])
    assert np.all(stays.sum(axis=0) == 1)
    assert stays.sum(axis=1) == pytest.approx([1000] * 3, rel=0.1)


# ---------------------------------------------------------------- all of them


def test_a_seed_decides_everything_and_masks_stay_prefixes():
    section = FeatureTrainSection(sample_steps=4, mixup_alpha=0.4, modality_dropout=0.5)
    inputs = make_batch([9, 3, 5, 1], dims=(("rgb", 2), ("audio", 1)))
    labels = paddle.to_tensor(np.eye(4, dtype=np.float32))
    runs = [augment(inputs, labels, train=section, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    for (x, y), same in ((runs[1], True), (runs[2], False)):
        equal = [np.array_equal(x[n].numpy(), runs[0][0][n].numpy()) for n in x]
        equal += [np.array_equal(y.numpy(), runs[0][1].numpy())]
        assert all(equal) == same
    for x, _ in runs:
        for name in ("rgb", "audio"):
            real = x[f"{name}.mask"].numpy()
            assert np.all(np.diff(real.astype(int), axis=1) <= 0)
            assert np.all(x[name].numpy()[~real] == 0)


def test_nothing_is_changed_unless_it_is_asked_for():
    assert not has_augmentation(FeatureTrainSection())
    for options in ({"sample_steps": 1}, {"mixup_alpha": 0.1}, {"modality_dropout": 0.1}):
        assert has_augmentation(FeatureTrainSection(**options))
