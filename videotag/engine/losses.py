"""The losses of multi-label tagging and of classification.

Shapes: N videos, C classes.
"""

from __future__ import annotations

from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from videotag.registry import Task


def task_loss(task: Task, logits: Tensor, labels: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
    """The loss of a task, averaged ("mean") or summed ("sum") over the batch: shape ().

    Args:
        task: "multi_label": binary cross-entropy summed over classes, as VideoTag's tagger; "single_label":
            cross-entropy with softmax, as VideoTag's TSN.
        logits: (N, C).
        labels: (N, C) in {0, 1}, or (N,) int64 for "single_label".
        reduction: VideoTag's tagger sums, its TSN averages.
    """
    if task == "multi_label":
        total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    else:
        # Not F.cross_entropy: on a CPU it holds the loss of a video at 64 at most, and its gradient at 0.
        picked = paddle.take_along_axis(logits, labels.unsqueeze(1), axis=1).squeeze(1)  # (N,)
        total = (paddle.logsumexp(logits, axis=1) - picked).sum()
    return total if reduction == "sum" else total / logits.shape[0]


def task_scores(task: Task, logits: Tensor) -> Tensor:
    """Probabilities (N, C) of logits (N, C): sigmoid, or softmax for "single_label"."""
    return F.sigmoid(logits) if task == "multi_label" else F.softmax(logits, axis=-1)
