"""Several networks' logits as one: those of the mean of their probabilities.

One formula for arrays and tensors. It stays in the logarithm, so that a sure class stays finite.
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
    """What the formula needs of an array library.

    Attributes:
        log_sigmoid: log(sigmoid(x)), element by element.
        log_softmax: log(softmax(x)) over the last axis.
        log_mean: The logarithm of the mean of K arrays that are given by their logarithms.
    """

    log_sigmoid: Callable[[Any], Any]
    log_softmax: Callable[[Any], Any]
    log_mean: Callable[[Sequence[Any]], Any]


def mean_logits(logits: Sequence[Any], task: Task, operations: Operations) -> Any:
    """Logits (N, C) of the mean probability p: log(p / (1 - p)), or log(p) of a single-label task.

    Args:
        logits: K arrays (N, C).
        task: Decides how logits become probabilities.
        operations: Those of the arrays' library.
    """
    if task == "single_label":
        return operations.log_mean([operations.log_softmax(x) for x in logits])
    present = operations.log_mean([operations.log_sigmoid(x) for x in logits])
    return present - operations.log_mean([operations.log_sigmoid(-x) for x in logits])


#: Of NumPy; give it float64, whose result is exact to the last bit of float32.
NUMPY = Operations(
    log_sigmoid=lambda x: -np.logaddexp(0, -x),
    log_softmax=lambda x: x - np.logaddexp.reduce(x, axis=-1, keepdims=True),
    log_mean=lambda logs: np.logaddexp.reduce(np.stack(logs)) - np.log(len(logs)),
)
