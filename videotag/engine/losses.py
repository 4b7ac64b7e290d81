"""The loss of multi-label tagging.

Shapes: N videos, C classes.
"""

from __future__ import annotations

from typing import Literal

import paddle.nn.functional as F
from paddle import Tensor


def multi_label_loss(logits: Tensor, labels: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
    """Binary cross-entropy summed over classes; averaged ("mean") or summed ("sum") over the batch.

    Args:
        logits: (N, C).
        labels: (N, C) in {0, 1}.
        reduction: "sum" is VideoTag's.
    """
    total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    return total if reduction == "sum" else total / logits.shape[0]
