"""Losses of hard and soft labels against plain NumPy, and at logits where naive formulas break."""

from __future__ import annotations

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.inference.tasks import task_loss
from videotag.train_section import FeatureTrainSection
from videotag.training.losses import TrainingLoss, asymmetric_loss


def asymmetric_oracle(logits, labels, gamma, clip):
    """The formula of arXiv:2009.14119 as it is printed, in double precision, for moderate logits."""
    total = 0.0
    for x, y in zip(logits.astype(np.float64).ravel(), labels.astype(np.float64).ravel(), strict=True):
        p = 1 / (1 + np.exp(-x))
        shifted = max(p - clip, 0.0)
        present = (1 - p) ** gamma[0] * np.log(p)
        absent = shifted ** gamma[1] * np.log(1 - shifted)
        total -= y * present + (1 - y) * absent
    return total


def value_and_gradient(loss_of, logits):
    x = paddle.to_tensor(logits.astype(np.float32), stop_gradient=False)
    loss = loss_of(x)
    loss.backward()
    return loss.item(), x.grad.numpy()


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize(
    ("gamma", "clip"),
    [((0.0, 4.0), 0.05), ((1.0, 2.0), 0.0), ((0.5, 0.5), 0.2), ((0.0, 0.0), 0.1), ((3.0, 0.0), 0.0)],
)
def test_asymmetric_loss_and_its_gradient_follow_the_formula(gamma, clip, soft):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (4, 5))
    logits[0, 0] = 0.0
    labels = rng.random((4, 5)) if soft else rng.integers(0, 2, (4, 5)).astype(float)
    labels32 = paddle.to_tensor(labels.astype(np.float32))
    loss, gradient = value_and_gradient(
        lambda x: asymmetric_loss(x, labels32, gamma=gamma, clip=clip), logits
    )
    assert loss == pytest.approx(asymmetric_oracle(logits, labels, gamma, clip), rel=1e-5)
    step = 1e-6
    for i in np.ndindex(4, 5):
        high, low = logits.copy(), logits.copy()
        high[i] += step
        low[i] -= step
        slope = asymmetric_oracle(high, labels, gamma, clip) - asymmetric_oracle(low, labels, gamma, clip)
        assert gradient[i] == pytest.approx(slope / (2 * step), rel=1e-3, abs=1e-5)


def test_asymmetric_loss_by_hand():
    # p = 0.5 everywhere. There: 0.5^1 log 2. Not there: q = 0.25, 0.25^2 * -log 0.75.
    loss = asymmetric_loss(paddle.zeros([1, 2]), paddle.to_tensor([[1.0, 0.0]]), gamma=(1, 2), clip=0.25)
    assert loss.item() == pytest.approx(0.5 * np.log(2) - 0.0625 * np.log(0.75))


def test_asymmetric_loss_without_gammas_and_clip_is_binary_cross_entropy():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 50, (3, 4))
    labels = paddle.to_tensor(rng.random((3, 4)).astype(np.float32))
    ours = value_and_gradient(lambda x: asymmetric_loss(x, labels, gamma=(0, 0), clip=0), logits)
    plain = value_and_gradient(lambda x: task_loss("multi_label", x, labels, "sum"), logits)
    assert ours[0] == pytest.approx(plain[0], rel=1e-6)
    np.testing.assert_allclose(ours[1], plain[1], atol=1e-6)


@pytest.mark.parametrize("clip", [0.0, 1e-30, 0.05])
@pytest.mark.parametrize("gamma", [(0.0, 0.0), (0.0, 4.0), (0.5, 0.5), (2.0, 1.0)])
def test_asymmetric_loss_of_extreme_logits_is_finite_with_finite_gradients(gamma, clip):
    logits = np.array([[-1e5, -104, -95, -90, -60, -17, 0, 17, 60, 90, 95, 104, 1e5]])
    for label in (0.0, 0.5, 1.0):
        labels = paddle.full([1, logits.shape[1]], label)
        loss, gradient = value_and_gradient(
            lambda x, y=labels: asymmetric_loss(x, y, gamma=gamma, clip=clip), logits
        )
        assert np.isfinite(loss)
        assert np.all(np.isfinite(gradient))
    # What is wrong by far costs: a tag that is there at -1e5, as much as binary cross-entropy.
    wrong = asymmetric_loss(paddle.full([1, 1], -1e5), paddle.ones([1, 1]), gamma=gamma, clip=clip)
    assert wrong.item() == pytest.approx(1e5)


def test_a_logit_of_exactly_zero_has_the_gradient_of_its_neighbours():
    labels = paddle.to_tensor([[1.0, 0.0, 0.25]])
    _, gradient = value_and_gradient(lambda x: task_loss("multi_label", x, labels, "sum"), np.zeros((1, 3)))
    np.testing.assert_allclose(gradient, [[-0.5, 0.5, 0.25]])


def test_a_weighted_logit_of_exactly_zero_has_the_weighted_gradient():
    section = FeatureTrainSection(class_weights="balanced")
    loss = TrainingLoss(section, "multi_label", np.array([6, 3, 2]))  # weights 1, 2 and 3 of positives
    labels = paddle.to_tensor([[1.0, 1.0, 0.0]])
    _, gradient = value_and_gradient(lambda x: loss(x, labels), np.zeros((1, 3)))
    np.testing.assert_allclose(gradient, [[-0.5, -1.0, 0.5]])


def test_losses_take_shares_as_labels():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -200.0]])
    shares = np.array([[0.25, 0.0, 0.75], [0.5, 0.5, 0.0]])
    x, y = (paddle.to_tensor(a.astype(np.float32)) for a in (logits, shares))
    p = 1 / (1 + np.exp(-logits[0]))
    expected = -(shares[0] * np.log(p) + (1 - shares[0]) * np.log(1 - p)).sum()
    assert task_loss("multi_label", x[:1], y[:1], "sum").item() == pytest.approx(expected, rel=1e-6)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -(shares * log_softmax).sum()
    assert task_loss("single_label", x, y, "sum").item() == pytest.approx(expected, rel=1e-6)
    hard = task_loss("single_label", x, paddle.to_tensor(np.array([2, 1])), "mean")
    one_hot = paddle.to_tensor(np.eye(3, dtype=np.float32)[[2, 1]])
    assert task_loss("single_label", x, one_hot, "mean").item() == pytest.approx(hard.item(), rel=1e-6)
