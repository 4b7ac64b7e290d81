"""Mean pooling over time and one linear layer: a baseline that is independent of the frames' order.

The logistic baseline of YouTube-8M, arXiv:1609.08675. Modalities are concatenated.
Shapes: N videos, T steps, D feature width, C classes.
"""

from __future__ import annotations

import paddle
from paddle import Tensor, nn

from videotag.models.sequence import SequenceTagger, masked_mean
from videotag.registry import LOGITS, MASK, register_model
from videotag.sections import TaggerModel


@register_model("MeanPool", config=TaggerModel, task="multi_label")
class MeanPool(SequenceTagger):
    """Mean over time: features and masks of every modality -> logits (N, C)."""

    def __init__(self, config: TaggerModel) -> None:
        super().__init__(config)
        self.names = config.feature_names
        self.output = nn.Linear(sum(config.feature_dims), config.num_classes)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C) of features (N, T, D) and masks (N, T) of every modality."""
        means = [masked_mean(inputs[name], inputs[name + MASK]) for name in self.names]
        return {LOGITS: self.output(paddle.concat(means, axis=-1))}
