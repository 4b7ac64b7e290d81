"""Max pooling over time and one linear layer: tags that a single frame reveals.

Like MeanPool, but with the maximum of every feature instead of its mean. Modalities are concatenated.
Shapes: N videos, T steps, D feature width, C classes.
"""

from __future__ import annotations

import paddle
from paddle import Tensor, nn

from videotag.models.sequence import SequenceTagger, masked_max
from videotag.registry import LOGITS, MASK, register_model
from videotag.sections import TaggerModel


@register_model("MaxPool", config=TaggerModel, task="multi_label")
class MaxPool(SequenceTagger):
    """Maximum over time: features and masks of every modality -> logits (N, C)."""

    def __init__(self, config: TaggerModel) -> None:
        super().__init__(config)
        self.names = config.feature_names
        self.output = nn.Linear(sum(config.feature_dims), config.num_classes)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C) of features (N, T, D) and masks (N, T) of every modality."""
        largest = [masked_max(inputs[name], inputs[name + MASK]) for name in self.names]
        return {LOGITS: self.output(paddle.concat(largest, axis=-1))}
