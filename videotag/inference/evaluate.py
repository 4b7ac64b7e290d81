"""A model's scores on a list, over the whole of it."""

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
from videotag.inputs.features import as_numbers, is_quantised
from videotag.metrics import SingleLabelMetrics, TaggingMetrics
from videotag.registry import LOGITS, MASK, ArraySpec, Task

#: The inputs of a batch -> arrays or tensors by name.
Run: TypeAlias = Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]

#: What chooses the best epoch of a task.
BEST_METRIC = {"multi_label": "gap", "single_label": "top1"}


class Observer(Protocol):
    """Looks at every batch of an evaluation, as the accumulators of videotag.metrics do."""

    def update(self, scores: np.ndarray, labels: np.ndarray, video_ids: Sequence[str], /) -> None:
        """Takes scores (N, C) in [0, 1], the labels as the task has them, and the N video ids."""

    def merge(self, other: Any, /) -> None:
        """Adds all that another one of its kind has seen."""


def evaluate(
    run: Run,
    batches: Iterable[Batch],
    *,
    task: Task = "multi_label",
    observers: Sequence[Observer] = (),
) -> dict[str, Any]:
    """Metrics of a model, exact over all batches; of several processes, over those of all.

    Args:
        run: The inputs of a batch -> LOGITS (N, C), such as TrainedModel.run or in_layers(network).
        batches: Every sample once.
        task: Task of the model.
        observers: Each is given every batch.

    Returns:
        hit_at_one, perr, gap, mean_ap, or top1 and top5 of a single-label task, in [0, 1]; loss, the mean
        over videos; num_videos; num_without_labels.
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
    """A model in its Paddle layers, evaluating: the inputs of a batch -> tensors by name."""
    model.eval()

    def run(inputs: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        outputs: Mapping[str, Any] = model(to_tensors(inputs, model.inputs))
        return outputs

    return run


def to_tensors(inputs: Mapping[str, np.ndarray], specs: Iterable[ArraySpec]) -> dict[str, Tensor]:
    """The arrays that a model declares, on the device; quantised features become numbers there.

    Args:
        inputs: Arrays of a batch by name.
        specs: Inputs of the model.
    """
    tensors = {}
    for spec in specs:
        x = inputs[spec.name]
        if is_quantised(x, spec):
            tensors[spec.name] = _dequantised(x, inputs[spec.name + MASK])
        else:
            tensors[spec.name] = paddle.to_tensor(x)
    return tensors


def _dequantised(x: np.ndarray, mask: np.ndarray) -> Tensor:
    """(N, T, D) float32 of quantised features, zero where masked; they cross to a GPU as bytes."""
    if paddle.get_device() == "cpu":
        return paddle.to_tensor(as_numbers(x, mask))
    real = paddle.to_tensor(mask).unsqueeze(-1).astype("float32")  # (N, T, 1)
    return (paddle.to_tensor(x).astype("float32") * DEQUANTIZE_SCALE + DEQUANTIZE_BIAS) * real


def _merge_processes(accumulator: Any) -> None:
    """Adds what the other processes' accumulators have seen."""
    for number, other in enumerate(all_gather(accumulator)):
        if number != rank():
            accumulator.merge(other)
