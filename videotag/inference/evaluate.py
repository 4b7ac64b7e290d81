"""A model's scores on a list, over the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from videotag.system.quiet_paddle import paddle

import numpy as np
from paddle import Tensor, nn

from videotag.datasets.batches import Batch
from videotag.datasets.feature_dataset import as_numbers
from videotag.formats.yt8m_records import DEQUANTIZE_BIAS, DEQUANTIZE_SCALE
from videotag.inference.parallel import all_gather, broadcast, rank
from videotag.inference.tasks import task_loss, task_scores
from videotag.metrics import SingleLabelMetrics, TaggingMetrics
from videotag.registry import Task

#: A network that runs elsewhere than in its layers: a batch's inputs -> logits (N, C).
LogitsOf: TypeAlias = Callable[[tuple[Any, ...]], np.ndarray]

#: What chooses the best epoch of a task.
BEST_METRIC = {"multi_label": "gap", "single_label": "top1"}


class Observer(Protocol):
    """Looks at every batch of an evaluation, as the accumulators of videotag.metrics do."""

    def update(self, scores: np.ndarray, labels: np.ndarray, video_ids: Sequence[str], /) -> None:
        """Takes scores (N, C) in [0, 1], the labels as the task has them, and the N video ids."""

    def merge(self, other: Any, /) -> None:
        """Adds all that another one of its kind has seen."""


def evaluate(
    model: nn.Layer | LogitsOf,
    batches: Iterable[Batch],
    *,
    task: Task = "multi_label",
    observers: Sequence[Observer] = (),
) -> dict[str, Any]:
    """Metrics of a model, exact over all batches; of several processes, over those of all.

    Args:
        model: a batch's inputs -> logits (N, C); layers are switched to evaluation.
        batches: every video once.
        task: of the model.
        observers: each is given every batch.

    Returns:
        hit_at_one, perr, gap, mean_ap, or top1 and top5 of a single-label task, in [0, 1]; loss, the mean
        over videos; num_videos; num_without_labels.
    """
    if isinstance(model, nn.Layer):
        model.eval()
    metrics: Any = TaggingMetrics() if task == "multi_label" else SingleLabelMetrics()
    loss = 0.0
    with paddle.no_grad():
        for batch in batches:
            if isinstance(model, nn.Layer):
                logits = model(*to_tensors(batch.inputs))
            else:
                logits = paddle.to_tensor(model(batch.inputs))
            loss += task_loss(task, logits, paddle.to_tensor(batch.labels), "sum").item()
            scores = task_scores(task, logits).numpy()
            metrics.update(scores, batch.labels)
            for observer in observers:
                observer.update(scores, batch.labels, batch.video_ids)
    for accumulator in (metrics, *observers):
        _merge_processes(accumulator)
    result: dict[str, Any] = metrics.compute()
    result["loss"] = sum(all_gather(loss)) / max(1, result["num_videos"])
    return broadcast(result)


def to_tensors(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A batch's inputs on the device; features that are bytes become numbers there, zero where masked."""
    if isinstance(inputs[0], np.ndarray):
        return tuple(paddle.to_tensor(array) for array in inputs)
    features, masks = inputs
    on_cpu = paddle.get_device() == "cpu"
    return (
        {name: _feature_tensor(x, masks[name], on_cpu=on_cpu) for name, x in features.items()},
        {name: paddle.to_tensor(mask) for name, mask in masks.items()},
    )


def _feature_tensor(x: np.ndarray, mask: np.ndarray, *, on_cpu: bool) -> Tensor:
    """(N, T, D) float32 of features; quantised ones cross to a GPU as bytes."""
    if x.dtype != np.uint8:
        return paddle.to_tensor(x)
    if on_cpu:
        return paddle.to_tensor(as_numbers(x, mask))
    real = paddle.to_tensor(mask).unsqueeze(-1).astype("float32")  # (N, T, 1)
    return (paddle.to_tensor(x).astype("float32") * DEQUANTIZE_SCALE + DEQUANTIZE_BIAS) * real


def _merge_processes(accumulator: Any) -> None:
    """Adds what the other processes' accumulators have seen."""
    for number, other in enumerate(all_gather(accumulator)):
        if number != rank():
            accumulator.merge(other)
