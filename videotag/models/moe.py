"""Mixture of experts per class on mean-pooled features.

The classifier of YouTube-8M, arXiv:1609.08675: each class has M logistic experts and a softmax gate over
them and a dummy expert that always predicts 0. Differs: returns the log-odds of the mixed probability, as the
losses and the other taggers do, computed in log space, so that they stay finite for confident predictions.
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

    Classes are the last axis of every parameter, so that fine-tuning can keep classes by name.
    """

    def __init__(self, in_features: int, num_classes: int, num_mixtures: int) -> None:
        super().__init__()
        shape = [in_features, num_classes]
        # Paddle would infer the fan-in from the first axis.
        weights = nn.initializer.XavierUniform(fan_in=in_features, fan_out=num_classes)
        self.gates = self.create_parameter([num_mixtures + 1, *shape], default_initializer=weights)
        self.experts = self.create_parameter([num_mixtures, *shape], default_initializer=weights)
        self.bias = self.create_parameter([num_mixtures, 1, num_classes], is_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Log-odds (N, C) of the mixed probability."""
        log_yes, log_no = self.log_probabilities(x)
        return log_yes - log_no

    def log_probabilities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the mixed probability and of its complement, (N, C) each, for x (N, D)."""
        gates = _products(x, self.gates)  # (M + 1, N, C)
        # Not F.log_softmax: on a CPU it clips at -64, which caps the confidence.
        gates = gates - paddle.logsumexp(gates, axis=0, keepdim=True)
        experts = _products(x, self.experts) + self.bias  # (M, N, C)
        log_yes = paddle.logsumexp(gates[:-1] + F.log_sigmoid(experts), axis=0)
        no = paddle.concat([gates[:-1] + F.log_sigmoid(-experts), gates[-1:]])  # last gate: the dummy expert
        return log_yes, paddle.logsumexp(no, axis=0)


def _products(x: Tensor, weights: Tensor) -> Tensor:
    """Products (M, N, C) of x (N, D) and each of M matrices (M, D, C).

    They are computed one by one, because OpenVINO does not support a stack of constant matrices.
    """
    return paddle.stack([paddle.matmul(x, weight) for weight in paddle.unbind(weights, axis=0)])


class MoEConfig(TaggerModel):
    """MODEL section of MoE.

    Attributes:
        num_mixtures: Number of experts M per class, without the dummy expert.
    """

    num_mixtures: Positive = 2


@register_model("MoE", config=MoEConfig, task="multi_label")
class MoE(SequenceTagger):
    """Mixture of experts: features and masks of every modality -> logits (N, C)."""

    def __init__(self, config: MoEConfig) -> None:
        super().__init__(config)
        self.names = config.feature_names
        self.output = MixtureOfExperts(sum(config.feature_dims), config.num_classes, config.num_mixtures)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C) of features (N, T, D) and masks (N, T) of every modality."""
        means = [masked_mean(inputs[name], inputs[name + MASK]) for name in self.names]
        return {LOGITS: self.output(paddle.concat(means, axis=-1))}
