"""Reversal, softmax and the bidirectional LSTM on padded sequences."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.models import paddle
from videotag.models.sequence import (
    BiLSTM,
    last_step,
    masked_max,
    masked_mean,
    masked_softmax,
    reversed_order,
    take_steps,
)

MASK = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)


def test_every_sequence_is_reversed_within_its_own_length():
    x = paddle.to_tensor(np.array([[1, 2, 3, 9], [1, 2, 3, 4], [1, 9, 9, 9]], np.float32)[..., None])
    order = reversed_order(paddle.to_tensor(MASK))
    turned = take_steps(x, order)
    assert turned.squeeze(-1).numpy().tolist() == [[3, 2, 1, 9], [4, 3, 2, 1], [1, 9, 9, 9]]
    assert np.array_equal(take_steps(turned, order).numpy(), x.numpy())


def test_softmax_of_huge_logits_is_finite_and_ignores_padding():
    logits = paddle.to_tensor(np.array([[1e4, 1e4, -1e4, 2e4]], np.float32))
    weights = masked_softmax(logits, paddle.to_tensor(MASK[:1])).numpy()
    np.testing.assert_allclose(weights, [[0.5, 0.5, 0.0, 0.0]])


def test_softmax_of_several_columns_is_that_of_each():
    logits = paddle.randn([3, 4, 2, 2])
    weights = masked_softmax(logits, paddle.to_tensor(MASK)).numpy()
    column = masked_softmax(logits[:, :, 1, 0], paddle.to_tensor(MASK)).numpy()
    np.testing.assert_allclose(weights[:, :, 1, 0], column, rtol=1e-6)


@pytest.mark.parametrize(
    ("pool", "expected"), [(masked_mean, [-2.0, 0.0]), (masked_max, [-1.0, 0.0]), (last_step, [-3.0, 0.0])]
)
def test_pooling_reads_real_steps_only_and_gives_zero_without_any(pool, expected):
    x = paddle.to_tensor([[[-1.0], [-3.0], [float("nan")]], [[float("nan")]] * 3])
    mask = paddle.to_tensor([[True, True, False], [False, False, False]])
    assert pool(x, mask).numpy()[:, 0].tolist() == expected


def test_softmax_of_a_row_without_real_steps_is_zero():
    weights = masked_softmax(paddle.ones([1, 3]), paddle.zeros([1, 3], dtype="bool"))
    assert weights.numpy().tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_bidirectional_lstm_equals_paddles_own_on_an_unpadded_sequence(length):
    paddle.seed(0)
    ours = BiLSTM(3, 4)
    theirs = paddle.nn.LSTM(3, 4, direction="bidirect")
    for name, parameter in ours.named_parameters():
        direction, weight = name.split(".", 1)
        suffix = "_reverse" if direction == "backward_lstm" else ""
        theirs.state_dict()[weight + suffix].set_value(parameter)
    x = paddle.randn([2, length, 3])
    expected, _ = theirs(x)
    mask = paddle.ones([2, length], dtype="bool")
    np.testing.assert_allclose(ours(x, mask).numpy(), expected.numpy(), atol=1e-6)
