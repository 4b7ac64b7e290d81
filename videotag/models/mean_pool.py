"""Mean over time and one layer: what a tagger is worth that cannot see order.

The logistic baseline of YouTube-8M, arXiv:1609.08675. Any number of modalities, concatenated.
Shapes: N videos, T steps, D feature width, C classes.
"""

from __future__ import annotations

import paddle
from paddle import Tensor, nn

from videotag.models.sequence import masked_mean
from videotag.registry import register_model
from videotag.sections import TaggerModel


@register_model("MeanPool", config=TaggerModel, kind="tagger", task="multi_label")
class MeanPool(nn.Layer):
    """Features and masks of every modality -> logits (N, C)."""

    def __init__(self, config: TaggerModel) -> None:
        super().__init__()
        self.names = config.feature_names
        self.output = nn.Linear(sum(config.feature_dims), config.num_classes)

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        """Logits (N, C) of features {modality: (N, T, D)} and masks {modality: (N, T) bool}."""
        means = [masked_mean(features[name], masks[name]) for name in self.names]
        return self.output(paddle.concat(means, axis=-1))
