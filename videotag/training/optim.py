"""Optimizers, weight decay and learning rates, as VideoTag's files describe them."""

from __future__ import annotations

from typing import Any

from videotag.system.quiet_paddle import paddle

from paddle import optimizer
from paddle.regularizer import L2Decay

from videotag.sections import TrainSection

RMSPROP_RHO = 0.95
RMSPROP_EPSILON = 1e-6


def learning_rate(step: int, train: TrainSection, steps_per_epoch: int) -> float:
    """The rate of a step, counted from 0 over all epochs.

    It rises in a line over warmup_epochs, and is multiplied by decay_gamma after each of decay_epochs.

    Args:
        step: from 0.
        train: the TRAIN section.
        steps_per_epoch: of the counted list, so that decay happens on a small list too.
    """
    decays = sum(step >= epoch * steps_per_epoch for epoch in train.decay_epochs)
    rate = train.learning_rate * train.decay_gamma**decays
    warmup_steps = train.warmup_epochs * steps_per_epoch
    return rate * min(1.0, (step + 1) / warmup_steps) if warmup_steps else rate


def build_optimizer(model: paddle.nn.Layer, train: TrainSection) -> optimizer.Optimizer:
    """The optimizer of the TRAIN section over all parameters that train.

    L2 leaves out the biases of fully connected layers and norms; those of an LSTM are decayed, as in
    VideoTag.
    """
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            # Not a parameter group of its own: Paddle would clip each group by its own norm.
            parameter.regularizer = L2Decay(0.0)
    common: dict[str, Any] = {
        "learning_rate": train.learning_rate,
        "parameters": [p for p in model.parameters() if not p.stop_gradient],
        "weight_decay": L2Decay(train.weight_decay),
        "grad_clip": paddle.nn.ClipGradByGlobalNorm(train.clip_norm) if train.clip_norm else None,
    }
    if train.optimizer == "adam":
        return optimizer.Adam(**common)
    if train.optimizer == "momentum":
        return optimizer.Momentum(momentum=train.momentum, **common)
    return optimizer.RMSProp(rho=RMSPROP_RHO, epsilon=RMSPROP_EPSILON, centered=True, **common)
