"""Standardization inside a network: measured on real steps of the training set, saved with the weights."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.models import load_models, paddle
from videotag.models.sequence import masked_difference, masked_std
from videotag.models.standardize import Moments, Standardize
from videotag.registry import LOGITS, get_model

load_models()
MASK = np.array([[True, True, True, False], [True, False, False, False], [False] * 4])


def sequences(seed=0):
    x = np.random.default_rng(seed).normal(3, 2, (3, 4, 5)).astype(np.float32)
    x[~MASK] = 1e6  # padding
    return x


def test_std_and_difference_are_those_of_the_real_steps():
    x = sequences()
    std = masked_std(paddle.to_tensor(x), paddle.to_tensor(MASK)).numpy()
    np.testing.assert_allclose(std[0], x[0, :3].std(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(std[1:], 0)
    difference = masked_difference(paddle.to_tensor(x), paddle.to_tensor(MASK)).numpy()
    np.testing.assert_allclose(difference[0], np.abs(np.diff(x[0, :3], axis=0)).mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(difference[1:], 0)


def test_moments_of_parts_are_those_of_the_whole():
    rows = np.random.default_rng(0).normal(5, 3, (50, 4))
    moments = Moments(4)
    for part in (rows[:1], rows[1:20], rows[:0], rows[20:]):
        moments.add(part)
    mean, std = moments.compute()
    np.testing.assert_allclose(mean, rows.mean(axis=0))
    np.testing.assert_allclose(std, rows.std(axis=0))


def observed(layer, x, mask):
    layer.start_observing()
    layer(paddle.to_tensor(x), paddle.to_tensor(mask))
    layer.stop_observing()
    return layer(paddle.to_tensor(x), paddle.to_tensor(mask)).numpy()[mask]


def test_real_steps_have_mean_0_and_standard_deviation_1_afterwards():
    """Apart from features that vary less than the median, which are divided by the median."""
    signs = np.array([[1, 1, 1], [-1, -1, -1], [1, -1, 1], [-1, 1, -1]], np.float32)  # mean 0, std 1
    x = np.stack([5 + signs * [1, 2, 4], np.full((4, 3), 1e6)]).astype(np.float32)
    mask = np.array([[True] * 4, [False] * 4])
    rows = observed(Standardize(3), x, mask)
    np.testing.assert_allclose(rows, signs * [0.5, 1, 1], atol=1e-6)


def test_unusual_values_are_limited_to_3_standard_deviations():
    layer = Standardize(2)
    x = np.array([[[1, 10], [-1, -10]]], np.float32)
    observed(layer, x, np.ones((1, 2), bool))
    unusual = layer(paddle.to_tensor(np.array([[50.0, -15.0]], np.float32))).numpy()
    np.testing.assert_allclose(unusual, [[3, -1.5]], rtol=1e-6)


def test_constant_features_do_not_count_for_the_median():
    layer = Standardize(4)
    x = np.array([[[7, 7, 7, 2], [7, 7, 7, -2]]], np.float32)
    np.testing.assert_array_equal(observed(layer, x, np.ones((1, 2), bool)), [[0, 0, 0, 1], [0, 0, 0, -1]])


def test_a_common_scale_keeps_the_proportions_of_the_features():
    x = sequences() * np.array([1, 1, 1, 1, 10], np.float32)
    rows = observed(Standardize(5, common_scale=True), x, MASK)
    np.testing.assert_allclose((rows**2).mean(), 1, rtol=1e-4)
    assert rows[:, 4].std() > 3 * rows[:, 0].std()


def test_a_constant_feature_is_only_centered():
    layer = Standardize(1)
    rows = observed(layer, np.full((1, 2, 1), 7, np.float32), np.ones((1, 2), bool))
    np.testing.assert_array_equal(rows, 0)
    assert layer.scale.item() == 1


@pytest.mark.parametrize("name", ["LatentTransformer", "MeanPool"])
def test_a_standardized_model_gives_the_same_logits_for_scaled_features(name):
    """Whatever the extractor's scale is: x and 100 x + 7 are the same after standardization."""
    entry = get_model(name)
    sizes = {"hidden_size": 8, "num_heads": 2} if name == "LatentTransformer" else {}
    section = entry.config(name=name, num_classes=3, feature_dims=[5], standardize=True, **sizes)
    logits = []
    for scale, offset in ((1, 0), (100, 7)):
        paddle.seed(0)
        model = entry.cls(section)
        model.eval()
        x = np.where(MASK[..., None], sequences() * scale + offset, 0).astype(np.float32)
        inputs = {"rgb": paddle.to_tensor(x), "rgb.mask": paddle.to_tensor(MASK)}
        layer = model.standardizers["rgb"]
        layer.start_observing()
        model(inputs)
        layer.stop_observing()
        logits.append(model(inputs)[LOGITS].numpy())
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-3)
