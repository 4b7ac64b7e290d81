"""Optimizers, weight decay, number of epochs and learning rate schedules of TRAIN sections."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from videotag.system.quiet_paddle import paddle

from paddle import optimizer
from paddle.regularizer import L2Decay

from videotag.train_section import TrainSection

RMSPROP_RHO = 0.95
RMSPROP_EPSILON = 1e-6
Section = TypeVar("Section", bound=TrainSection)


def with_num_epochs(train: Section, steps_per_epoch: int) -> Section:
    """A TRAIN section whose `epoch` reaches `min_steps`, with decay_epochs scaled alike; 1 epoch of "lbfgs".

    Args:
        train: TRAIN section.
        steps_per_epoch: Number of steps per epoch of the list.
    """
    if train.optimizer == "lbfgs":
        return train.model_copy(update={"epoch": 1})
    epochs = max(train.epoch, math.ceil((train.min_steps or 0) / steps_per_epoch))
    if epochs == train.epoch:
        return train
    decay_epochs = train.decay_epochs
    if train.schedule == "step":
        decay_epochs = [max(1, round(epoch * epochs / train.epoch)) for epoch in train.decay_epochs]
    return train.model_copy(update={"epoch": epochs, "decay_epochs": decay_epochs})


def learning_rate(step: int, train: TrainSection, steps_per_epoch: int) -> float:
    """The learning rate of a step.

    It increases linearly over warmup_epochs. By "step" it is multiplied by decay_gamma after each of
    decay_epochs; by "cosine" it decreases to 0 at the end of the run.

    Args:
        step: Index of the step over all epochs, from 0.
        train: TRAIN section, whose learning_rate is a number.
        steps_per_epoch: Number of steps per epoch of the actual list, not of TRAIN.num_samples.
    """
    initial = float(train.learning_rate)
    warmup_steps = train.warmup_epochs * steps_per_epoch
    if train.schedule == "cosine":
        after_warmup = max(1.0, train.epoch * steps_per_epoch - warmup_steps)
        done = min(1.0, max(0.0, step - warmup_steps) / after_warmup)
        rate = initial * 0.5 * (1 + math.cos(math.pi * done))
    else:
        decays = sum(step >= epoch * steps_per_epoch for epoch in train.decay_epochs)
        rate = initial * train.decay_gamma**decays
    return rate * min(1.0, (step + 1) / warmup_steps) if warmup_steps else rate


def build_optimizer(model: paddle.nn.Layer, train: TrainSection) -> optimizer.Optimizer:
    """The optimizer of the TRAIN section for all trainable parameters; its learning rate is set per step.

    Weight decay does not apply to biases of fully connected layers and norms; like VideoTag, it applies to
    those of LSTMs.

    Args:
        model: Network, whose biases are marked as not decayed.
        train: TRAIN section, whose optimizer is not "lbfgs".
    """
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            # No separate parameter group, because Paddle clips each group by its own norm.
            parameter.regularizer = L2Decay(0.0)
    common: dict[str, Any] = {
        "learning_rate": 0.0,
        "parameters": [p for p in model.parameters() if not p.stop_gradient],
        "weight_decay": L2Decay(train.weight_decay),
        "grad_clip": paddle.nn.ClipGradByGlobalNorm(train.clip_norm) if train.clip_norm else None,
    }
    if train.optimizer == "adam":
        return optimizer.Adam(**common)
    if train.optimizer == "momentum":
        return optimizer.Momentum(momentum=train.momentum, **common)
    return optimizer.RMSProp(rho=RMSPROP_RHO, epsilon=RMSPROP_EPSILON, centered=True, **common)
