"""EfficientNet-Lite0 as a backbone: frames -> pooled features.

EfficientNet (arXiv:1905.11946) in its Lite form: ReLU6 instead of swish, no squeeze-and-excite, stem and head
of fixed width. Trained on inputs (x - 127) / 128. Padding is TensorFlow's "same", which pads an even input of
a strided convolution on the right and bottom only; published weights depend on it.
Shapes: B frames, D = 1280.
"""

from __future__ import annotations

import re

import numpy as np
import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.config import Section
from videotag.registry import register_model

#: repeats, output channels, kernel, stride of the first, expansion
_STAGES = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
)
_BN_EPSILON = 1e-3


class EfficientNetLite0Config(Section):
    """EfficientNet-Lite0 has no settings."""


class ConvNorm(nn.Layer):
    """Convolution and batch norm, then ReLU6 unless `activate` is False."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels, out_channels, kernel, stride, padding="SAME", groups=groups, bias_attr=False
        )
        self.norm = nn.BatchNorm2D(out_channels, epsilon=_BN_EPSILON)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, h, w) -> (B, O, ceil(h / stride), ceil(w / stride))."""
        x = self.norm(self.conv(x))
        return F.relu6(x) if self.activate else x


class InvertedResidual(nn.Layer):
    """Widen, depthwise convolution, narrow; a sum with the input where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self.expand = ConvNorm(in_channels, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(width, width, kernel, stride=stride, groups=width)
        self.project = ConvNorm(width, out_channels, 1, activate=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, h, w) -> (B, O, ceil(h / stride), ceil(w / stride))."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


@register_model("efficientnet_lite0", config=EfficientNetLite0Config, kind="backbone", task="single_label")
class EfficientNetLite0(nn.Layer):
    """Frames (B, 3, H, W) -> features (B, 1280); H and W from 32 pixels."""

    feature_dim = 1280

    def __init__(self, config: EfficientNetLite0Config) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, stride=2)
        blocks, channels = [], 32
        for repeats, width, kernel, stride, expansion in _STAGES:
            for index in range(repeats):
                blocks.append(
                    InvertedResidual(channels, width, kernel, stride if index == 0 else 1, expansion)
                )
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(channels, self.feature_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Average over the last map: (B, 1280), in 0..6."""
        x = self.head(self.blocks(self.stem(x)))  # (B, 1280, H / 32, W / 32)
        return F.adaptive_avg_pool2d(x, 1).flatten(1)

    @staticmethod
    def adapt_state(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weights in the published PyTorch layout under this file's names; others are returned as they are.

        The classifier comes out as fc.weight (1280, C), transposed for Paddle, and fc.bias (C,).
        """
        if "_conv_stem.weight" not in state:
            return state
        adapted = {}
        for name, value in state.items():
            if name.endswith("num_batches_tracked"):
                continue
            adapted[_own_name(name)] = value.T if name == "_fc.weight" else value
        return adapted


#: Published layer name -> ours; a block's norms are numbered, and only its place tells which they are.
_LAYER_NAMES = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "fc",
}
_BLOCK_LAYER_NAMES = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_VALUE_NAMES = {"running_mean": "_mean", "running_var": "_variance"}


def _own_name(published: str) -> str:
    """`_blocks.3._bn1.running_mean` -> `blocks.3.depthwise.norm._mean`."""
    layer, _, value = published.rpartition(".")
    value = _VALUE_NAMES.get(value, value)
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", layer)
    if block:
        return f"blocks.{block[1]}.{_BLOCK_LAYER_NAMES.get(block[2], block[2])}.{value}"
    return f"{_LAYER_NAMES.get(layer, layer)}.{value}"
