"""Batch norm over real steps, and vectors of unit length."""

from __future__ import annotations

import numpy as np

from videotag.models import paddle
from videotag.models.norms import MaskedBatchNorm, unit_length


def test_without_padding_it_is_paddles_batch_norm_in_training_and_afterwards():
    paddle.seed(0)
    ours, theirs = MaskedBatchNorm(3), paddle.nn.BatchNorm1D(3)
    x = paddle.randn([4, 5, 3]) * 2 + 1
    mask = paddle.ones([4, 5], dtype="bool")
    flat = x.reshape([-1, 3])
    np.testing.assert_allclose(ours(x, mask).reshape([-1, 3]).numpy(), theirs(flat).numpy(), atol=1e-5)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), atol=1e-6, err_msg=name)
    ours.eval(), theirs.eval()
    np.testing.assert_allclose(ours(x, mask).reshape([-1, 3]).numpy(), theirs(flat).numpy(), atol=1e-6)


def test_statistics_are_those_of_the_real_steps_even_beside_nan():
    layer = MaskedBatchNorm(1)
    x = paddle.to_tensor([[[1.0], [3.0], [float("nan")]], [[5.0], [99.0], [99.0]]])
    mask = paddle.to_tensor([[True, True, False], [True, False, False]])
    y = layer(x, mask).numpy()
    expected = (np.array([1.0, 3.0, 5.0]) - 3.0) / np.sqrt(8 / 3 + 1e-5)
    np.testing.assert_allclose([y[0, 0, 0], y[0, 1, 0], y[1, 0, 0]], expected, rtol=1e-5)
    np.testing.assert_allclose(layer.state_dict()["_mean"].numpy(), [0.1 * 3.0], rtol=1e-6)
    np.testing.assert_allclose(layer.state_dict()["_variance"].numpy(), [0.9 + 0.1 * 8 / 3], rtol=1e-6)


def test_a_single_real_step_is_normalised_to_zero():
    layer = MaskedBatchNorm(2)
    y = layer(paddle.to_tensor([[[7.0, -2.0], [9.0, 9.0]]]), paddle.to_tensor([[True, False]]))
    assert y[0, 0].numpy().tolist() == [0.0, 0.0]


def test_unit_length_leaves_zeros_with_a_finite_gradient():
    x = paddle.to_tensor([[3.0, 4.0], [0.0, 0.0]], stop_gradient=False)
    y = unit_length(x)
    np.testing.assert_allclose(y.numpy(), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    y.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
