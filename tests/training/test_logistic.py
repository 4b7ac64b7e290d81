"""Logistic regression: the optimum, by Newton's method and by its defining equation; the chosen penalty."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.training.logistic import LogisticRegression, cross_entropy, probabilities

TASKS = ["multi_label", "single_label"]


def problem(task, count=40, width=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, width))
    truth = x @ rng.normal(size=(width, classes)) + rng.normal(size=(count, classes))
    return x, (truth > 0).astype(np.float64) if task == "multi_label" else truth.argmax(axis=1)


def newton(x, y, penalty):
    """One binary logistic regression: weights and bias, by 50 exact Newton steps."""
    x = np.hstack([x, np.ones((len(x), 1))])
    ridge = penalty * np.diag([1.0] * (x.shape[1] - 1) + [0.0])
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x) + ridge
        w -= np.linalg.solve(hessian, x.T @ (p - y) / len(x) + ridge @ w)
    return w[:-1], w[-1]


def gradient(x, labels, weights, biases, penalty, task, classes):
    y = np.eye(classes)[labels] if task == "single_label" else labels
    difference = probabilities(x @ weights + biases, task) - y
    return x.T @ difference / len(x) + penalty * weights, difference.mean(axis=0)


@pytest.mark.parametrize("width", [6, 60], ids=["tall", "wide"])
@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_a_multi_label_fit_is_the_newton_optimum_of_every_class(width, penalty):
    x, labels = problem("multi_label", width=width)
    fitted = LogisticRegression(x, labels, task="multi_label", num_classes=3).fit(penalty)
    for class_id in range(3):
        weights, bias = newton(x, labels[:, class_id], penalty)
        np.testing.assert_allclose(fitted[0][:, class_id], weights, atol=2e-3)
        np.testing.assert_allclose(fitted[1][class_id], bias, atol=2e-3)


@pytest.mark.parametrize("size", [2000, 3], ids=["rotated", "not rotated"])
@pytest.mark.parametrize("task", TASKS)
def test_the_gradient_is_zero_at_a_fit(task, size, monkeypatch):
    monkeypatch.setattr("videotag.training.logistic._MAX_ROTATED", size)
    x, labels = problem(task)
    fitted = LogisticRegression(x, labels, task=task, num_classes=3).fit(0.05)
    for part in gradient(x, labels, *fitted, 0.05, task, 3):
        np.testing.assert_allclose(part, 0, atol=1e-3)


def test_two_softmax_classes_equal_one_logistic_regression_with_twice_the_penalty():
    """The weights of both classes share the penalty, so each takes half of the difference."""
    x, labels = problem("single_label", classes=2)
    weights, biases = LogisticRegression(x, labels, task="single_label", num_classes=2).fit(0.1)
    expected, bias = newton(x, labels == 1, 0.05)
    np.testing.assert_allclose(weights[:, 1] - weights[:, 0], expected, atol=2e-3)
    np.testing.assert_allclose(biases[1] - biases[0], bias, atol=2e-3)


@pytest.mark.parametrize("task", TASKS)
def test_class_weights_equal_repeated_videos(task):
    x, labels = problem(task, count=30)
    is_first = (labels == 0) if task == "single_label" else labels[:, 0] > 0
    weights = np.array([3.0, 1.0, 1.0])
    weighted = LogisticRegression(x, labels, task=task, num_classes=3, class_weights=weights).fit(0.1)
    rows = np.concatenate([np.arange(30), np.flatnonzero(is_first), np.flatnonzero(is_first)])
    scale = len(rows) / 30  # the mean is over more videos
    repeated = LogisticRegression(x[rows], labels[rows], task=task, num_classes=3).fit(0.1 / scale)
    columns = slice(None) if task == "single_label" else 0  # others see the repetitions too
    np.testing.assert_allclose(weighted[0][:, columns], repeated[0][:, columns], atol=3e-3)


@pytest.mark.parametrize("task", TASKS)
def test_cross_validation_scores_every_video_by_a_model_that_did_not_see_it(task):
    x, labels = problem(task)
    folds = [np.arange(40)[start::4] for start in range(4)]
    found = LogisticRegression(x, labels, task=task, num_classes=3).cross_validate(folds, [0.1])
    for fold in folds:
        rows = np.setdiff1d(np.arange(40), fold)
        weights, biases = LogisticRegression(x[rows], labels[rows], task=task, num_classes=3).fit(0.1)
        expected = probabilities(x[fold] @ weights + biases, task)
        np.testing.assert_allclose(found.scores[fold], expected, atol=1e-3)
    y = np.eye(3)[labels] if task == "single_label" else labels
    assert found.loss == pytest.approx(cross_entropy(found.scores, y, task))


def test_cross_validation_penalizes_noise_more_than_a_clear_signal():
    rng = np.random.default_rng(0)
    folds = [np.arange(60)[start::5] for start in range(5)]
    x = rng.normal(size=(60, 200))
    noise = LogisticRegression(x, rng.integers(2, size=60), task="single_label", num_classes=2)
    clear = x.copy()
    clear[:, :50] += 3 * (np.arange(60) % 2)[:, None]
    signal = LogisticRegression(clear, np.arange(60) % 2, task="single_label", num_classes=2)
    assert noise.cross_validate(folds).penalty >= 10 * signal.cross_validate(folds).penalty


def test_a_class_without_positive_videos_gets_a_small_probability_and_no_error():
    x, labels = problem("multi_label")
    labels[:, 1] = 0
    weights, biases = LogisticRegression(x, labels, task="multi_label", num_classes=3).fit(0.01)
    assert probabilities(x @ weights + biases, "multi_label")[:, 1].max() < 0.01


def test_constant_features_have_no_weight():
    x, labels = problem("multi_label")
    x[:, 2] = 0
    weights, _ = LogisticRegression(x, labels, task="multi_label", num_classes=3).fit(0.01)
    np.testing.assert_allclose(weights[2], 0, atol=1e-9)
