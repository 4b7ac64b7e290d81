"""Bidirectional LSTM with attention pooling for multi-label video tagging.

Follows VideoTag's AttentionLSTM (a PaddlePaddle sample, 2019; the LSTM part after arXiv:1503.08909). Differs:
  - a standard LSTM without peepholes;
  - any number of modalities, each with its own layers, concatenated after pooling;
  - softmax over real steps only, with the maximum subtracted;
  - dropout is scaled while training, so prediction uses the weights as they are;
  - the widths of the two hidden layers are settings; the output bias may start at the class prior.
Shapes: N videos, T steps, D feature width, E embedding, H LSTM width per direction, C classes.
"""

from __future__ import annotations

import math
from typing import Annotated

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field

from videotag.config import Positive, TaggerModel
from videotag.models.sequence import BiLSTM, masked_softmax
from videotag.registry import register_model


class AttentionLSTMConfig(TaggerModel):
    """MODEL section of AttentionLSTM.

    Attributes:
        drop_rate: dropout on the LSTM's output.
        embedding_size: E.
        lstm_size: H.
        fc_sizes: widths of the two hidden layers before the logits.
        class_prior: the share of videos that carry a given tag; the output bias starts at its logit
            (at zero if not given), which saves the epochs that only learn that tags are rare.
        bone_network: stands in VideoTag's files without a use; only None.
    """

    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.5
    embedding_size: Positive = 1024
    lstm_size: Positive = 512
    fc_sizes: tuple[Positive, Positive] = (8192, 4096)
    class_prior: Annotated[float, Field(gt=0, lt=1)] | None = None
    bone_network: None = None


class AttentionPool(nn.Layer):
    """One modality: x (N, T, D), mask (N, T) -> pooled (N, 2H) and attention (N, T)."""

    def __init__(self, in_features: int, config: AttentionLSTMConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(in_features, config.embedding_size)
        self.lstm = BiLSTM(config.embedding_size, config.lstm_size)
        self.dropout = nn.Dropout(config.drop_rate)
        # No bias: softmax over time would cancel it, and it could never learn.
        self.score = nn.Linear(2 * config.lstm_size, 1, bias_attr=False)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled states (N, 2H) and the weight of every step (N, T), which sum to 1 over real steps."""
        states = self.dropout(self.lstm(F.tanh(self.embed(x)), mask))  # (N, T, 2H)
        attention = masked_softmax(self.score(states).squeeze(-1), mask)  # (N, T)
        return (attention.unsqueeze(-1) * states).sum(axis=1), attention  # (N, 2H), (N, T)


@register_model("AttentionLSTM", config=AttentionLSTMConfig, kind="tagger", task="multi_label")
class AttentionLSTM(nn.Layer):
    """Features and masks of every modality -> logits (N, C)."""

    def __init__(self, config: AttentionLSTMConfig) -> None:
        super().__init__()
        self.pools = nn.LayerDict({name: AttentionPool(dim, config) for name, dim in config.dims.items()})
        first, second = config.fc_sizes
        self.fc1 = nn.Linear(2 * config.lstm_size * len(self.pools), first)
        self.fc2 = nn.Linear(first, second)
        prior = config.class_prior
        bias = 0.0 if prior is None else math.log(prior / (1 - prior))
        self.output = nn.Linear(second, config.num_classes, bias_attr=nn.initializer.Constant(bias))

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        """Logits (N, C) of features {modality: (N, T, D)} and masks {modality: (N, T) bool}."""
        return self.attend(features, masks)[0]

    def attend(
        self, features: dict[str, Tensor], masks: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (N, C), and per modality the weight of every step (N, T)."""
        pooled, attention = [], {}
        for name, pool in self.pools.items():
            vector, attention[name] = pool(features[name], masks[name])
            pooled.append(vector)
        x = paddle.concat(pooled, axis=-1)  # (N, 2H * modalities)
        x = F.tanh(self.fc2(F.relu(self.fc1(x))))
        return self.output(x), attention
