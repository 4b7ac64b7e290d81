"""A tagger's scores on a list, over the whole of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.datasets.features import FeatureBatch
from videotag.engine.losses import multi_label_loss
from videotag.metrics import TaggingMetrics


class Observer(Protocol):
    """Looks at every batch of an evaluation, as the accumulators of videotag.metrics do."""

    def update(self, scores: np.ndarray, labels: np.ndarray, video_ids: Sequence[str], /) -> None:
        """Takes scores (N, C) in [0, 1], the labels as the task has them, and the N video ids."""


def evaluate_tagger(
    model: nn.Layer, batches: Iterable[FeatureBatch], *, observers: Sequence[Observer] = ()
) -> dict[str, Any]:
    """Metrics of a tagger, exact over all batches.

    Args:
        model: features and masks -> logits (N, C); it is switched to evaluation.
        batches: every video once.
        observers: each is given every batch: scores, labels (N, C) multi-hot, video ids.

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
            scores = F.sigmoid(logits).numpy()
            metrics.update(scores, batch.labels)
            for observer in observers:
                observer.update(scores, batch.labels, batch.video_ids)
    result: dict[str, Any] = metrics.compute()
    result["loss"] = loss / max(1, result["num_videos"])
    return result


def to_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays by modality, such as a batch's features or masks, on the device."""
    return {name: paddle.to_tensor(x) for name, x in arrays.items()}
