"""A model's scores on a list, over the whole of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import paddle
from paddle import nn

from videotag.datasets.batches import Batch
from videotag.engine.losses import task_loss, task_scores
from videotag.metrics import SingleLabelMetrics, TaggingMetrics
from videotag.registry import Task

#: What chooses the best epoch of a task.
BEST_METRIC = {"multi_label": "gap", "single_label": "top1"}


class Observer(Protocol):
    """Looks at every batch of an evaluation, as the accumulators of videotag.metrics do."""

    def update(self, scores: np.ndarray, labels: np.ndarray, video_ids: Sequence[str], /) -> None:
        """Takes scores (N, C) in [0, 1], the labels as the task has them, and the N video ids."""


def evaluate(
    model: nn.Layer,
    batches: Iterable[Batch],
    *,
    task: Task = "multi_label",
    observers: Sequence[Observer] = (),
) -> dict[str, Any]:
    """Metrics of a model, exact over all batches.

    Args:
        model: a batch's inputs -> logits (N, C); it is switched to evaluation.
        batches: every video once.
        task: of the model.
        observers: each is given every batch.

    Returns:
        hit_at_one, perr, gap, mean_ap, or top1 and top5 of a single-label task, in [0, 1]; loss, the mean
        over videos; num_videos; num_without_labels.
    """
    model.eval()
    metrics: Any = TaggingMetrics() if task == "multi_label" else SingleLabelMetrics()
    loss = 0.0
    with paddle.no_grad():
        for batch in batches:
            logits = model(*to_tensors(batch.inputs))
            loss += task_loss(task, logits, paddle.to_tensor(batch.labels), "sum").item()
            scores = task_scores(task, logits).numpy()
            metrics.update(scores, batch.labels)
            for observer in observers:
                observer.update(scores, batch.labels, batch.video_ids)
    result: dict[str, Any] = metrics.compute()
    result["loss"] = loss / max(1, result["num_videos"])
    return result


def to_tensors(inputs: Any) -> Any:
    """Arrays, in tuples or dicts or by themselves, as tensors on the device."""
    if isinstance(inputs, np.ndarray):
        return paddle.to_tensor(inputs)
    if isinstance(inputs, dict):
        return {name: to_tensors(value) for name, value in inputs.items()}
    return tuple(to_tensors(value) for value in inputs)
