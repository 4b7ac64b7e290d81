"""EfficientNet-Lite0 and Lite2 as backbones: frames -> pooled features.

The Lite variant of EfficientNet (arXiv:1905.11946): ReLU6 instead of swish, no squeeze-and-excitation, stem
and head of fixed width. Trained on inputs (x - 127) / 128. Uses TensorFlow's "same" padding, which pads an
even input of a strided convolution only on the right and bottom; published weights depend on it.
Shapes: B frames, I and O input and output channels, h and w height and width of a feature map, D = 1280.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.models.layouts import Layout
from videotag.registry import register_backbone
from videotag.sections import Section

#: Per stage: number of blocks, output channels, kernel size, stride of the first block, expansion factor.
_LITE0 = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
)
#: Lite0 with 1.1 times the channels, in multiples of 8, and 1.2 times the blocks of all but the outer stages.
_LITE2 = (
    (1, 16, 3, 1, 1),
    (3, 24, 3, 2, 6),
    (3, 48, 5, 2, 6),
    (4, 88, 3, 2, 6),
    (4, 120, 5, 1, 6),
    (5, 208, 5, 2, 6),
    (1, 352, 3, 1, 6),
)
_BLOCK = re.compile(r"blocks\.(\d+)\.")
_BN_EPSILON = 1e-3


class EfficientNetLiteConfig(Section):
    """EfficientNet-Lite has no settings; its size is part of its name."""


class ConvNorm(nn.Layer):
    """Convolution and batch norm, followed by ReLU6 unless `activate` is False."""

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
    """Expansion, depthwise convolution, projection; plus the input if the shapes agree."""

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


class EfficientNetLite(nn.Layer):
    """Frames (B, 3, H, W) -> features (B, 1280); H and W from 32 pixels.

    Attributes:
        stages: See _LITE0.
        tsn_config: Path of the shipped config of a TSN with this backbone.
    """

    feature_dim = 1280
    stages: ClassVar[tuple[tuple[int, int, int, int, int], ...]]
    tsn_config: ClassVar[str]

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, stride=2)
        blocks, channels = [], 32
        for repeats, width, kernel, stride, expansion in self.stages:
            for index in range(repeats):
                blocks.append(
                    InvertedResidual(channels, width, kernel, stride if index == 0 else 1, expansion)
                )
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(channels, self.feature_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Spatial mean of the last feature map: (B, 1280), in [0, 6]."""
        x = self.head(self.blocks(self.stem(x)))  # (B, 1280, H / 32, W / 32)
        return F.adaptive_avg_pool2d(x, 1).flatten(1)

    @classmethod
    def owns(cls, names: Iterable[str]) -> bool:
        """Whether the parameter names of a file, in any known layout, are those of this network."""
        names = list(names)
        is_lite = any(name.endswith(("_conv_stem.weight", "stem.conv.weight")) for name in names)
        blocks = {found[1] for name in names if (found := _BLOCK.search(name))}
        return is_lite and len(blocks) == sum(repeats for repeats, *_ in cls.stages)

    @classmethod
    def shipped_config(cls) -> str | None:
        """Path of the shipped config of a TSN with this backbone; None if there is none."""
        return cls.tsn_config

    def layouts(self) -> list[Layout]:
        """The published PyTorch layout, with its classifier as "fc."."""
        names = {name: _published_name(name) for name in [*self.state_dict(), "fc.weight", "fc.bias"]}
        transposed = frozenset({"fc.weight"})
        return [
            Layout(
                "efficientnet_lite_pytorch",
                names,
                transposed=transposed,
                ignored=r".*\.num_batches_tracked",
            )
        ]


@register_backbone("efficientnet_lite0", config=EfficientNetLiteConfig)
class EfficientNetLite0(EfficientNetLite):
    """EfficientNet-Lite0, trained on frames of 224 pixels."""

    stages = _LITE0
    tsn_config = "configs/tsn_efficientnet_lite0.yaml"


@register_backbone("efficientnet_lite2", config=EfficientNetLiteConfig)
class EfficientNetLite2(EfficientNetLite):
    """EfficientNet-Lite2, trained on frames of 260 pixels."""

    stages = _LITE2
    tsn_config = "configs/tsn_efficientnet_lite2.yaml"


#: Our layer name -> published one. Published norms are numbered in the order of the block's layers.
_LAYER_NAMES = {
    "stem.conv": "_conv_stem",
    "stem.norm": "_bn0",
    "head.conv": "_conv_head",
    "head.norm": "_bn1",
    "expand.conv": "_expand_conv",
    "expand.norm": "_bn0",
    "depthwise.conv": "_depthwise_conv",
    "depthwise.norm": "_bn1",
    "project.conv": "_project_conv",
    "project.norm": "_bn2",
    "fc": "_fc",
}
_VALUE_NAMES = {"_mean": "running_mean", "_variance": "running_var"}


def _published_name(name: str) -> str:
    """`blocks.3.depthwise.norm._mean` -> `_blocks.3._bn1.running_mean`."""
    layer, _, value = name.rpartition(".")
    value = _VALUE_NAMES.get(value, value)
    if layer.startswith("blocks."):
        _, block, layer = layer.split(".", 2)
        return f"_blocks.{block}.{_LAYER_NAMES[layer]}.{value}"
    return f"{_LAYER_NAMES[layer]}.{value}"
