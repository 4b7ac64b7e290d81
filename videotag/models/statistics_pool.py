"""Statistics of every feature over time, standardized, and optionally hidden layers: a probe for small sets.

Without hidden layers it is a linear probe, which `TRAIN.optimizer: lbfgs` solves to the optimum. Statistics
pooling follows x-vectors (Snyder et al., 2018), which use mean and standard deviation.
Shapes: N videos, T steps, D feature width, P statistics of all modalities, C classes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import paddle
from paddle import Tensor, nn
from pydantic import Field, model_validator

from videotag.models.sequence import (
    SequenceTagger,
    masked_difference,
    masked_max,
    masked_mean,
    masked_std,
)
from videotag.models.standardize import Standardize
from videotag.registry import LOGITS, MASK, register_model
from videotag.sections import MAX_LAYERS, Positive, TaggerModel

_POOLS = {"mean": masked_mean, "std": masked_std, "max": masked_max, "difference": masked_difference}


class StatisticsPoolConfig(TaggerModel):
    """MODEL section of StatisticsPool.

    Attributes:
        statistics: Statistics over the frames: "mean", "std" (standard deviation), "max", and "difference",
            the mean absolute difference of neighboring frames.
        fc_sizes: Widths of the hidden layers before the logits; none by default.
        drop_rate: Dropout probability of every hidden layer.
    """

    statistics: list[Literal["mean", "std", "max", "difference"]] = Field(
        default=["mean", "std"], min_length=1, max_length=len(_POOLS)
    )
    fc_sizes: list[Positive] = Field(default=[], max_length=MAX_LAYERS)
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _standardizes_once(self) -> StatisticsPoolConfig:
        if self.standardize:
            raise ValueError("standardize: StatisticsPool always standardizes its statistics; leave it out")
        return self


@register_model("StatisticsPool", config=StatisticsPoolConfig, task="multi_label")
class StatisticsPool(SequenceTagger):
    """Statistics over time: features and masks of every modality -> logits (N, C)."""

    def __init__(self, config: StatisticsPoolConfig) -> None:
        super().__init__(config)
        self.names = config.feature_names
        self.statistics = config.statistics
        width = sum(config.feature_dims) * len(config.statistics)
        self.standardize = Standardize(width)
        layers: list[nn.Layer] = []
        for size in config.fc_sizes:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(config.drop_rate)]
            width = size
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(width, config.num_classes)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N, C) of features (N, T, D) and masks (N, T) of every modality."""
        pooled = []
        for name in self.names:
            x, mask = inputs[name], inputs[name + MASK]
            pooled += [_POOLS[statistic](x, mask) for statistic in self.statistics]  # (N, D) each
        x = self.standardize(paddle.concat(pooled, axis=-1))  # (N, P)
        for layer in self.hidden:
            x = layer(x)
        return {LOGITS: self.output(x)}
