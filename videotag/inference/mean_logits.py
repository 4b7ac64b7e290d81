"""Averages the probabilities of several networks, given and returned as logits.

The same formula serves arrays and tensors. It works in log space, so that confident predictions stay finite.
Shapes: N samples, C classes, K networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from videotag.registry import Task


@dataclass(frozen=True)
class Operations:
    """The operations of an array library that the formula needs.

    Attributes:
        log_sigmoid: log(sigmoid(x)), elementwise.
        log_softmax: log(softmax(x)) over the last axis.
        log_mean: Logarithm of the mean of K arrays, which are given as logarithms.
    """

    log_sigmoid: Callable[[Any], Any]
    log_softmax: Callable[[Any], Any]
    log_mean: Callable[[Sequence[Any]], Any]


def mean_logits(logits: Sequence[Any], task: Task, operations: Operations) -> Any:
    """Logits (N, C) of the mean probability p: log(p / (1 - p)), or log(p) for a single-label task.

    Args:
        logits: K >= 1 float arrays or tensors (N, C).
        task: Task of the networks; selects sigmoid or softmax.
        operations: Operations of the library that the arrays belong to.
    """
    if task == "single_label":
        return operations.log_mean([operations.log_softmax(x) for x in logits])
    present = operations.log_mean([operations.log_sigmoid(x) for x in logits])
    return present - operations.log_mean([operations.log_sigmoid(-x) for x in logits])


#: Operations for NumPy; float64 inputs make the result exact to the last bit of float32.
NUMPY = Operations(
    log_sigmoid=lambda x: -np.logaddexp(0, -x),
    log_softmax=lambda x: x - np.logaddexp.reduce(x, axis=-1, keepdims=True),
    log_mean=lambda logs: np.logaddexp.reduce(np.stack(logs)) - np.log(len(logs)),
)
