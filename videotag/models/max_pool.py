"""Maximum over time and one layer: what a single frame gives away.

As MeanPool, with the maximum of every feature in place of its mean. Any number of modalities, concatenated.
Shapes: N videos, T steps, D feature width, C classes.
"""

from __future__ import annotations

import paddle
from paddle import Tensor, nn

from videotag.models.sequence import masked_max
from videotag.registry import register_model
from videotag.sections import TaggerModel


@register_model("MaxPool", config=TaggerModel, kind="tagger", task="multi_label")
class MaxPool(nn.Layer):
    """Features and masks of every modality -> logits (N, C)."""

    def __init__(self, config: TaggerModel) -> None:
        super().__init__()
        self.names = config.feature_names
        self.output = nn.Linear(sum(config.feature_dims), config.num_classes)

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        """Logits (N, C) of features {modality: (N, T, D)} and masks {modality: (N, T) bool}."""
        largest = [masked_max(features[name], masks[name]) for name in self.names]
        return self.output(paddle.concat(largest, axis=-1))
