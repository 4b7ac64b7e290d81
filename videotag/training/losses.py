"""Losses that TRAIN.loss may select instead of the task's default.

Shapes: N videos, C classes.
"""

from __future__ import annotations

import math

from videotag.system.quiet_paddle import paddle

import paddle.nn.functional as F
from paddle import Tensor


def asymmetric_loss(logits: Tensor, labels: Tensor, *, gamma: tuple[float, float], clip: float) -> Tensor:
    """Asymmetric loss for multi-label tagging, a scalar summed over videos and classes.

    -y (1 - p)^gamma[0] log(p) - (1 - y) q^gamma[1] log(1 - q), with p = sigmoid(logit), q = max(p - clip, 0).
    Equals binary cross-entropy if gamma and clip are 0. Loss and gradients are finite for finite logits.

    Args:
        logits: (N, C).
        labels: (N, C) in [0, 1].
        gamma: Focusing exponents of positive and negative labels, both at least 0.
        clip: Margin in [0, 1); negative labels with a probability up to it have no loss.

    Source: arXiv:2009.14119, whose defaults are gamma (0, 4) and clip 0.05.
    """
    log_p, log_not_p = F.log_sigmoid(logits), F.log_sigmoid(-logits)
    present = paddle.exp(gamma[0] * log_not_p) * log_p
    if clip:
        q = F.sigmoid(logits) - clip
        log_q = paddle.log(paddle.where(q > 0, q, paddle.ones_like(q)))
        log_not_q = paddle.logaddexp(log_not_p, paddle.full_like(logits, math.log(clip)))
        absent = paddle.exp(gamma[1] * log_q) * log_not_q
        absent = paddle.where(q > 0, absent, paddle.zeros_like(absent))
    else:
        absent = paddle.exp(gamma[1] * log_p) * log_not_p
    return -(labels * present + (1 - labels) * absent).sum()
