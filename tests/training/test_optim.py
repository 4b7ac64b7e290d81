"""Learning rates, weight decay and the optimizers, against hand-made numbers."""

from __future__ import annotations

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.train_section import TrainSection
from videotag.training.optim import build_optimizer, learning_rate

nn = paddle.nn


def test_the_rate_falls_by_gamma_after_each_decay_epoch():
    train = TrainSection(learning_rate=0.8, decay_epochs=[2, 3], decay_gamma=0.5)
    rates = [learning_rate(step, train, steps_per_epoch=2) for step in range(8)]
    assert rates == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2])


def test_warm_up_rises_in_a_line_to_the_full_rate():
    train = TrainSection(learning_rate=1.0, decay_epochs=[9], warmup_epochs=1.5)
    rates = [learning_rate(step, train, steps_per_epoch=2) for step in range(4)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])


class Tiny(nn.Layer):
    """One weight and one bias of a fully connected layer, and an LSTM with its biases."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 1)
        self.lstm = nn.LSTM(1, 1)


def one_step(train, gradient=0.0):
    """Parameters by name before and after a step in which every gradient is `gradient`."""
    paddle.seed(0)
    model = Tiny()
    for parameter in model.parameters():
        parameter.set_value(paddle.full_like(parameter, 0.5))
    optimizer = build_optimizer(model, train)
    optimizer.set_lr(0.1)
    loss = sum((p * gradient).sum() for p in model.parameters())
    loss.backward()
    optimizer.step()
    return {name: p.numpy() for name, p in model.named_parameters()}


def test_weight_decay_spares_fully_connected_biases_but_not_those_of_an_lstm():
    train = TrainSection(optimizer="momentum", momentum=0.0, weight_decay=0.1)
    after = one_step(train)
    decayed = 0.5 - 0.1 * 0.1 * 0.5  # rate * L2 * weight
    np.testing.assert_allclose(after["fc.bias"], 0.5)
    np.testing.assert_allclose(after["fc.weight"], decayed)
    np.testing.assert_allclose(after["lstm.bias_ih_l0"], decayed)


def test_rmsprop_is_the_centred_one_of_the_sources():
    after = one_step(TrainSection(weight_decay=0.0), gradient=2.0)
    mean_square, mean = 0.05 * 4.0, 0.05 * 2.0  # rho 0.95
    expected = 0.5 - 0.1 * 2.0 / np.sqrt(mean_square - mean**2 + 1e-6)
    np.testing.assert_allclose(after["fc.weight"], expected, rtol=1e-5)


def test_clipping_scales_the_gradient_to_the_global_norm():
    train = TrainSection(optimizer="momentum", momentum=0.0, weight_decay=0.0, clip_norm=0.01)
    after = one_step(train, gradient=100.0)
    moved = np.concatenate([(0.5 - p).ravel() for p in after.values()]) / 0.1
    np.testing.assert_allclose(np.linalg.norm(moved), 0.01, rtol=1e-4)


def test_adam_moves_by_about_the_rate_at_first():
    after = one_step(TrainSection(optimizer="adam", weight_decay=0.0), gradient=3.0)
    np.testing.assert_allclose(after["fc.weight"], 0.5 - 0.1, rtol=1e-4)
