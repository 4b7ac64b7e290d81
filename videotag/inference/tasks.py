"""Loss and probabilities of each task, from logits.

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
        task: "multi_label" is binary cross-entropy summed over classes, as in VideoTag's tagger;
            "single_label" is softmax cross-entropy, as in VideoTag's TSN.
        logits: Logits (N, C) float32, N >= 1.
        labels: Targets (N, C) float32 in [0, 1], fractional for mixup or distillation; "single_label" also
            takes class ids (N,) int64.
        reduction: "sum" as in VideoTag's tagger, "mean" as in its TSN.
    """
    total = unreduced_loss(task, logits, labels).sum()
    return total if reduction == "sum" else total / logits.shape[0]


def unreduced_loss(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of a task before it is summed: (N, C) per video and class, or (N,) for "single_label".

    Args:
        task: Task, see task_loss.
        logits: Logits (N, C) float32.
        labels: Targets, see task_loss.
    """
    if task == "multi_label":
        # Paddle 3.3 computes the gradient p - y - 1 instead of p - y for a logit of exactly 0; the offset
        # leaves all other logits bitwise unchanged.
        return F.binary_cross_entropy_with_logits(logits + 1e-30, labels, reduction="none")
    if labels.ndim == 2:
        return paddle.logsumexp(logits, axis=1) - (labels * logits).sum(axis=1)
    # Not F.cross_entropy: on a CPU it clips a video's loss at 64, where the gradient vanishes.
    picked = paddle.take_along_axis(logits, labels.unsqueeze(1), axis=1).squeeze(1)  # (N,)
    return paddle.logsumexp(logits, axis=1) - picked


def task_scores(task: Task, logits: Tensor) -> Tensor:
    """Probabilities (N, C) of logits (N, C): sigmoid, or softmax for "single_label"."""
    return F.sigmoid(logits) if task == "multi_label" else F.softmax(logits, axis=-1)
