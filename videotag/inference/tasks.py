"""What a task makes of logits: the loss, and probabilities.

Shapes: N videos, C classes.
"""

from __future__ import annotations

from typing import Literal

from videotag.system.quiet_paddle import paddle

import paddle.nn.functional as F
from paddle import Tensor

from videotag.registry import Task


def task_loss(task: Task, logits: Tensor, labels: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
    """The loss of a task, averaged ("mean") or summed ("sum") over the batch: shape ().

    Args:
        task: "multi_label": binary cross-entropy summed over classes, as VideoTag's tagger; "single_label":
            cross-entropy with softmax, as VideoTag's TSN.
        logits: (N, C).
        labels: (N, C) in [0, 1], shares where videos are mixed or a teacher speaks; or (N,) int64 for
            "single_label".
        reduction: VideoTag's tagger sums, its TSN averages.
    """
    if task == "multi_label":
        # Paddle 3.3 gives a logit of exactly 0 a gradient of p - y - 1 instead of p - y; all others stay as
        # they are to the last bit.
        total = F.binary_cross_entropy_with_logits(logits + 1e-30, labels, reduction="sum")
    elif labels.ndim == 2:
        total = (paddle.logsumexp(logits, axis=1) - (labels * logits).sum(axis=1)).sum()
    else:
        # Not F.cross_entropy: on a CPU it holds the loss of a video at 64 at most, and its gradient at 0.
        picked = paddle.take_along_axis(logits, labels.unsqueeze(1), axis=1).squeeze(1)  # (N,)
        total = (paddle.logsumexp(logits, axis=1) - picked).sum()
    return total if reduction == "sum" else total / logits.shape[0]


def task_scores(task: Task, logits: Tensor) -> Tensor:
    """Probabilities (N, C) of logits (N, C): sigmoid, or softmax for "single_label"."""
    return F.sigmoid(logits) if task == "multi_label" else F.softmax(logits, axis=-1)
