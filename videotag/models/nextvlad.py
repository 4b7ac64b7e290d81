"""NeXtVLAD: VLAD over groups of expanded features with an attention per group, independent of frame order.

Follows arXiv:1811.05014: expansion, groups, sigmoid attention, soft assignment with batch norm, residuals to
centers shared by the groups, intra-normalization, dropout, a hidden layer with batch norm and no ReLU,
squeeze-and-excitation, one logistic layer. Differs: batch norm and pooling use only the real steps; all steps
are used instead of a sample.
Shapes: N videos, T steps, D feature width, L expansion, G groups, F = L * D / G, K centers, H hidden width,
C classes.
"""

from __future__ import annotations

import math
from typing import Annotated

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field

from videotag.errors import ConfigError
from videotag.models.norms import MaskedBatchNorm, unit_length
from videotag.models.sequence import SequenceTagger, outputs_of, zero_padding
from videotag.registry import MASK, register_model
from videotag.sections import Positive, TaggerModel


class NeXtVLADConfig(TaggerModel):
    """MODEL section of NeXtVLAD.

    Attributes:
        expansion: Expansion factor L.
        groups: Number of groups G, a divisor of L * D; one number, or one per modality.
        cluster_size: Number of centers K; one number, or one per modality.
        hidden_size: Hidden width H.
        gating_reduction: Reduction of H in the squeeze-and-excitation.
        drop_rate: Dropout probability of the residuals.
    """

    expansion: Positive = 2
    groups: Positive | list[Positive] = 8
    cluster_size: Positive | list[Positive] = 128
    hidden_size: Positive = 2048
    gating_reduction: Positive = 8
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.5


class GroupedVLAD(nn.Layer):
    """One modality: x (N, T, D), mask (N, T) -> residuals (N, K * F), attention per group (N, T, G)."""

    def __init__(self, in_features: int, *, expansion: int, groups: int, num_clusters: int) -> None:
        super().__init__()
        wide = expansion * in_features
        if wide % groups:
            raise ConfigError(
                f"MODEL.groups: {groups} does not divide expansion * width of the features, {expansion} * "
                f"{in_features} = {wide}; choose a divisor"
            )
        self.groups, self.num_clusters = groups, num_clusters
        self.group_width = wide // groups
        self.expand = nn.Linear(in_features, wide)
        self.attention = nn.Linear(wide, groups)
        self.assign = nn.Linear(wide, groups * num_clusters, bias_attr=False)  # the norm's shift is its bias
        self.assign_norm = MaskedBatchNorm(groups * num_clusters)
        normal = nn.initializer.Normal(0.0, 1 / math.sqrt(self.group_width))
        self.centers = self.create_parameter([num_clusters, self.group_width], default_initializer=normal)
        self.norm = nn.BatchNorm1D(num_clusters * self.group_width)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals (N, K * F), and attention (N, T, G) in [0, 1], which is 0 on padded steps."""
        x = self.expand(zero_padding(x, mask))  # (N, T, L * D)
        attention = zero_padding(F.sigmoid(self.attention(x)), mask)  # (N, T, G)
        steps = x.shape[1] * self.groups
        weights = self.assign_norm(self.assign(x), mask).reshape([-1, steps, self.num_clusters])
        weights = F.softmax(weights, axis=-1) * attention.reshape([-1, steps, 1])  # (N, T * G, K)
        x = x.reshape([-1, steps, self.group_width])  # (N, T * G, F)
        residuals = paddle.matmul(weights, x, transpose_x=True)  # (N, K, F)
        residuals = residuals - weights.sum(axis=1).unsqueeze(-1) * self.centers
        return self.norm(unit_length(residuals).flatten(start_axis=1)), attention


class SqueezeExcitation(nn.Layer):
    """x (N, H) -> x * gate (N, H), with a bottleneck of width H / reduction."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        narrow = max(1, width // reduction)
        self.squeeze = nn.Linear(width, narrow, bias_attr=False)
        self.norm = nn.BatchNorm1D(narrow)
        self.excite = nn.Linear(narrow, width)

    def forward(self, x: Tensor) -> Tensor:
        """x * sigmoid(excite(relu(norm(squeeze(x))))): (N, H)."""
        return x * F.sigmoid(self.excite(F.relu(self.norm(self.squeeze(x)))))


@register_model("NeXtVLAD", config=NeXtVLADConfig, task="multi_label")
class NeXtVLAD(SequenceTagger):
    """NeXtVLAD: features and masks of every modality -> logits (N, C)."""

    gives_attention = True

    def __init__(self, config: NeXtVLADConfig) -> None:
        super().__init__(config)
        groups, clusters = config.per_modality("groups"), config.per_modality("cluster_size")
        pools = {
            m: GroupedVLAD(dim, expansion=config.expansion, groups=groups[m], num_clusters=clusters[m])
            for m, dim in config.dims.items()
        }
        self.pools = nn.LayerDict(pools)
        self.dropout = nn.Dropout(config.drop_rate)
        width = sum(pool.num_clusters * pool.group_width for pool in pools.values())
        self.hidden = nn.Linear(width, config.hidden_size, bias_attr=False)
        self.hidden_norm = nn.BatchNorm1D(config.hidden_size)
        self.gating = SqueezeExcitation(config.hidden_size, config.gating_reduction)
        self.output = nn.Linear(config.hidden_size, config.num_classes)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C), and per modality the attention (N, T), summed over groups; its steps sum to 1."""
        pooled, shares = [], {}
        for name, pool in self.pools.items():
            residuals, attention = pool(inputs[name], inputs[name + MASK])
            pooled.append(residuals)
            total = attention.sum(axis=-1)  # (N, T)
            shares[name] = total / total.sum(axis=1, keepdim=True).clip(min=1e-30)
        x = self.dropout(paddle.concat(pooled, axis=-1))
        x = self.gating(self.hidden_norm(self.hidden(x)))  # (N, H)
        return outputs_of(self.output(x), shares)
