"""Attention clusters with shifting operation: many weighted means of the frames, independent of their order.

Follows Long et al., CVPR 2018, arXiv:1711.09550, with the two hidden layers that Paddle's YouTube-8M sample
adds on top. Differs: softmax covers only the real steps, of any number; the attention layer has no bias,
which softmax would cancel.
Shapes: N videos, T steps, D feature width, K attention units, C classes.
"""

from __future__ import annotations

import math
from typing import Annotated

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field

from videotag.models.norms import unit_length
from videotag.models.sequence import SequenceTagger, masked_softmax, outputs_of, zero_padding
from videotag.registry import MASK, register_model
from videotag.sections import Positive, TaggerModel


class AttentionClusterConfig(TaggerModel):
    """MODEL section of AttentionCluster.

    Attributes:
        cluster_nums: Number of attention units K; one number, or one per modality.
        drop_rate: Dropout probability of the pooled features.
        fc_sizes: Widths of the two hidden layers before the logits.
    """

    cluster_nums: Positive | list[Positive] = 32
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.5
    fc_sizes: tuple[Positive, Positive] = (1024, 4096)


class ShiftingAttention(nn.Layer):
    """One modality: x (N, T, D), mask (N, T) -> pooled (N, K * D) and attention (N, T, K).

    Each unit scales and shifts its mean by two learned scalars, then normalizes it to length 1 / sqrt(K).
    Units with similar attention can therefore still differ; the paper finds that this makes them diverse.
    """

    def __init__(self, in_features: int, num_units: int) -> None:
        super().__init__()
        self.score = nn.Linear(in_features, num_units, bias_attr=False)
        # With a shift of 0, normalization would cancel the scale, whose gradient would stay 0.
        self.scale = self.create_parameter(
            [num_units, 1], default_initializer=nn.initializer.Normal(1.0, 0.1)
        )
        self.shift = self.create_parameter(
            [num_units, 1], default_initializer=nn.initializer.Normal(0.0, 0.1)
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (N, K * D), and attention weights (N, T, K) that sum to 1 over the real steps."""
        x = zero_padding(x, mask)
        attention = masked_softmax(self.score(x), mask)  # (N, T, K)
        means = paddle.matmul(attention, x, transpose_x=True)  # (N, K, D)
        shifted = unit_length(self.scale * means + self.shift) / math.sqrt(means.shape[1])
        return shifted.flatten(start_axis=1), attention  # (N, K * D), (N, T, K)


@register_model("AttentionCluster", config=AttentionClusterConfig, task="multi_label")
class AttentionCluster(SequenceTagger):
    """Attention clusters: features and masks of every modality -> logits (N, C)."""

    gives_attention = True

    def __init__(self, config: AttentionClusterConfig) -> None:
        super().__init__(config)
        units = config.per_modality("cluster_nums")
        self.pools = nn.LayerDict({m: ShiftingAttention(dim, units[m]) for m, dim in config.dims.items()})
        first, second = config.fc_sizes
        self.dropout = nn.Dropout(config.drop_rate)
        self.fc1 = nn.Linear(sum(dim * units[m] for m, dim in config.dims.items()), first)
        self.fc2 = nn.Linear(first, second)
        self.output = nn.Linear(second, config.num_classes)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C), and per modality the attention weights averaged over units (N, T)."""
        pooled, attention = [], {}
        for name, pool in self.pools.items():
            vector, weights = pool(inputs[name], inputs[name + MASK])
            pooled.append(vector)
            attention[name] = weights.mean(axis=-1)
        x = self.dropout(paddle.concat(pooled, axis=-1))
        x = F.tanh(self.fc2(F.tanh(self.fc1(x))))
        return outputs_of(self.output(x), attention)
