"""Optimizers, weight decay and learning rate schedules of TRAIN sections."""

from __future__ import annotations

from typing import Any

from videotag.system.quiet_paddle import paddle

from paddle import optimizer
from paddle.regularizer import L2Decay

from videotag.sections import TrainSection

RMSPROP_RHO = 0.95
RMSPROP_EPSILON = 1e-6


def learning_rate(step: int, train: TrainSection, steps_per_epoch: int) -> float:
    """The learning rate of a step.

    It increases linearly over warmup_epochs and is multiplied by decay_gamma after each of decay_epochs.

    Args:
        step: Index of the step over all epochs, from 0.
        train: TRAIN section.
        steps_per_epoch: Number of steps per epoch of the actual list, not of TRAIN.num_samples.
    """
    decays = sum(step >= epoch * steps_per_epoch for epoch in train.decay_epochs)
    rate = train.learning_rate * train.decay_gamma**decays
    warmup_steps = train.warmup_epochs * steps_per_epoch
    return rate * min(1.0, (step + 1) / warmup_steps) if warmup_steps else rate


def build_optimizer(model: paddle.nn.Layer, train: TrainSection) -> optimizer.Optimizer:
    """The optimizer of the TRAIN section for all trainable parameters.

    Weight decay does not apply to biases of fully connected layers and norms; like VideoTag, it applies to
    those of LSTMs.
    """
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            # No separate parameter group, because Paddle clips each group by its own norm.
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
