"""A tagger's scores on a list, over the whole of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.datasets.features import FeatureBatch
from videotag.engine.losses import multi_label_loss
from videotag.metrics import TaggingMetrics


def evaluate_tagger(model: nn.Layer, batches: Iterable[FeatureBatch]) -> dict[str, Any]:
    """Metrics of a tagger, exact over all batches.

    Args:
        model: features and masks -> logits (N, C); it is switched to evaluation.
        batches: every video once.

    Returns:
        hit_at_one, perr, gap, mean_ap in [0, 1]; loss, the mean over videos of the cross-entropy summed
        over classes; num_videos; num_without_labels.
    """
    model.eval()
    metrics, loss = TaggingMetrics(), 0.0
    with paddle.no_grad():
        for batch in batches:
            logits = model(to_tensors(batch.features), to_tensors(batch.masks))
            loss += multi_label_loss(logits, paddle.to_tensor(batch.labels), "sum").item()
            metrics.update(F.sigmoid(logits).numpy(), batch.labels)
    result: dict[str, Any] = metrics.compute()
    result["loss"] = loss / max(1, result["num_videos"])
    return result


def to_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays by modality, such as a batch's features or masks, on the device."""
    return {name: paddle.to_tensor(x) for name, x in arrays.items()}
