"""An ensemble of Paddle models that averages their probabilities.

Shapes: N samples, C classes, K networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from videotag.system.quiet_paddle import paddle

import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.inference.mean_logits import Operations, mean_logits
from videotag.registry import LOGITS, Task

_PADDLE = Operations(
    log_sigmoid=F.log_sigmoid,
    log_softmax=F.log_softmax,
    log_mean=lambda logs: paddle.logsumexp(paddle.stack(logs), axis=0) - math.log(len(logs)),
)


class Ensemble(nn.Layer):
    """A model over named tensors that averages the probabilities of K models.

    Args:
        models: K >= 1 models with the same inputs and classes.
        task: Task of the models; selects sigmoid or softmax.
        temperature: Positive divisor of each model's logits.
    """

    def __init__(self, models: Sequence[nn.Layer], task: Task, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.models = nn.LayerList(models)
        self.inputs, self.outputs = models[0].inputs, (LOGITS,)
        self._task = task
        self._temperature = temperature

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """LOGITS (N, C) float32 of the mean probabilities; see mean_logits.

        Args:
            inputs: Tensors by name, as the models declare them.
        """
        logits = [model(inputs)[LOGITS].astype("float32") / self._temperature for model in self.models]
        return {LOGITS: mean_logits(logits, self._task, _PADDLE)}
