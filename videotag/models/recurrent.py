"""Bidirectional LSTM and GRU taggers: stacked recurrent layers, pooled by last state or mean.

Follows the LSTM and GRU baselines of YouTube-8M (arXiv:1609.08675; two layers in arXiv:1706.06905). Differs:
bidirectional; one network per modality, concatenated after pooling.
Shapes: N videos, T steps, D feature width, H width per direction, C classes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import paddle
from paddle import Tensor, nn
from pydantic import Field

from videotag.models.sequence import (
    SequenceTagger,
    both_directions,
    last_step,
    masked_mean,
    zero_padding,
)
from videotag.registry import LOGITS, MASK, register_model
from videotag.sections import NumLayers, Positive, TaggerModel


class RecurrentConfig(TaggerModel):
    """MODEL section of BiLSTM and BiGRU.

    Attributes:
        hidden_size: Width H per direction.
        num_layers: Number of stacked recurrent layers.
        pooling: "last" takes the final state of each direction (the last step forward, the first step
            backward); "mean" averages over all steps.
        drop_rate: Dropout probability between the layers and before the logits.
    """

    hidden_size: Positive = 512
    num_layers: NumLayers = 2
    pooling: Literal["last", "mean"] = "last"
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Bidirectional(nn.Layer):
    """One bidirectional recurrent layer: x (N, T, D), mask (N, T) -> (N, T, 2H)."""

    def __init__(self, cell: type[nn.Layer], in_features: int, hidden_size: int) -> None:
        super().__init__()
        self.ahead, self.behind = cell(in_features, hidden_size), cell(in_features, hidden_size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """States of both directions, concatenated and aligned with the input: (N, T, 2H)."""
        return paddle.concat(both_directions(self.ahead, self.behind, x, mask), axis=-1)


class RecurrentPool(nn.Layer):
    """One modality: x (N, T, D), mask (N, T) -> pooled (N, 2H)."""

    def __init__(self, cell: type[nn.Layer], in_features: int, config: RecurrentConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        widths = [in_features] + [2 * hidden] * (config.num_layers - 1)
        self.layers = nn.LayerList([Bidirectional(cell, width, hidden) for width in widths])
        self.dropout = nn.Dropout(config.drop_rate)
        self.pooling = config.pooling

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Pooled states (N, 2H); zeros for a row without real steps."""
        states = zero_padding(x, mask)
        for layer in self.layers:
            states = self.dropout(layer(states, mask))  # (N, T, 2H)
        if self.pooling == "mean":
            return masked_mean(states, mask)
        ahead, behind = states.chunk(2, axis=-1)  # (N, T, H) each
        ends = [last_step(ahead, mask), zero_padding(behind, mask)[:, 0]]  # (N, H) each
        return paddle.concat(ends, axis=-1)


class _Recurrent(SequenceTagger):
    """Features and masks of every modality -> logits (N, C)."""

    cell: type[nn.Layer]

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.pools = nn.LayerDict(
            {m: RecurrentPool(self.cell, dim, config) for m, dim in config.dims.items()}
        )
        self.output = nn.Linear(2 * config.hidden_size * len(self.pools), config.num_classes)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C) of features (N, T, D) and masks (N, T) of every modality."""
        pooled = [pool(inputs[name], inputs[name + MASK]) for name, pool in self.pools.items()]
        return {LOGITS: self.output(paddle.concat(pooled, axis=-1))}


@register_model("BiLSTM", config=RecurrentConfig, task="multi_label")
class BiLSTMTagger(_Recurrent):
    """Bidirectional LSTM: features and masks of every modality -> logits (N, C)."""

    cell = nn.LSTM


@register_model("BiGRU", config=RecurrentConfig, task="multi_label")
class BiGRUTagger(_Recurrent):
    """Bidirectional GRU: features and masks of every modality -> logits (N, C)."""

    cell = nn.GRU
