"""ResNet-18/34/50/101 as backbones: frames -> pooled features.

Follows arXiv:1512.03385 in its v1.5 variant: a bottleneck strides in its 3x3 convolution, not in the first
1x1. Parameter names are those of paddle.vision.models.resnet*, without the classifier; the layouts of
torchvision and VideoTag are supported too.
Shapes: B frames, I input channels, h and w height and width of a feature map, D = 512 (18, 34) or 2048 (50,
101).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.models.layouts import Layout
from videotag.registry import register_backbone
from videotag.sections import Section

#: Depth -> (number of blocks per stage, whether they are bottlenecks).
_STAGES = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}


class BackboneConfig(Section):
    """A ResNet has no settings; its depth is part of its name."""


class BasicBlock(nn.Layer):
    """Two 3x3 convolutions with a shortcut: (B, I, h, w) -> (B, width, h / stride, w / stride)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(in_channels, width, 3, stride, 1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(width)
        self.conv2 = nn.Conv2D(width, width, 3, 1, 1, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(width)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Residual sum after ReLU: (B, I, h, w) -> (B, width, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x))


class Bottleneck(nn.Layer):
    """1x1, 3x3, 1x1 with a shortcut: (B, I, h, w) -> (B, 4 * width, h / stride, w / stride)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(in_channels, width, 1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(width)
        self.conv2 = nn.Conv2D(width, width, 3, stride, 1, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(width)
        self.conv3 = nn.Conv2D(width, 4 * width, 1, bias_attr=False)
        self.bn3 = nn.BatchNorm2D(4 * width)
        self.downsample = _shortcut(in_channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Residual sum after ReLU: (B, I, h, w) -> (B, 4 * width, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x))


class ResNet(nn.Layer):
    """Frames (B, 3, H, W) -> features (B, D); H and W from 32 pixels.

    Attributes:
        depth: Depth of the network, a key of _STAGES.
        tsn_config: Path of the shipped config of a TSN with this backbone; None if there is none.
    """

    depth: int
    tsn_config: str | None = None

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        blocks, bottleneck = _STAGES[self.depth]
        block = Bottleneck if bottleneck else BasicBlock
        self.conv1 = nn.Conv2D(3, 64, 7, 2, 3, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(64)
        self.maxpool = nn.MaxPool2D(3, 2, 1)
        channels = 64
        for stage, (count, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True)):
            layers: list[nn.Layer] = []
            for index in range(count):
                layers.append(block(channels, width, 2 if stage > 0 and index == 0 else 1))
                channels = width * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.feature_dim = channels

    def forward(self, x: Tensor) -> Tensor:
        """Spatial mean of the last feature map: (B, D), not negative."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, D, H / 32, W / 32)
        return F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, D)

    @classmethod
    def owns(cls, names: Iterable[str]) -> bool:
        """Whether the parameter names of a file, in any known layout, are those of this network."""
        return depth_of(names) == cls.depth

    @classmethod
    def shipped_config(cls) -> str | None:
        """The path of the shipped config of a TSN with this backbone; None if there is none."""
        return cls.tsn_config

    def layouts(self) -> list[Layout]:
        """The layouts of published files, with the classifier as "fc."."""
        names = [*self.state_dict(), "fc.weight", "fc.bias"]
        layouts = [
            Layout("paddle.vision", {name: name for name in names}),
            Layout(
                "torchvision",
                {name: _torch_name(name) for name in names},
                transposed=frozenset({"fc.weight"}),
                ignored=r".*\.num_batches_tracked",
            ),
        ]
        if _STAGES[self.depth][1]:
            layouts.append(Layout("videotag", {name: _videotag_name(name, self.depth) for name in names}))
        return layouts


@register_backbone("resnet18", config=BackboneConfig)
class ResNet18(ResNet):
    """ResNet-18, D = 512."""

    depth = 18


@register_backbone("resnet34", config=BackboneConfig)
class ResNet34(ResNet):
    """ResNet-34, D = 512."""

    depth = 34


@register_backbone("resnet50", config=BackboneConfig)
class ResNet50(ResNet):
    """ResNet-50, D = 2048."""

    depth = 50
    tsn_config = "configs/tsn_resnet50.yaml"


@register_backbone("resnet101", config=BackboneConfig)
class ResNet101(ResNet):
    """ResNet-101, D = 2048: the backbone of VideoTag's TSN."""

    depth = 101
    tsn_config = "configs/tsn.yaml"


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Layer:
    """The identity, or a 1x1 convolution if the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2D(in_channels, out_channels, 1, stride, bias_attr=False), nn.BatchNorm2D(out_channels)
    )


def depth_of(state: Iterable[str]) -> int | None:
    """The depth of the ResNet with these parameter names, in any known layout; None for other names."""
    names = list(state)
    matches = [re.search(r"(?:layer3\.|res4)([a-z]?)(\d*)[._]", name) for name in names]
    # The blocks of a stage are numbered 0, 1, 2; or a, b, c; or a, b1, b2.
    block_numbers = [int(m[2]) if m[2] else ord(m[1]) - ord("a") for m in matches if m and (m[1] or m[2])]
    bottleneck = any(re.search(r"conv3\.weight|branch2c_weights", name) for name in names)
    for depth, (blocks, has_bottlenecks) in _STAGES.items():
        if (max(block_numbers, default=-1) + 1, bottleneck) == (blocks[2], has_bottlenecks):
            return depth
    return None


def _torch_name(name: str) -> str:
    """`layer1.0.bn1._mean` -> `layer1.0.bn1.running_mean`."""
    return name.replace("._mean", ".running_mean").replace("._variance", ".running_var")


def _videotag_name(name: str, depth: int) -> str:
    """`layer3.2.conv1.weight` -> `res4b2_branch2a_weights`, `bn1._mean` -> `bn_conv1_mean`."""
    if name.startswith("fc."):
        return {"fc.weight": "fc_0.w_0", "fc.bias": "fc_0.b_0"}[name]
    layer, _, value = name.rpartition(".")
    value = {"weight": "scale", "bias": "offset", "_mean": "mean", "_variance": "variance"}[value]
    *parts, kind = layer.split(".")
    if not parts:  # the stem
        return "conv1_weights" if kind == "conv1" else f"bn_conv1_{value}"
    stage, block = int(parts[0].removeprefix("layer")) + 1, int(parts[1])
    letter = chr(ord("a") + block)
    if depth == 101 and stage == 4 and block:  # this stage of 23 blocks is numbered
        letter = f"b{block}"
    shortcut = parts[2:] == ["downsample"]  # downsample.0 is its convolution, downsample.1 its norm
    branch = "branch1" if shortcut else f"branch2{chr(ord('a') + int(kind[-1]) - 1)}"
    if kind == "0" or kind.startswith("conv"):
        return f"res{stage}{letter}_{branch}_weights"
    return f"bn{stage}{letter}_{branch}_{value}"
