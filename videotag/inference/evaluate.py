"""Exact metrics of a model over a whole list.

Shapes: N samples of a batch, T steps, D feature width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from videotag.system.quiet_paddle import paddle

import numpy as np
from paddle import Tensor, nn

from videotag.datasets.batches import Batch
from videotag.formats.yt8m_records import DEQUANTIZE_BIAS, DEQUANTIZE_SCALE
from videotag.inference.parallel import all_gather, broadcast, rank
from videotag.inference.tasks import task_loss, task_scores
from videotag.inputs.features import as_numbers
from videotag.inputs.reader import is_quantized
from videotag.metrics import SingleLabelMetrics, TaggingMetrics
from videotag.registry import LOGITS, MASK, ArraySpec, Task

#: Inputs of a batch by name -> outputs (arrays or tensors) by name.
Run: TypeAlias = Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]

#: Metric that selects the best epoch, by task.
BEST_METRIC = {"multi_label": "gap", "single_label": "top1"}


class Observer(Protocol):
    """Receives every batch of an evaluation, like the accumulators of videotag.metrics."""

    def update(self, scores: np.ndarray, labels: np.ndarray, video_ids: Sequence[str], /) -> None:
        """Adds a batch.

        Args:
            scores: Probabilities (N, C) float32 in [0, 1].
            labels: (N, C) in {0, 1} for a multi-label task; (N,) int64 class ids for a single-label one.
            video_ids: N video ids.
        """

    def merge(self, other: Any, /) -> None:
        """Adds everything that another observer of the same class has seen."""


def evaluate(
    run: Run,
    batches: Iterable[Batch],
    *,
    task: Task = "multi_label",
    observers: Sequence[Observer] = (),
) -> dict[str, Any]:
    """Metrics of a model, exact over all batches of all processes.

    Args:
        run: Maps the inputs of a batch to LOGITS (N, C), such as TrainedModel.run or in_layers(model).
        batches: Batches that hold every sample once.
        task: Task of the model.
        observers: Objects that receive every batch.

    Returns:
        hit_at_one, perr, gap and mean_ap, or top1, top5 (with more than 5 classes) and mean_ap for a
        single-label task, all in [0, 1]; loss, the mean over videos, 0.0 without videos; num_videos;
        num_without_labels.
    """
    metrics: Any = TaggingMetrics() if task == "multi_label" else SingleLabelMetrics()
    loss = 0.0
    with paddle.no_grad():
        for batch in batches:
            logits = run(batch.inputs)[LOGITS]
            logits = logits if paddle.is_tensor(logits) else paddle.to_tensor(logits)
            loss += task_loss(task, logits, paddle.to_tensor(batch.labels), "sum").item()
            scores = task_scores(task, logits).numpy()
            metrics.update(scores, batch.labels)
            for observer in observers:
                observer.update(scores, batch.labels, batch.ids)
    for accumulator in (metrics, *observers):
        _merge_processes(accumulator)
    result: dict[str, Any] = metrics.compute()
    result["loss"] = sum(all_gather(loss)) / max(1, result["num_videos"])
    return broadcast(result)


def in_layers(model: nn.Layer) -> Run:
    """Wraps a Paddle model, switched to evaluation mode, as a function from arrays to tensors by name."""
    model.eval()

    def run(inputs: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        outputs: Mapping[str, Any] = model(to_tensors(inputs, model.inputs))
        return outputs

    return run


def to_tensors(inputs: Mapping[str, np.ndarray], specs: Iterable[ArraySpec]) -> dict[str, Tensor]:
    """The arrays that a model declares, as tensors on the device; quantized features become float32 there.

    Args:
        inputs: Arrays (N, ...) of a batch by name; undeclared ones are dropped.
        specs: Inputs that the model declares.

    Raises:
        KeyError: The batch lacks a declared input, or the mask of a quantized one.
    """
    tensors = {}
    for spec in specs:
        x = inputs[spec.name]
        if is_quantized(x, spec):
            tensors[spec.name] = _dequantized(x, inputs[spec.name + MASK])
        else:
            tensors[spec.name] = paddle.to_tensor(x)
    return tensors


def _dequantized(x: np.ndarray, mask: np.ndarray) -> Tensor:
    """Quantized features as (N, T, D) float32, zero where masked; the transfer to a GPU is uint8."""
    if paddle.get_device() == "cpu":
        return paddle.to_tensor(as_numbers(x, mask))
    real = paddle.to_tensor(mask).unsqueeze(-1).astype("float32")  # (N, T, 1)
    return (paddle.to_tensor(x).astype("float32") * DEQUANTIZE_SCALE + DEQUANTIZE_BIAS) * real


def _merge_processes(accumulator: Any) -> None:
    """Merges the accumulators of the other processes into this one."""
    for number, other in enumerate(all_gather(accumulator)):
        if number != rank():
            accumulator.merge(other)
