"""Mixture of experts for every class, over the mean of the features.

The classifier of YouTube-8M, arXiv:1609.08675: for each class, M logistic experts and a softmax gate over
them and one expert that always says no. Differs: its result is the log-odds of the mixed probability, as the
loss and the other taggers expect, computed without leaving the logarithm, so that a sure class stays finite.
Shapes: N videos, T steps, D feature width, C classes, M experts.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.models.sequence import SequenceTagger, masked_mean
from videotag.registry import LOGITS, MASK, register_model
from videotag.sections import Positive, TaggerModel


class MixtureOfExperts(nn.Layer):
    """x (N, D) -> logits (N, C).

    The class is the last axis of all parameters, so that classes can be kept by name in fine-tuning.
    """

    def __init__(self, in_features: int, num_classes: int, num_mixtures: int) -> None:
        super().__init__()
        shape = [in_features, num_classes]
        # Paddle would take the first axis for the fan-in.
        weights = nn.initializer.XavierUniform(fan_in=in_features, fan_out=num_classes)
        self.gates = self.create_parameter([num_mixtures + 1, *shape], default_initializer=weights)
        self.experts = self.create_parameter([num_mixtures, *shape], default_initializer=weights)
        self.bias = self.create_parameter([num_mixtures, 1, num_classes], is_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Log-odds (N, C) of the mixed probability."""
        log_yes, log_no = self.log_probabilities(x)
        return log_yes - log_no

    def log_probabilities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the mixed probability and of its complement, (N, C) each."""
        gates = _products(x, self.gates)  # (M + 1, N, C)
        # Not F.log_softmax, which ends at -64 on a CPU: a sure class would be less sure there.
        gates = gates - paddle.logsumexp(gates, axis=0, keepdim=True)
        experts = _products(x, self.experts) + self.bias  # (M, N, C)
        log_yes = paddle.logsumexp(gates[:-1] + F.log_sigmoid(experts), axis=0)
        no = paddle.concat([gates[:-1] + F.log_sigmoid(-experts), gates[-1:]])  # the last gate is a plain no
        return log_yes, paddle.logsumexp(no, axis=0)


def _products(x: Tensor, weights: Tensor) -> Tensor:
    """x (N, D) times each of M matrices (M, D, C): (M, N, C).

    One after the other: OpenVINO takes no stack of constant matrices.
    """
    return paddle.stack([paddle.matmul(x, weight) for weight in paddle.unbind(weights, axis=0)])


class MoEConfig(TaggerModel):
    """MODEL section of MoE.

    Attributes:
        num_mixtures: M, experts per class besides the one that always says no.
    """

    num_mixtures: Positive = 2


@register_model("MoE", config=MoEConfig, task="multi_label")
class MoE(SequenceTagger):
    """Features and masks of every modality -> logits (N, C)."""

    def __init__(self, config: MoEConfig) -> None:
        super().__init__(config)
        self.names = config.feature_names
        self.output = MixtureOfExperts(sum(config.feature_dims), config.num_classes, config.num_mixtures)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C) of features (N, T, D) and masks (N, T) of every modality."""
        means = [masked_mean(inputs[name], inputs[name + MASK]) for name in self.names]
        return {LOGITS: self.output(paddle.concat(means, axis=-1))}
