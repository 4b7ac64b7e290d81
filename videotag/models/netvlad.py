"""NetVLAD and gated NetVLAD: soft-assigned residuals to learned cluster centers, independent of frame order.

Follows WILLOW's tagger, arXiv:1706.06905: batch norm of the features, soft assignment with batch norm,
residuals to the centers, intra-normalization, one hidden layer, mixture of experts; optionally with context
gating of the hidden layer and of the probabilities. Differs: batch norm and assignment use only the real
steps; all steps are used instead of a sample; returns log-odds, like every tagger.
Shapes: N videos, T steps, D feature width, K centers, H hidden width, C classes.
"""

from __future__ import annotations

import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.models.moe import MixtureOfExperts
from videotag.models.norms import MaskedBatchNorm, unit_length
from videotag.models.sequence import SequenceTagger, zero_padding
from videotag.registry import LOGITS, MASK, register_model
from videotag.sections import Positive, TaggerModel


class NetVLADConfig(TaggerModel):
    """MODEL section of NetVLAD.

    Attributes:
        cluster_size: Number of centers K; one number, or one per modality.
        hidden_size: Hidden width H.
        num_mixtures: Number of experts per class.
        context_gating: Whether the hidden layer is gated (gated NetVLAD).
        class_gating: Whether each probability is gated by those of all classes; adds C * C weights.
    """

    cluster_size: Positive | list[Positive] = 256
    hidden_size: Positive = 1024
    num_mixtures: Positive = 2
    context_gating: bool = False
    class_gating: bool = False


class VLAD(nn.Layer):
    """One modality: x (N, T, D), mask (N, T) -> residuals to the centers (N, D * K), of unit length."""

    def __init__(self, in_features: int, num_clusters: int) -> None:
        super().__init__()
        self.input_norm = MaskedBatchNorm(in_features)
        self.assign = nn.Linear(in_features, num_clusters, bias_attr=False)  # the norm's shift is its bias
        self.assign_norm = MaskedBatchNorm(num_clusters)
        normal = nn.initializer.Normal(0.0, 1 / math.sqrt(in_features))
        self.centers = self.create_parameter([in_features, num_clusters], default_initializer=normal)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Residuals (N, D * K) of x (N, T, D) and mask (N, T); zeros for a row without real steps."""
        x = self.input_norm(zero_padding(x, mask), mask)
        weights = F.softmax(self.assign_norm(self.assign(x), mask), axis=-1)  # (N, T, K)
        weights = zero_padding(weights, mask)
        # Sum over steps of weight * (x - center), without allocating (N, T, D, K).
        residuals = paddle.matmul(x, weights, transpose_x=True)  # (N, D, K)
        residuals = residuals - weights.sum(axis=1, keepdim=True) * self.centers
        return unit_length(unit_length(residuals, axis=1).flatten(start_axis=1))  # (N, D * K)


class ContextGating(nn.Layer):
    """x (N, H) -> x * gate (N, H), where the gate depends on all features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width, bias_attr=False)
        self.norm = nn.BatchNorm1D(width)

    def forward(self, x: Tensor) -> Tensor:
        """x * sigmoid(norm(fc(x))): (N, H)."""
        return x * F.sigmoid(self.norm(self.fc(x)))


class GatedMixtureOfExperts(MixtureOfExperts):
    """Mixture of experts with context gating of its probabilities (N, C): p * sigmoid(norm(p @ gate))."""

    def __init__(self, in_features: int, num_classes: int, num_mixtures: int) -> None:
        super().__init__(in_features, num_classes, num_mixtures)
        self.gate = nn.Linear(num_classes, num_classes, bias_attr=False)
        self.gate_norm = nn.BatchNorm1D(num_classes)

    def log_probabilities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the gated probability and of its complement, (N, C) each."""
        log_yes, log_no = super().log_probabilities(x)
        gate = self.gate_norm(self.gate(log_yes.exp()))
        # 1 - p * g = (1 - p) + p * (1 - g), which stays precise where p and g are near 1.
        log_no = paddle.logaddexp(log_no, log_yes + F.log_sigmoid(-gate))
        return log_yes + F.log_sigmoid(gate), log_no


@register_model("NetVLAD", config=NetVLADConfig, task="multi_label")
class NetVLAD(SequenceTagger):
    """NetVLAD: features and masks of every modality -> logits (N, C)."""

    def __init__(self, config: NetVLADConfig) -> None:
        super().__init__(config)
        clusters = config.per_modality("cluster_size")
        self.pools = nn.LayerDict({m: VLAD(dim, clusters[m]) for m, dim in config.dims.items()})
        width = sum(dim * clusters[m] for m, dim in config.dims.items())
        self.hidden = nn.Linear(width, config.hidden_size, bias_attr=False)
        self.hidden_norm = nn.BatchNorm1D(config.hidden_size)
        self.gating = ContextGating(config.hidden_size) if config.context_gating else None
        head = GatedMixtureOfExperts if config.class_gating else MixtureOfExperts
        self.output = head(config.hidden_size, config.num_classes, config.num_mixtures)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C) of features (N, T, D) and masks (N, T) of every modality."""
        pooled = [pool(inputs[name], inputs[name + MASK]) for name, pool in self.pools.items()]
        x = self.hidden_norm(self.hidden(paddle.concat(pooled, axis=-1)))  # (N, H)
        if self.gating is not None:
            x = self.gating(x)
        return {LOGITS: self.output(x)}
