"""Mixture of experts against its formula in NumPy, at ordinary and at extreme values."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.models import paddle
from videotag.models.moe import MixtureOfExperts, MoE, MoEConfig


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def mixed_probability(head, x):
    """Of one vector (D,): for each class the gates' softmax over experts, the last of which says no."""
    p = {name: value.numpy().astype(np.float64) for name, value in head.state_dict().items()}
    result = []
    for c in range(p["gates"].shape[2]):
        gates = np.exp([x @ gate[:, c] for gate in p["gates"]])
        gates /= gates.sum()
        experts = [sigmoid(x @ w[:, c] + b[0, c]) for w, b in zip(p["experts"], p["bias"], strict=True)]
        result.append(sum(g * e for g, e in zip(gates, [*experts, 0.0], strict=True)))
    return np.array(result)


@pytest.mark.parametrize("mixtures", [1, 2, 3])
def test_the_sigmoid_of_the_logits_is_the_mixed_probability(mixtures):
    paddle.seed(0)
    head = MixtureOfExperts(5, 4, mixtures)
    head.bias.set_value(paddle.randn(head.bias.shape))
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    expected = [mixed_probability(head, row) for row in x]
    np.testing.assert_allclose(sigmoid(head(paddle.to_tensor(x)).numpy()), expected, rtol=1e-5)


def test_logits_and_gradients_stay_finite_where_the_probability_rounds_to_zero_or_one():
    head = MixtureOfExperts(1, 2, 1)
    head.gates.set_value(paddle.to_tensor([[[0.5, 0.5]], [[-0.5, -0.5]]]))
    head.experts.set_value(paddle.to_tensor([[[1.0, -1.0]]]))
    logits = head(paddle.to_tensor([[500.0]]))
    np.testing.assert_allclose(logits.numpy(), [[499.3069, -500.0]], rtol=1e-5)  # log 2: expert and plain no
    logits.sum().backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in head.parameters())


def test_moe_is_the_head_over_the_mean_of_real_steps():
    paddle.seed(0)
    model = MoE(MoEConfig(name="MoE", feature_dims=[3], num_classes=4))
    x = np.random.default_rng(1).standard_normal((1, 5, 3)).astype(np.float32)
    mask = np.array([[True, True, True, False, False]])
    logits = model({"rgb": paddle.to_tensor(x), "rgb.mask": paddle.to_tensor(mask)})["logits"]
    np.testing.assert_allclose(
        sigmoid(logits.numpy()[0]), mixed_probability(model.output, x[0, :3].mean(axis=0)), rtol=1e-5
    )
